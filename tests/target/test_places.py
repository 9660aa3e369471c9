"""Where a target's pictures lie, as its files tell it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posegen.target.lifted import read_lifted, write_lifted
from posegen.target.people import people_of, read_people, write_people
from posegen.target.places import found_places, told_places
from posegen.target.record import Target

FROZEN = Path(__file__).parents[1] / "data" / "format1" / "files" / "lifted.npz"


def test_below_the_file_relative_elsewhere_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for file in (Path("run/people.npz"), tmp_path / "run" / "people.npz", Path("run/../run/people.npz")):
        told = told_places(
            ["run/drawn/a.png", str(tmp_path / "run/drawn/../b.png"), "photos/c.png", "runs/d.png"], file
        )
        assert told.tolist() == ["drawn/a.png", "b.png", str(tmp_path / "photos/c.png"), str(tmp_path / "runs/d.png")]
        assert [Path(place).absolute().resolve() for place in found_places(told.tolist(), file, 2)] == [
            tmp_path / "run/drawn/a.png", tmp_path / "run/b.png", tmp_path / "photos/c.png", tmp_path / "runs/d.png"
        ]  # fmt: skip
    assert told_places([], tmp_path / "people.npz").shape == (0,)


@pytest.mark.parametrize("kind", ["people", "lifted"])
def test_a_target_that_is_moved_whole_knows_its_pictures(kind: str, tmp_path: Path) -> None:
    first, moved, photo = tmp_path / "first", tmp_path / "moved", str(tmp_path / "photos" / "one.jpg")
    points = np.full((2, 12, 3), 50, np.float32)
    points[:, ::2, :2] = 90
    pictures = (str(first / "drawn" / "a.png"), photo)
    first.mkdir()
    if kind == "people":
        file = write_people(people_of(Target("limbs12", points, ("a", "b"), pictures), 0.0), first / "people.npz")
    else:
        alone = read_lifted(FROZEN)
        file = write_lifted(replace(alone.pick(np.array([0, 0])), pictures=pictures), first / "lifted.npz")
    assert int(np.load(file)["version"][0]) == 2
    if kind == "lifted":  # pixels of pictures as they are shown
        shown = write_lifted(replace(read_lifted(file), turned=True), first / "shown.npz")
        assert int(np.load(shown)["version"][0]) == 3 and read_lifted(shown).pick(np.array([0])).turned
        assert not read_lifted(file).turned
    first.rename(moved)
    file = moved / file.name
    back = read_people(file).target.pictures if kind == "people" else read_lifted(file).pictures
    assert back == (str(moved / "drawn" / "a.png"), photo)
    with np.load(file) as archive:  # as versions before told it
        earlier = {**archive, "version": np.array([1]), "pictures": np.array(["photos/a.png", photo])}
    np.savez(file, **earlier)
    back = read_people(file).target.pictures if kind == "people" else read_lifted(file).pictures
    assert back == ("photos/a.png", photo)
