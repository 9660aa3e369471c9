"""`posegen atlas` from its words to its files: small, but all of it real."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.arms.rows import RowRenderer
from posegen.atlas import command, gather
from posegen.atlas.rendering import SceneRows
from posegen.config import ArmTask, compose, plain
from posegen.estimator import build, save_checkpoint
from posegen.experiment.in_process import InProcess
from posegen.experiment.rendering import Rendering
from posegen.experiment.stages import RunFolder

WORDS = ["scenes=40", "image_size=32", "dataset.rows_per_block=16", "atlas.groups=2", "atlas.shown=2",
         "atlas.pictures=2", "atlas.turned=3"]  # fmt: skip

pytestmark = pytest.mark.usefixtures("assets")
calls: list[int] = []


def straight(images: np.ndarray) -> np.ndarray:
    """A black box that always says the same: two points a limb, in metres."""
    calls.append(len(images))
    joints = np.zeros((len(images), 12, 3), np.float32)
    joints[:, :, 1] = np.linspace(-0.8, 0.6, 12)
    return joints


def page_of(folder: Path) -> str:
    return (folder / "atlas.html").read_text()


def numbers_of(folder: Path) -> dict:
    return json.loads((folder / "atlas.json").read_text())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished atlas of the embedded estimator."""
    folder = tmp_path_factory.mktemp("outputs")
    assert command.main([*WORDS, f"run.outputs={folder}", f"atlas.output={folder / 'first'}"]) == 0
    return folder


def test_the_page_holds_everything_and_asks_nothing_of_the_network(outputs: Path):
    page = page_of(outputs / "first")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in page and "fetch(" not in page
    for link in [source for source in sources if source.startswith("#")]:
        assert f'id="{link[1:]}"' in page, link
    images = re.findall(r"<img[^>]*>", page)
    assert len(images) >= 4
    assert all(re.search(r'alt="[^"]', image) for image in images if "src=" in image)


def test_the_numbers_are_of_the_pictures(outputs: Path):
    numbers = numbers_of(outputs / "first")
    assert numbers["pictures"] == {"pool": 40}
    assert numbers["estimator"] == "hmr_small"
    assert len(numbers["groups"]) == 2
    assert sum(group["share_of_error"]["pool"] for group in numbers["groups"]) == pytest.approx(1)
    rows = [row["row_id"] for group in numbers["groups"] for row in group["rows"]]
    assert sorted(rows) == list(range(40))
    mean = sum(group["mean_mm"]["value"] * group["pictures"] for group in numbers["groups"]) / 40
    assert mean == pytest.approx(numbers["figures"]["pool"]["before"]["mean_mm"])


def test_the_3d_view_holds_people_about_their_pelvis(outputs: Path):
    data = json.loads(re.search(r'id="turn-data">(.*?)</script>', page_of(outputs / "first"), re.S)[1])
    assert len(data["people"]) == 3
    person = data["people"][0]
    assert np.abs(person["truth"][0]).max() < 1e-3
    assert np.linalg.norm(person["camera"]) == pytest.approx(1, abs=0.01)
    assert person["picture"].startswith("data:image/jpeg")
    bones = [np.linalg.norm(np.subtract(person["truth"][a], person["truth"][b])) for a, b in data["bones"]]
    assert min(bones) > 0.02 and max(bones) < 0.6


def test_called_again_nothing_is_rendered_or_measured_again(outputs: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*given: object) -> None:
        raise AssertionError("it was done before")

    before = numbers_of(outputs / "first")
    monkeypatch.setattr(gather, "build_estimator", never)
    monkeypatch.setattr(SceneRows, "__init__", never)
    assert command.main([*WORDS, f"run.outputs={outputs}", f"atlas.output={outputs / 'first'}"]) == 0
    after = numbers_of(outputs / "first")
    assert {**after, "made": ""} == {**before, "made": ""}


