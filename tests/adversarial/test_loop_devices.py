"""The loops and the row renderer as they run on a GPU, pretended or real: they run, and compute what the CPU does."""

import pyarrow.compute as pc
import pytest
import torch

from posegen.adversarial.loop import AdversarialLoop
from posegen.arms.rows import RowRenderer
from posegen.config import compose
from posegen.config.task import ArmTask
from posegen.finetune.loop import FinetuneLoop

pytestmark = pytest.mark.usefixtures("assets")

SIZE = 32


def config(*overrides):
    small = ["adversarial.batch=16", "adversarial.feedback_batch=4", "adversarial.meter_samples=16"]
    small += ["adversarial.meter_every=2", "adversarial.calibration_images=4", "adversarial.warmup_steps=1"]
    return compose(["experiment=smoke", f"image_size={SIZE}", "renderer.backend=eager", *small, *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ("feedback=maximise", "noise=learned_mixture"),
        ("feedback=band", "noise=von_mises_fisher", "generator=direct"),
        ("feedback=score_function", "noise=student_t"),
    ],
    ids=["maximise", "band", "score_function"],
)
def test_adversarial_loop(cuda, overrides):
    task, histories = ArmTask(config(*overrides)), []
    for device in ("cpu", "cuda"):
        loop = AdversarialLoop(task, device=device)
        histories.append([loop.step() for _ in range(4)])
        modules = (loop.generator, loop.discriminators, loop.estimator)
        assert all(p.device.type == device for module in modules for p in module.parameters())
        state = loop.state_dict()
        again = AdversarialLoop(task, device=device)
        again.load_state_dict(state)
        assert again.step()["error_mm"] == pytest.approx(loop.step()["error_mm"], rel=1e-3)
    # The first step differs by rounding. Adam divides each gradient by its own size, so that an entry of the size of
    # rounding steps by the whole rate in either direction: from then on, on a card, figures part with the steps.
    for step, (on_cpu, on_cuda) in enumerate(zip(*histories, strict=True)):
        rel = 2e-2 if step == 0 or cuda is not None else 2e-2 + 0.03 * step
        assert on_cuda == pytest.approx(on_cpu, rel=rel, abs=1e-3 if step == 0 or cuda is not None else 1e-2)


def test_row_renderer(cuda):
    ids = torch.arange(6).numpy()
    tables = []
    for device in ("cpu", "cuda"):
        renderer = RowRenderer(ArmTask(config(), "random"), device)
        assert all(p.device.type == device for p in renderer.estimator.parameters())
        tables.append(renderer(ids))
    errors = [table.column("error_at_birth_mm").to_numpy() for table in tables]
    assert errors[0] == pytest.approx(errors[1], abs=1.0) and errors[0].min() > 10
    assert tables[0].schema == tables[1].schema
    assert pc.all(pc.equal(tables[0].column("row_id"), tables[1].column("row_id"))).as_py()


def rows(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8),
        "pose": torch.randn(n, 24, 3, generator=generator) * 0.2,
        "betas": torch.randn(n, 10, generator=generator),
        "camera_R": torch.eye(3).expand(n, 3, 3).contiguous(),
        "joints3d_cam_m": torch.randn(n, 24, 3, generator=generator) * 0.3,
        "joints2d_px": torch.rand(n, 24, 2, generator=generator) * SIZE,
    }


def test_finetuning_loop(cuda):
    settings = config("finetune.batch=8", "finetune.steps=4", "finetune.augment=true")
    losses = []
    for device in ("cpu", "cuda"):
        loop = FinetuneLoop(ArmTask(settings), device=device, source=rows(16, 1))
        losses.append([loop.step(rows(4, 2 + step))["loss"] for step in range(3)])
        assert all(t.device.type == device for t in loop.state_dict()["averaged"].values())
        loop.load_state_dict(loop.state_dict())
        loop.finish()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
