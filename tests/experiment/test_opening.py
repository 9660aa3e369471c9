"""What is told before anything of a run is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from posegen.config import compose
from posegen.errors import ConfigError, DataError, PosegenError
from posegen.experiment.in_process import InProcess
from posegen.experiment.opening import opened
from posegen.progress import Reporter

TARGET = ("target=embedded", "target.embedded=[3dpw-like]", "finetune.source_share=0.5", "finetune.target_share=0.5")


def begin(command: str, folder: Path, *words: str) -> None:
    config = compose(["experiment=smoke", *words, f"run.outputs={folder}"])
    with opened(command, config, InProcess("cpu"), Reporter(), words):
        pass


@pytest.mark.parametrize(
    ("words", "beside"),
    [
        (("dataset.arms=[random]", "finetune.source_share=1"), r"beside 8 of the source and 0 of the target"),
        (("dataset.arms=[random,anchors]", *TARGET), r"'anchors'.* beside 4 of the source and 4 of the target"),
    ],
)
def test_a_batch_without_room_for_what_is_rendered_is_told_before_rendering(tmp_path, words, beside):
    with pytest.raises(ConfigError, match=f"{beside}(?s:.*)weak_labels"):
        begin("run", tmp_path, *words, "finetune.batch=8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["noise=student_t", "noise.options.dof=3"], r"noise student_t has no option 'dof'; did you mean 'df'"),
        (["noise=student_t", "noise.options.df=0"], r"df must be at least 1, not 0"),
        (["noise=mixture", "noise.options.std=wide"], r"std is a number, not 'wide'"),
        (["renderer.options.samples=3"], r"renderer field has no option 'samples'"),
        (["renderer=anerf", f"renderer.checkpoint={__file__}", "renderer.options.chunk=x"], r"chunk is a whole number"),
        (["target.lifting.stps=3"], r"unknown key 'stps'; did you mean 'steps'"),
        (["estimator=callable"], r"(?s)callable needs function.*estimator=callable estimator.options.function="),
        (["estimator=onnx"], r"(?s)onnx needs checkpoint.*estimator=onnx estimator.checkpoint=PATH"),
    ],
)  # fmt: skip
def test_options_that_nothing_takes_are_told_before_anything_is_made(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        begin("run", tmp_path, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("target.lifted", r"cut short or damaged"), ("renderer.checkpoint", r"cut short or damaged"),
        ("estimator.checkpoint", r"no PyTorch checkpoint"), ("mocap.path", r"holds no AMASS"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_are_told_before_anything_is_made(tmp_path, key, said):
    given = tmp_path / "given"
    if key == "mocap.path":
        given.mkdir()
    else:
        given.write_bytes(b"something else")
    with pytest.raises(PosegenError, match=said) as refused:
        begin("run", tmp_path / "outputs", f"{key}={given}")
    assert str(given) in str(refused.value)
    assert not (tmp_path / "outputs").exists()


def test_what_is_evaluated_has_been_made(tmp_path):
    begin("generate", tmp_path, "dataset.arms=[random]", "run.name=exp/one")
    with pytest.raises(ConfigError, match="no run 'exp/two' to evaluate") as refused:
        begin("evaluate", tmp_path, "dataset.arms=[random]", "run.name=exp/two")
    assert refused.value.choices == ["exp/one"]
    assert [folder.name for folder in (tmp_path / "exp").iterdir()] == ["one"]
    with pytest.raises(DataError, match="arm 'random' has not been fine-tuned in this run"):
        begin("evaluate", tmp_path, "dataset.arms=[random]", "run.name=exp/one")


def test_room_is_asked_for_only_where_it_is_needed(tmp_path):
    begin("run", tmp_path / "nothing is rendered", "dataset.arms=[weak_labels]", *TARGET)
    begin("generate", tmp_path / "nothing is trained", "dataset.arms=[random]", "finetune.source_share=1")
    begin("run", tmp_path / "not shown the target", "dataset.arms=[random]", *TARGET)
