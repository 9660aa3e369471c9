"""Formats are numbered: files without a number are of the first version, newer ones are refused with the way out."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posegen.body.motion.pack import read_pack
from posegen.engine.worker import STATE_FILE, STATE_FORMAT, load_checkpoint
from posegen.errors import CheckpointError, DataError, PosegenError
from posegen.estimator.checkpoint import read_file, write_torch
from posegen.experiment.stages import RunFolder
from posegen.files.versions import FORMAT_KEY, checked_format, load_state, save_state, save_torch
from posegen.generator.build import load_generator, save_generator
from posegen.renderer.field.artifact import load_field_file
from posegen.target.lifted import read_lifted
from posegen.target.readers import read_keypoints
from posegen.tracking.report.gallery import Gallery

FROZEN = Path(__file__).parents[1] / "data" / "format1"


def changed_npz(source: Path, path: Path, **changes: Any) -> Path:
    with np.load(source) as arrays:
        np.savez(path, **({name: arrays[name] for name in arrays.files} | changes))
    return path


def test_a_number_is_checked_and_its_lack_is_the_first_version(tmp_path):
    assert [checked_format(found, 3, "the file", "f", "cure") for found in (None, 1, 3, np.array([2]))] == [1, 1, 3, 2]
    for found in (0, -1, "2", 2.0, True, [1], np.array([1, 2])):
        with pytest.raises(DataError, match="the file is damaged: its format is"):
            checked_format(found, 3, "the file", "f", "cure")
    with pytest.raises(CheckpointError, match=r"has format 4; this version of posegen .* up to 3") as told:
        checked_format(4, 3, "the file", "f", "make it again", CheckpointError)
    assert told.value.where == "f" and told.value.next_command is not None
    assert "install the posegen that made it, or: make it again" in told.value.next_command


def test_a_state_comes_back_without_its_number(tmp_path):
    path = save_state({"a": torch.ones(2)}, tmp_path / "new" / "s.pt", 2)
    assert torch.load(path, weights_only=True)[FORMAT_KEY] == 2
    assert list(load_state(path, 2, "the state", "rm it")) == ["a"]
    with pytest.raises(DataError, match=r"the state has format 2; .* reads up to 1"):
        load_state(path, 1, "the state", "rm it")
    for content in (b"", b"nonsense", path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="the state cannot be read"):
            load_state(path, 2, "the state", "rm it", error=CheckpointError)
    with pytest.raises(DataError, match="cannot be read"):
        load_state(tmp_path / "none.pt", 2, "the state", "rm it")
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="holds a list"):
        load_state(path, 2, "the state", "rm it")


class Stored:
    """A checkpoint of Ray Train's, as far as it is used."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)

    def as_directory(self) -> Any:
        from contextlib import nullcontext

        return nullcontext(self.path)


def test_files_of_the_first_version_are_read(tmp_path):
    files = FROZEN / "files"
    generator = load_generator(files / "generator.pt")
    assert generator["mean"].tolist() == [0, 1, 2] and set(generator) == {"mean", "layer.weight"}
    shutil.copy(files / "state.pt", tmp_path / STATE_FILE)
    assert load_checkpoint(Stored(tmp_path))["loop"]["step"] == 4
    assert read_file(files / "estimator.pt")["model"]["w"].tolist() == [0, 1, 2, 3]
    assert read_keypoints(files / "target.npz", None).names == ("a", "b")
    assert read_pack(files / "pack.npz")[0].transl.mean() == pytest.approx(1, abs=1e-4)
    lifted = read_lifted(files / "lifted.npz")
    assert lifted.names == ("a",) and lifted.joint_set == "limbs12" and lifted.hypotheses.pose.shape == (1, 2, 24, 3)
    assert len(Gallery.load(FROZEN / "run" / "evaluation" / "gallery.npz")) > 0
    shutil.copytree(FROZEN / "run", tmp_path / "run")
    assert RunFolder(tmp_path / "run").marker("evaluate") is not None


