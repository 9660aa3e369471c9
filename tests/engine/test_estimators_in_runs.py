"""Whole runs with other estimators than the default: another body, joints only, no gradient and no weights."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from posegen.body.joint_sets import LIMBS12, SMPL_PARENTS
from posegen.body.model import load_body
from posegen.cli import main
from posegen.config import compose
from posegen.config.task import ArmTask
from posegen.estimator import build

TINY = (
    "experiment=smoke", "evaluation.images=4", "evaluation.suite=[ski-like]", "adversarial.steps=2",
    "adversarial.calibration_images=8", "dataset.images=8", "dataset.source_images=8", "dataset.rows_per_block=8",
    "finetune.steps=2", "finetune.batch=4",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("assets")


def run(folder, *overrides):
    """The summary of a tiny run, and its directory."""
    assert main(["run", *TINY, f"run.outputs={folder}", *overrides]) == 0
    place = (folder / "latest").resolve()
    return json.loads((place / "summary.json").read_text()), place


@pytest.fixture(scope="module")
def other_body(tmp_path_factory):
    """A body file of another people: half the vertices, longer legs, lower arms, other shapes."""
    body = load_body(resolution="low")
    template = body.v_template.numpy().copy()
    legs = template[:, 1] < 0
    template[legs, 1] *= 1.15
    shapes = body.shapedirs.numpy()[..., ::-1].copy()  # the first beta is no stature any more
    file = tmp_path_factory.mktemp("bodies") / "other.npz"
    np.savez(
        file,
        v_template=template[::-1],
        shapedirs=shapes[::-1],
        J_regressor=body.J_regressor.numpy()[:, ::-1],
        weights=body.weights.numpy()[::-1],
        posedirs=np.zeros((len(template), 3, 207), np.float32),
        f=len(template) - 1 - body.faces.numpy(),
        kintree_table=np.stack([np.array(SMPL_PARENTS), np.arange(24)]),
    )
    return file


@pytest.mark.slow
def test_an_estimator_of_another_body_runs_on_the_shipped_field(ray_cluster, other_body, tmp_path):
    """Loop, rows, fine-tuning, evaluation and report where scenes and estimator have two bodies."""
    summary, place = run(tmp_path, f"estimator.body={other_body}", "dataset.arms=[posegen]")
    ski = summary["benchmarks"]["ski-like"]
    assert "limbs12 as the estimator gives it; 12 joints compared" in (place / "report.html").read_text()
    for arm in ("before", "posegen"):
        assert 0 < ski["arms"][arm]["mpjpe_mm"]["value"] < 2000
        assert ski["arms"][arm].get("pve_mm") is None  # no vertex of the one mesh is a vertex of the other
    steps = [json.loads(line) for line in (place / "finetune" / "posegen" / "history.jsonl").open()]
    assert len(steps) == 2 and all(math.isfinite(step["loss"]) for step in steps)


def test_each_stage_takes_an_estimator_of_another_body(other_body):
    """The stages of a run without the cluster: feedback, rows, a step of fine-tuning, evaluation."""
    from posegen.adversarial.loop import AdversarialLoop
    from posegen.arms.rows import RowRenderer
    from posegen.benchmarks.embedded.stand_ins import build_embedded
    from posegen.benchmarks.measure.evaluate import evaluate
    from posegen.estimator.configured import build_estimator, evaluation_body
    from posegen.finetune.loop import FinetuneLoop
    from posegen.shards.table import table_to_tensors

    small = ("adversarial.warmup_steps=0", "adversarial.batch=4", "adversarial.meter_samples=8")
    config = compose([*TINY, *small, f"estimator.body={other_body}", "finetune.source_share=0"])
    task = ArmTask(config, "mocap")
    adversarial = AdversarialLoop(task)
    step = adversarial.step()
    assert 0 < step["error_mm"] < 2000 and math.isfinite(step["loss_feedback"])
    rows = table_to_tensors(RowRenderer(task, "cpu")(np.arange(4)), copy=True)
    estimator = build_estimator(config)
    before = {name: value.clone() for name, value in estimator.named_parameters()}
    loop = FinetuneLoop(ArmTask(config), estimator=estimator)
    assert math.isfinite(loop.step(rows)["loss"])
    changed = [name for name, value in estimator.named_parameters() if not torch.equal(value, before[name])]
    assert len(changed) == len(before)
    judged = build_estimator(config, compared_with="free body")
    result = evaluate(judged, build_embedded("ski-like", images=4), evaluation_body(judged, config))
    assert len(result.joint_names) == 12 and "pve_mm" not in result.metrics
    assert 0 < result.metrics["mpjpe_mm"] < 2000


def test_the_joints_follow_from_whose_body_it_is(other_body):
    from posegen.estimator.configured import build_estimator, evaluation_body

    own = compose([])
    assert build_estimator(own).joint_set == "smpl24"
    assert evaluation_body(build_estimator(own), own) is not None
    two = compose([f"estimator.body={other_body}"])
    assert build_estimator(two).joint_set == LIMBS12.name
    assert build_estimator(two, compared_with="own").joint_set == "smpl24"
    assert evaluation_body(build_estimator(two), two) is None
    same = compose([f"estimator.body={other_body}", f"body.path={other_body}"])
    assert build_estimator(same).joint_set == "smpl24"
    # the embedded benchmarks are of the free body whatever the scenes ride on
    assert build_estimator(same, compared_with="free body").joint_set == LIMBS12.name


def test_a_taught_estimator_of_another_body_gets_no_betas_but_turned_rotations(other_body):
    from posegen.body.skeleton import free_skeleton, rest_turns
    from posegen.estimator.configured import build_estimator
    from posegen.finetune.loop import FinetuneLoop

    config = compose([*TINY, f"estimator.body={other_body}", "finetune.source_share=0"])
    estimator = build_estimator(config)
    loop = FinetuneLoop(ArmTask(config), estimator=estimator)
    for kind in ("generated", "source"):
        assert not loop.teaching[kind].same_body
        assert torch.equal(loop.teaching[kind].turns, rest_turns(free_skeleton(), estimator.skeleton))
    own = FinetuneLoop(ArmTask(compose([*TINY, "finetune.source_share=0"])), estimator=build("hmr_small"))
    assert own.teaching["generated"].same_body


BLACK_BOX = (
    "estimator=callable", "estimator.options.function=toy_estimator:guess", "estimator.options.joint_set=limbs12",
)  # fmt: skip


def test_what_has_no_weights_is_searched_for_failures_and_not_fine_tuned(ray_cluster, tmp_path, capsys):
    """Score function, data sets with errors at birth, evaluation and report; then the same command does nothing."""
    arms = "dataset.arms=[random,posegen]"
    summary, place = run(tmp_path, *BLACK_BOX, "feedback=score_function", arms)
    printed = capsys.readouterr().out
    assert "callable has no weights to fine-tune" in printed and "fine-tuning" not in printed
    assert summary["arms"] == ["before"] and summary["average"] == {}
    assert summary["benchmarks"]["ski-like"]["arms"]["before"]["mpjpe_mm"]["value"] > 0
    history = [json.loads(line) for line in (place / "generate" / "posegen" / "history.jsonl").open()]
    assert any("loss_feedback" in step and math.isfinite(step["loss_feedback"]) for step in history)
    for arm in ("random", "posegen"):
        rows = pq.read_table(place / "dataset" / arm)
        assert rows.num_rows == 8 and min(rows.column("error_at_birth_mm").to_pylist()) > 0
    html = (place / "report.html").read_text()
    assert "Nothing was fine-tuned" in html and "The largest errors" in html and "after fine-tuning" not in html
    assert main(["run", *TINY, f"run.outputs={tmp_path}", *BLACK_BOX, "feedback=score_function", arms]) == 0
    assert "done before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "overrides", "said"),
    [
        ("run", [], "feedback=score_function"),
        ("finetune", ["feedback=score_function"], "no weights to fine-tune"),
        ("run", ["estimator.options.function=toy_estimator:gues"], "cannot import"),
    ],
)
def test_what_a_black_box_cannot_do_is_said_at_once(command, overrides, said, tmp_path, capsys):
    assert main([command, *TINY, f"run.outputs={tmp_path}", *BLACK_BOX, *overrides]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*/stages/*"))  # nothing was begun


@pytest.mark.slow
def test_joints_only_estimators_run_as_a_whole(ray_cluster, tmp_path):
    summary, place = run(tmp_path, "estimator=blazepose", "dataset.arms=[posegen]")
    ski = summary["benchmarks"]["ski-like"]
    assert ski["arms"]["posegen"]["mpjpe_mm"]["value"] > 0 and "pve_mm" not in ski["arms"]["posegen"]
    steps = [json.loads(line) for line in (place / "finetune" / "posegen" / "history.jsonl").open()]
    assert max(step["learning_rate"] for step in steps) == pytest.approx(3e-4)  # its own, relative to weights


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spin", "hybrik"])
def test_the_originals_run_on_their_own_body(name, ray_cluster, tmp_path, monkeypatch):
    """SPIN and HybrIK from files in the original layout (seeded random numbers in them), on the shipped field."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "estimator")  # their tests know the layouts
    from synthetic_smpl import smpl_buffers
    from test_hybrik import full_state as hybrik_state
    from test_spin import full_state as spin_state

    from posegen.estimator.checkpoint import write_torch

    file = write_torch({"model": spin_state() if name == "spin" else hybrik_state()}, tmp_path / "original.pt")
    given = [f"estimator={name}", f"estimator.checkpoint={file}", "dataset.arms=[posegen]"]
    if name == "spin":
        numbers = {key: value.numpy() for key, value in smpl_buffers().items()}
        np.savez(
            tmp_path / "SMPL_NEUTRAL.npz",
            **{key: numbers[key] for key in ("v_template", "shapedirs", "J_regressor")},
            posedirs=numbers["posedirs"].T.reshape(-1, 3, 207),
            weights=numbers["lbs_weights"],
            f=numbers["faces_tensor"],
            kintree_table=np.stack([np.array(SMPL_PARENTS), np.arange(24)]),
        )
        given.append(f"estimator.body={tmp_path}")
    summary, place = run(tmp_path / "out", *given)
    ski = summary["benchmarks"]["ski-like"]
    assert ski["arms"]["posegen"].get("pve_mm") is None
    tuned = torch.load(place / "finetune" / "posegen" / "estimator.pt", weights_only=True)["model"]
    original = torch.load(file, weights_only=True)["model"]
    assert {key for key in tuned if not key.endswith("num_batches_tracked")} == set(original)  # goes home
    assert not torch.equal(tuned["fc1.weight"], original["fc1.weight"])
    if name == "hybrik":
        assert torch.equal(tuned["smpl.v_template"], original["smpl.v_template"])
