"""The fine-tuning loop under guard: holds rows out, survives an explosion, is resumed exactly, keeps what it knew."""

import pytest
import torch
from test_finetune import Tiny, rows

from posegen.config import ArmTask, compose
from posegen.errors import ConfigError, TrainingError
from posegen.finetune.loop import FinetuneLoop

STEPS = 12


class Guarded(Tiny):
    learning_rate, optimiser, guard_every = 1e-3, "relative_adam", 3


def loop(*overrides, estimator=Guarded):
    torch.manual_seed(0)
    settings = ["experiment=smoke", "finetune.batch=8", f"finetune.steps={STEPS}", "finetune.augment=false"]
    built = FinetuneLoop(
        ArmTask(compose([*settings, "finetune.guard_rows=4", *overrides])), estimator=estimator(), source=rows(16, 1)
    )
    built.hold_out(rows(4, 5))
    return built


def run(built, steps=STEPS):
    return [built.step(rows(4, 100 + built.step_index)) for _ in range(steps - built.step_index)]


def test_held_out_source_rows_are_never_trained_on():
    built = loop()
    assert built.held_out_rows == 4 and built.source_rows == 12
    assert torch.equal(built.held["source"]["image"], built.source["image"][12:])
    seen = []
    for step in range(50):
        built.step_index = step
        seen.append(built._source_part()["image"])
    kept = built.held["source"]["image"].flatten(1).double().sum(1)
    assert not set(torch.cat(seen).flatten(1).double().sum(1).tolist()) & set(kept.tolist())
    assert loop("finetune.guard_every=0").source_rows == 16


def test_the_loop_measures_its_averaged_weights_and_ends_with_the_best():
    built = loop()
    told = run(built)
    checked = [row for row in told if "held_generated" in row]
    assert len(checked) == STEPS // 3
    assert set(checked[0]) >= {"held_generated", "held_source", "blowups", "step_scale", "kept_step"}
    best = built.guard.kept
    assert all(torch.equal(value, best["state"]["averaged"][name]) for name, value in built.averaged.items())
    errors = {kind: float(found.mean()) for kind, found in built._held_errors_mm().items()}
    assert errors == pytest.approx(best["errors"])
    assert built.estimator.training
    built.averaged["map.bias"][3:6] += 5  # metres, of one joint
    assert built._held_errors_mm()["generated"].mean() > errors["generated"] + 100


def test_a_loop_whose_steps_explode_goes_back_and_says_so():
    built = loop(
        "finetune.optimiser=adamw", "finetune.learning_rate=20", "finetune.average=0", "finetune.guard_tries=50"
    )
    told = run(built)
    assert built.guard.blowups >= 1 and told[-1]["blowups"] == built.guard.blowups
    assert built.guard.events[0].startswith("step 3: the error on held-out")
    assert built._held_errors_mm()["generated"].mean() <= 1.3 * built.guard.start["generated"]
    with pytest.raises(TrainingError, match="blew up 1 times"):
        run(
            loop(
                "finetune.optimiser=adamw", "finetune.learning_rate=20", "finetune.average=0", "finetune.guard_tries=0"
            )
        )


def test_a_loss_that_is_no_number_never_reaches_the_weights():
    built = loop("finetune.guard_every=0")
    built.step(rows(4, 2))
    before = built.estimator.map.weight.detach().clone()
    poisoned = rows(4, 3)
    poisoned["joints3d_cam_m"][0, 3] = float("nan")
    told = built.step(poisoned)
    assert told["blowups"] == 1 and told["step_scale"] == 0.5
    assert torch.equal(built.estimator.map.weight, before)
    assert built.step(rows(4, 4))["learning_rate"] == pytest.approx(0.5 * built.learning_rate(2))


@pytest.mark.parametrize("keep", ["none", "l2sp", "distill"])
def test_a_guarded_loop_resumes_exactly(tmp_path, keep):
    options = (f"finetune.keep={keep}", "finetune.learning_rate=0.5", "finetune.guard_factor=1.01")
    whole = loop(*options)
    run(whole, 5)
    torch.save(whole.state_dict(), tmp_path / "s.pt")
    rest = run(whole)
    resumed = loop(*options)
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    assert run(resumed) == rest
    assert torch.equal(resumed.averaged["map.weight"], whole.averaged["map.weight"])


def test_what_it_knew_holds_the_weights_back():
    def moved(*overrides):
        built = loop("finetune.guard_every=0", "finetune.learning_rate=0.02", "finetune.average=0", *overrides)
        start = {name: value.detach().clone() for name, value in built.estimator.named_parameters()}
        told = run(built)
        change = sum((value - start[name]).square().sum() for name, value in built.estimator.named_parameters())
        return float(change.detach()), told[-1]

    free, told = moved()
    assert "kept" not in told
    held, told = moved("finetune.keep=l2sp", "finetune.keep_weight=1000")
    assert held < 0.9 * free and told["kept"] > 0
    assert moved("finetune.keep=distill", "finetune.keep_weight=100")[0] < free


def test_distillation_needs_source_rows():
    with pytest.raises(ConfigError, match="needs source rows"):
        loop("finetune.keep=distill", "finetune.source_share=0")
