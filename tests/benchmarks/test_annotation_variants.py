"""Annotations as people have saved them again: genders of any spelling, cells as arrays, people without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_datasets import Sequential, agora_table, make_3dpw, write_bodies, write_picture, write_spin_npz

from posegen.benchmarks.measure.agora_matching import match
from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.protocol import build
from posegen.benchmarks.readers.agora import AgoraPicture
from posegen.benchmarks.readers.frames import FrameRecord
from posegen.benchmarks.readers.human36m import _in_video
from posegen.benchmarks.readers.truth import gender_word
from posegen.errors import DataError


@pytest.mark.parametrize(
    ("value", "word"),
    [(b"m", "male"), ("F", "female"), ("FEMALE", "female"), ("Male", "male"), (np.bytes_(b"f"), "female"),
     (np.array("neutral"), "neutral"), (np.array([b"M"]), "male"), (" n ", "neutral")],
)  # fmt: skip
def test_a_gender_is_a_letter_or_a_word_of_any_case(value, word):
    assert gender_word(value, "x.pkl") == word


def test_other_words_are_no_gender():
    with pytest.raises(DataError, match="unknown gender '2' in the annotations"):
        gender_word(2, "x.pkl")


def test_3dpw_with_bytes_and_capitals_gives_the_same_meshes(tmp_path):
    bodies = write_bodies(tmp_path / "smpl")
    truth = make_3dpw(tmp_path, bodies, corrupt=lambda data: data.update(genders=[b"M", "Female"]))
    benchmark = build("3dpw", annotations=tmp_path, body_path=bodies)
    assert evaluate(Sequential(truth, "h36m17"), benchmark).metrics["mpjpe_mm"] == pytest.approx(0, abs=1e-2)


def row(**changes) -> dict:
    return {key: column[0] for key, column in agora_table().items()} | changes


def test_agora_cells_may_be_arrays():
    plain = AgoraPicture(row(), Path("t.pkl"))
    again = row()
    arrays = {key: np.array(again[key]) for key in ("kid", "isValid", "occlusion", "gt_joints_2d", "gt_joints_3d")}
    picture = AgoraPicture(again | arrays | {"gt_verts": np.stack(again["gt_verts"])}, Path("t.pkl"))
    assert picture.valid.tolist() == plain.valid.tolist() == [True, False, True]
    assert picture.kids.tolist() == [False, False, True]
    assert all((a == b).all() for a, b in zip(picture.vertices, plain.vertices, strict=True))


def test_agora_people_who_do_not_count_may_have_no_joints():
    table = row()
    table["gt_joints_3d"][1] = table["gt_joints_2d"][1] = table["gt_verts"][1] = None
    picture = AgoraPicture(table, Path("t.pkl"))
    assert picture.people == [0, 2] and picture.valid.tolist() == [True, True]
    assert len(picture.joints) == len(picture.points_2d) == len(picture.vertices) == 2
    matching = match([picture.points_2d[1]], picture.points_2d, picture.valid.tolist())
    assert matching.pairs == ((0, 1),) and matching.misses == (0,)
    table["gt_joints_3d"][0] = None
    with pytest.raises(DataError, match="a person's joints: a NoneType instead of numbers"):
        AgoraPicture(table, Path("t.pkl"))


def test_poses_after_the_end_of_a_video_are_counted_apart(tmp_path):
    def records(pictures: int) -> list[FrameRecord]:
        files = [tmp_path / f"{pictures}" / f"{i}.jpg" for i in range(100)]
        for file in files[:pictures]:
            write_picture(file, (8, 8))
        return [FrameRecord(str(i), str(file), (4, 4), 0.1, "g", i) for i, file in enumerate(files)]

    assert _in_video(records(94)) == 94 and _in_video(records(100)) == 100
    assert _in_video(records(60)) == 100  # these pictures are missing
    assert _in_video(records(0)) == 100


def test_the_first_video_may_lack_its_pictures(tmp_path):
    """Twenty of 2,500 rows: below the share that is allowed, wherever they stand."""
    write_picture(tmp_path / "im" / "x_1.jpg", (8, 8))
    names = [f"im/gone_{i}.jpg" for i in range(20)] + ["im/x_1.jpg"] * 2480
    joints = np.tile(np.random.default_rng(0).normal(0, 0.35, (1, 24, 3)), (2500, 1, 1))
    file = tmp_path / "mpi_inf_3dhp_valid.npz"
    write_spin_npz(file, ["im/x_1.jpg"], joints[:1])
    np.savez(
        file, imgname=np.array(names), center=np.full((2500, 2), 4.0), scale=np.full(2500, 0.04),
        S=np.concatenate([joints, np.ones((2500, 24, 1))], 2),
    )  # fmt: skip
    benchmark = build("spin_npz", annotations=file, image_size=8)
    assert len(benchmark) == 2500
    result = evaluate(Sequential(torch.from_numpy(joints).float(), "spin24"), benchmark)
    assert result.counted["missing"] == 20 and result.counted["used"] == 2480


def test_a_person_whose_cells_are_none_does_not_count_also_with_joints():
    table = agora_table()
    row = {key: list(column[0]) if isinstance(column[0], list) else column[0] for key, column in table.items()}
    whole = AgoraPicture(row, Path("t.pkl"))
    first = whole.people[int(np.flatnonzero(whole.valid)[0])]
    for key in ("occlusion", "isValid"):
        blank = {**row, key: [None if i == first else value for i, value in enumerate(row[key])]}
        read = AgoraPicture(blank, Path("t.pkl"))
        assert read.valid.sum() == whole.valid.sum() - 1
        assert read.people == whole.people  # their joints can still be matched by a prediction
    kid = AgoraPicture({**row, "kid": [None] * len(row["isValid"])}, Path("t.pkl"))
    assert not kid.kids.any() and len(kid.kids) == len(whole.kids)
