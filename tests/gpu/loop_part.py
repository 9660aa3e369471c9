"""The adversarial loop on SPIN's architecture (random weights): steps a second, where a step's time goes, and what
lower precision changes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timing import Stopwatch, median_s, report
from torch import Tensor

from posegen.adversarial.loop import AdversarialLoop
from posegen.config import ArmTask, compose

# Convolutions and products in TF32; the ResNet under autocast to bfloat16; its memory format.
VARIANTS = {
    "float32": (False, False, False),
    "tf32": (True, False, False),
    "tf32_channels_last": (True, False, True),
    "bf16_channels_last": (True, True, True),
}


def built(device: torch.device, tiny: bool, feedback_batch: int) -> AdversarialLoop:
    batch = 8 if tiny else 256
    words = [f"adversarial.batch={batch}", f"adversarial.feedback_batch={feedback_batch}"]
    words += ["adversarial.meter_every=1000", "adversarial.warmup_steps=0", "estimator=spin", "estimator.random=true"]
    # What comes before the first step and is not timed is kept small: at full size it took all of the part's time
    small = (8, 4) if tiny else (64, 32)
    words += [f"adversarial.meter_samples={small[0]}", f"adversarial.calibration_images={small[1]}"]
    words += [] if tiny else ["image_size=auto"]
    return AdversarialLoop(ArmTask(compose(["feedback=maximise", *words])), device=device)


@contextmanager
def precision(loop: AdversarialLoop, tf32: bool, bf16: bool, channels_last: bool) -> Iterator[None]:
    """The loop with the estimator's ResNet in another precision."""
    network: Any = loop.estimator.network
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    network.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    plain = network.trunk

    def lower(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return plain(x).float()

    if bf16:
        network.trunk = lower
    try:
        yield
    finally:
        if bf16:
            del network.trunk
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def error_and_gradient(loop: AdversarialLoop, rows: int) -> tuple[Tensor, Tensor]:
    """The estimator's errors on fixed scenes (n,) m, and their sum's gradient to the poses (n,24,3)."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        scene = loop.generator(loop.drawer.draw(rows, generator).to(loop.device), shift=0.0).scene
    scene.pose.requires_grad_()
    errors = loop.sample(scene).errors_m
    (gradient,) = torch.autograd.grad(errors.sum(), scene.pose)
    return errors.detach(), gradient


def watched(loop: AdversarialLoop, watch: Stopwatch) -> None:
    """Times the loop's parts; what is called within a timed part counts there alone."""
    renderer: Any = loop.world.renderer
    renderer.forward = watch.around("render", renderer.forward)
    loop.estimator.forward = watch.around("estimator", loop.estimator.forward)
    loop._train_discriminators = watch.around("discriminators", loop._train_discriminators)  # type: ignore[method-assign]
    loop.drawer.draw = watch.around("draws", loop.drawer.draw)  # type: ignore[method-assign]
    loop.wrapped_generator = watch.around("generator", loop.wrapped_generator)
    for optimiser in loop.optimisers.values():
        optimiser.step = watch.around("optimisers", optimiser.step)  # type: ignore[method-assign]
    torch.Tensor.backward = watch.around("backward", torch.Tensor.backward)  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.backends.cudnn.benchmark = True
    watch, plain_backward = Stopwatch(device), torch.Tensor.backward
    for feedback_batch in (4,) if arguments.tiny else (64, 32):
        try:
            begun = time.perf_counter()
            loop = built(device, arguments.tiny, feedback_batch)
            report(built_s=time.perf_counter() - begun)
            first_step_s = mean_step_s(loop, 1)  # the first of all: it chooses convolutions, too
            report(first_step_s=first_step_s)
            break
        except torch.OutOfMemoryError:
            report(**{f"feedback_batch_{feedback_batch}": "out of memory"})
            torch.cuda.empty_cache()
    report(batch=loop.settings.batch, feedback_batch=loop.settings.feedback_batch, size_px=loop.crop.size_px)
    rows = min(16, loop.settings.batch)
    reference: tuple[Tensor, Tensor] | None = None
    variants = ("float32", "tf32") if arguments.tiny else VARIANTS
    steps, warm_up = (2, 1) if arguments.tiny else (5, 1)
    for name in variants:
        with precision(loop, *VARIANTS[name]):
            found = error_and_gradient(loop, rows)
            reference = reference or found
            deviation = [float((a - b).norm() / b.norm()) for a, b in zip(found, reference, strict=True)]
            seconds = median_s(loop.step, device, steps, warm_up)
            report(**{f"{name}_steps_a_second": 1 / seconds, f"{name}_pictures_a_second": feedback_batch / seconds,
                      f"{name}_error_deviation": deviation[0], f"{name}_gradient_deviation": deviation[1]})  # fmt: skip
    watched(loop, watch)
    for name in ("float32",) if arguments.tiny else ("tf32", "bf16_channels_last"):
        with precision(loop, *VARIANTS[name]):
            loop.step()
            watch.clear()
            seconds = mean_step_s(loop, steps)
        parts = watch.seconds()
        shares = {part: value / steps / seconds for part, value in parts.items()}
        report(**{f"{name}_share_{part}": share for part, share in shares.items()},
               **{f"{name}_share_other": 1 - sum(shares.values())})  # fmt: skip
    torch.Tensor.backward = plain_backward  # type: ignore[method-assign]
    if device.type == "cuda":
        report(peak_gib=torch.cuda.max_memory_allocated() / 2**30)


def mean_step_s(loop: AdversarialLoop, steps: int) -> float:
    """Mean seconds of a step."""
    if loop.device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(steps):
        loop.step()
    if loop.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps


if __name__ == "__main__":
    main()
