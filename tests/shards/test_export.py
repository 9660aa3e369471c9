"""Exports are read back with the libraries that they are made for."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from posegen import cli
from posegen.scene import Camera, Light, Scene
from posegen.shards.columns import MEANINGS, table
from posegen.shards.reader import read_shards
from posegen.shards.schema import LABELS
from posegen.shards.table import rows_to_table, table_to_tensors
from posegen.shards.writer import Plan, ShardWriter

ROWS, SIDE = 7, 16


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with one arm's data set of two shards."""
    random = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    camera = Camera(torch.eye(3).repeat(ROWS, 1, 1), draw(ROWS, 3), draw(ROWS).abs() + 90, draw(ROWS, 2), SIDE, SIDE)
    light = Light(torch.nn.functional.normalize(draw(ROWS, 3), dim=1), draw(ROWS).abs(), draw(ROWS).abs())
    scene = Scene(
        draw(ROWS, 24, 3), draw(ROWS, 10), draw(ROWS, 3), camera, torch.arange(ROWS), light, torch.arange(ROWS)
    )
    images = torch.randint(0, 256, (ROWS, 3, SIDE, SIDE), generator=random, dtype=torch.uint8)
    rows = rows_to_table(
        torch.arange(ROWS), scene, images, joints2d_px=draw(ROWS, 24, 2).abs() * 8, joints3d_cam_m=draw(ROWS, 24, 3),
        seed=1, round=0, generator_version=2, arm="posegen",
        error_at_birth_mm=torch.tensor([float("nan"), *range(1, ROWS)]),
    )  # fmt: skip
    folder = tmp_path / "outputs" / "monday"
    (folder / "stages").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 1\n")
    with ShardWriter(folder / "dataset" / "posegen", Plan(ROWS, 4, command="posegen run seed=1")) as writer:
        writer.write(rows)
    return folder


@pytest.fixture
def stored(run: Path) -> dict[str, torch.Tensor]:
    return table_to_tensors(read_shards(run / "dataset" / "posegen").table())


def export(form: str, run: Path, to: Path, *words: str) -> int:
    return cli.main(["export", "monday", "--format", form, "--to", str(to), "--outputs", str(run.parent), *words])


def test_every_column_has_a_meaning():
    assert set(MEANINGS) == {"image", *LABELS}
    assert table(["pose"]).splitlines()[-1] == f"| `pose` | float | 24 x 3 | {MEANINGS['pose']} |"


def test_hugging_face_reads_it(run, stored, tmp_path, monkeypatch):
    assert export("hf", run, tmp_path / "hf") == 0
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    cache = str(tmp_path / "cache")
    by_builder = load_dataset("parquet", data_dir=str(tmp_path / "hf" / "data"), split="train", cache_dir=cache)
    by_folder = load_dataset(str(tmp_path / "hf"), split="train", cache_dir=cache)
    for rows in (by_builder, by_folder):
        assert len(rows) == ROWS
        assert set(rows.column_names) == {"image", *LABELS}
        for i in (0, 5):
            pixels = np.asarray(rows[i]["image"]).transpose(2, 0, 1)
            np.testing.assert_array_equal(pixels, stored["image"][i].numpy())
            np.testing.assert_array_equal(np.float32(rows[i]["pose"]), stored["pose"][i].numpy())
            np.testing.assert_array_equal(np.float32(rows[i]["joints2d_px"]), stored["joints2d_px"][i].numpy())
        assert rows[3]["arm"] == "posegen"
    card = (tmp_path / "hf" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "`posegen run seed=1`" in card


def test_spin_reads_it(run, stored, tmp_path):
    assert export("spin", run, tmp_path / "spin") == 0
    with np.load(tmp_path / "spin" / "posegen_train.npz") as rows:
        assert set(rows) == {
            "imgname",
            "center",
            "scale",
            "pose",
            "shape",
            "has_smpl",
            "part",
            "S",
            "openpose",
            "gender",
        }
        assert [len(rows[name]) for name in rows] == [ROWS] * len(rows.files)
        np.testing.assert_array_equal(rows["shape"], stored["betas"].numpy())
        ankle = stored["joints3d_cam_m"][:, 8] - stored["joints3d_cam_m"][:, 0]  # SMPL's right ankle, its pelvis
        np.testing.assert_allclose(rows["S"][:, 0, :3], ankle.numpy(), atol=1e-6)
        from PIL import Image

        picture = np.asarray(Image.open(tmp_path / "spin" / str(rows["imgname"][6])))
    np.testing.assert_array_equal(picture.transpose(2, 0, 1), stored["image"][6].numpy())


def test_webdataset_reads_it(run, stored, tmp_path):
    assert export("webdataset", run, tmp_path / "wds") == 0
    import webdataset

    urls = [str(path) for path in sorted((tmp_path / "wds").glob("*.tar"))]
    assert len(urls) == 2
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("__key__", "png", "json"))
    assert [key for key, _, _ in samples] == [f"{i:08d}" for i in range(ROWS)]
    for i, (_, picture, labels) in enumerate(samples):
        np.testing.assert_array_equal(np.asarray(picture).transpose(2, 0, 1), stored["image"][i].numpy())
        np.testing.assert_array_equal(np.float32(labels["joints3d_cam_m"]), stored["joints3d_cam_m"][i].numpy())
        assert set(labels) == set(LABELS)
    assert samples[0][2]["error_at_birth_mm"] is None
    assert samples[2][2]["error_at_birth_mm"] == 2.0


def test_the_same_rows_give_the_same_bytes(run, tmp_path):
    for name in ("a", "b"):
        assert export("webdataset", run, tmp_path / name) == 0
    files = [path.name for path in (tmp_path / "a").glob("*.tar")]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    with tarfile.open(tmp_path / "a" / files[0]) as archive:
        assert {member.mtime for member in archive} == {0}


def test_nothing_is_written_over_and_nothing_half(run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert export("hf", run, tmp_path / "full") == 2
    assert "nothing is written over" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    part = next((run / "dataset" / "posegen").glob("part-*4-*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    assert export("hf", run, tmp_path / "new") == 2
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_arms_and_runs_that_are_not_there(run, tmp_path, capsys):
    assert export("hf", run, tmp_path / "x", "--arm", "mocap") == 2
    assert "valid choices: posegen" in capsys.readouterr().err
    assert cli.main(["export", "tuesday", "--format", "hf", "--outputs", str(run.parent)]) == 2
    assert "valid choices: monday" in capsys.readouterr().err


def test_a_data_sets_own_folder_will_do(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(run / "dataset" / "posegen"), "--format", "webdataset"]) == 0
    assert "7 rows" in capsys.readouterr().out
    with tarfile.open(tmp_path / "monday-posegen-webdataset" / "posegen-000000.tar") as archive:
        assert json.loads(archive.extractfile("00000003.json").read())["row_id"] == 3