def test_stopped_while_rendering_it_goes_on_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = [*WORDS, f"run.outputs={tmp_path}", f"atlas.output={tmp_path / 'a'}"]
    whole, made = SceneRows.__call__, []

    def stops(self: SceneRows, ids: np.ndarray):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(ids)
        return whole(self, ids)

    monkeypatch.setattr(SceneRows, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        command.main(words)
    said = capsys.readouterr().out
    assert "To go on: posegen atlas scenes=40" in said
    rest: list[np.ndarray] = []

    def counts(self: SceneRows, ids: np.ndarray):
        rest.append(ids)
        return whole(self, ids)

    monkeypatch.setattr(SceneRows, "__call__", counts)
    assert command.main(words) == 0
    assert sorted(np.concatenate(rest).tolist()) == list(range(16, 40))


def test_a_black_box_is_asked_once_a_picture_and_again_by_the_next_atlas(outputs: Path):
    words = [*WORDS, f"run.outputs={outputs}", f"atlas.output={outputs / 'box'}", "estimator=callable",
             f"estimator.options.function={__name__}:straight", "estimator.options.joint_set=limbs12"]  # fmt: skip
    calls.clear()
    assert command.main(words) == 0
    assert sum(calls) == 40
    assert len(numbers_of(outputs / "box")["joints_mm"]) == 12
    assert command.main(words) == 0  # what a function answers may have changed since
    assert sum(calls) == 80
    people = json.loads(re.search(r'id="turn-data">(.*?)</script>', page_of(outputs / "box"), re.S)[1])["people"]
    assert people[0]["before"][0] is None  # no pelvis among the limbs' joints
    assert sum(joint is not None for joint in people[0]["before"]) == 12


@pytest.fixture(scope="module")
def tuned_run(outputs: Path) -> Path:
    """A run with one arm: weights that are slightly shaken, and eight rows that were generated."""
    run = RunFolder(outputs / "mine").path
    config = compose([word for word in WORDS if not word.startswith("scenes")] + ["dataset.arms=[mocap]"])
    estimator = build("hmr_small")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in estimator.parameters():
            parameter.add_(0.02 * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=generator))
    save_checkpoint(estimator, run / "finetune" / "mocap" / "estimator.pt")
    rendering = Rendering(RowRenderer, ArmTask(config, "mocap"), rows=8, folder=str(run / "dataset" / "mocap"))
    InProcess("cpu").render(rendering, lambda done: None)
    (run / "summary.json").write_text(
        json.dumps({"run": "mine", "arms": ["before", "mocap"], "config": plain(replace(config, seed=0))})
    )
    return run


def test_a_run_is_compared_before_and_after_and_with_what_is_real(outputs: Path, tuned_run: Path):
    assert (
        command.main(["run=mine", f"run.outputs={outputs}", *[w for w in WORDS if w.startswith(("scenes", "atlas"))]])
        == 0
    )
    numbers, page = numbers_of(tuned_run / "atlas"), page_of(tuned_run / "atlas")
    before, after = (numbers["figures"]["pool"][when]["mean_mm"] for when in ("before", "after"))
    assert before == pytest.approx(numbers_of(outputs / "first")["figures"]["pool"]["before"]["mean_mm"])
    assert before != after
    assert [group["rows"] for group in numbers["groups"]] == [
        group["rows"] for group in numbers_of(outputs / "first")["groups"]
    ]
    assert page.index("What got worse") < page.index("What got better") < page.index("The worst groups")
    mocap = numbers["arms"]["mocap"]
    assert mocap["pictures"] == 8
    assert mocap["nearest_median_mm"] < 1  # they are real poses
    assert mocap["impossible"] == 0
    assert set(mocap["apart"]) == {"pool"}
    assert "The strangest of mocap" in page


def test_help_says_how(capsys: pytest.CaptureFixture[str]):
    assert command.main(["--help"]) == 0
    assert "posegen atlas run=NAME" in capsys.readouterr().out