def test_what_is_written_now_carries_its_number_and_is_read(tmp_path):
    path = save_generator({"mean": torch.ones(2)}, tmp_path / "generator.pt")
    assert torch.load(path, weights_only=True)[FORMAT_KEY] == 1 and set(load_generator(path)) == {"mean"}
    run = RunFolder(tmp_path / "run")
    run.run_stage("source", "abc", dict)
    assert json.loads((run.stages / "source.json").read_text())["format"] == 1
    assert run.is_done("source", "abc")
    Gallery.load(FROZEN / "run" / "evaluation" / "gallery.npz").save(tmp_path / "gallery.npz")
    with np.load(tmp_path / "gallery.npz") as arrays:
        assert int(arrays["format"]) == 1
    assert len(Gallery.load(tmp_path / "gallery.npz")) > 0


def newer_generator(path: Path) -> Any:
    return load_generator(save_state({"mean": torch.ones(2)}, path / "g.pt", 99))


def newer_training(path: Path) -> Any:
    save_state({"loop": {}}, path / STATE_FILE, STATE_FORMAT + 98)
    return load_checkpoint(Stored(path))


def newer_weights(path: Path) -> Any:
    content = {"model": {"w": torch.ones(1)}, "posegen": {"estimator": "hmr_small", "format": 99}}
    return read_file(write_torch(content, path / "e.pt"))


def newer_marker(path: Path) -> Any:
    run = RunFolder(path / "run")
    (run.stages / "source.json").write_text(json.dumps({"format": 99, "stage": "source", "digest": "a"}))
    return run.marker("source")


def newer_field(path: Path) -> Any:
    return load_field_file(changed_npz(FROZEN / "field.npz", path / "f.npz", format_version=np.int64(99)))


def newer_gallery(path: Path) -> Any:
    source = FROZEN / "run" / "evaluation" / "gallery.npz"
    return Gallery.load(changed_npz(source, path / "g.npz", format=np.array(99)))


def newer_target(path: Path) -> Any:
    return read_keypoints(changed_npz(FROZEN / "files" / "target.npz", path / "t.npz", format=np.array(99)), None)


def newer_lifted(path: Path) -> Any:
    return read_lifted(changed_npz(FROZEN / "files" / "lifted.npz", path / "l.npz", version=np.array([99])))


def newer_pack(path: Path) -> Any:
    told = np.array("posegen motion pack 99")
    return read_pack(changed_npz(FROZEN / "files" / "pack.npz", path / "p.npz", format=told))


@pytest.mark.parametrize(
    "act",
    [newer_generator, newer_training, newer_weights, newer_marker, newer_field, newer_gallery, newer_target,
     newer_lifted, newer_pack],
)  # fmt: skip
def test_files_of_a_newer_version_are_refused_by_name_with_the_way_out(act: Callable[[Path], Any], tmp_path):
    with pytest.raises(PosegenError, match=r"has format 99; this version of posegen .* reads up to \d") as told:
        act(tmp_path)
    assert told.value.where is not None and str(tmp_path) in told.value.where
    assert "install the posegen that made it" in str(told.value.next_command)


def test_torch_on_a_full_disk_says_that_the_disk_is_full(tmp_path, monkeypatch):
    state = {"a": torch.zeros(200_000)}
    with pytest.raises(OSError, match="No space left on device"):
        save_torch(state, "/dev/full")  # torch's own writer says "unexpected pos 704 vs 598"

    def full(content, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("posegen.files.versions.save_torch", full)
    monkeypatch.setattr("posegen.estimator.checkpoint.save_torch", full)
    for save in (lambda: save_state(state, tmp_path / "s.pt", 1), lambda: write_torch(state, tmp_path / "w.pt")):
        with pytest.raises(DataError, match="the disk is full"):
            save()
    assert not list(tmp_path.iterdir())
