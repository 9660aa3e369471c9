"""What training with our own depthwise convolutions saves: milliseconds with torch's and with ours, in turn.

    python tests/speed/depthwise.py [--batch 16] [--repeats 7] [--threads 1] [--json FILE]

First each depthwise convolution of BlazePose and of EfficientNet-Lite0 (which is normalised before its activation),
padding and activation with it, forward and with all derivatives; then whole steps (forward and backward, without the
optimiser). Times are the shortest of all repeats by the clock, ours and torch's one after the other, so that their
ratio means something on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.estimator import build, depthwise
from posegen.estimator.efficientnet_lite import STAGES, STEM
from posegen.estimator.tflite_module import same_padding
from posegen.machine import keep_freed_memory, processor

# (channels, side of the input, kernel, stride): of 256 px, and of 128 px
BLAZEPOSE = (
    (24, 128, 3, 1), (64, 128, 3, 2), (144, 64, 3, 1), (144, 64, 5, 2), (192, 32, 5, 1), (192, 32, 3, 2),
    (384, 16, 3, 1), (384, 16, 5, 1), (528, 16, 5, 1), (528, 16, 5, 2), (864, 8, 5, 1), (864, 8, 3, 1),
    (288, 8, 3, 2), (288, 4, 3, 1),
)  # fmt: skip
STEPS = {"blazepose": 256, "hmr_lite": 128, "efficientnet": 128}


def lite0(side: int = 64) -> list[tuple[int, int, int, int]]:
    """The same of EfficientNet-Lite0, whose stem halves the picture."""
    shapes, inputs = [], STEM
    for repeats, kernel, stride, expansion, outputs in STAGES:
        for i in range(repeats):
            step = stride if i == 0 else 1
            shapes.append((inputs * expansion, side, kernel, step))
            side, inputs = side // step, outputs
    return list(dict.fromkeys(shapes))


def seconds(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The shortest time of each, in turn; once without a clock."""
    best = dict.fromkeys(works, float("inf"))
    for i in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if i:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def of_shape(shape: tuple[int, int, int, int], activation: bool, batch: int, repeats: int) -> dict[str, float]:
    channels, side, kernel, stride = shape
    x = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
    bias = torch.zeros(channels, requires_grad=True) if activation else None
    pads = same_padding(side, kernel, stride)

    def by_torch() -> Tensor:
        padded, around = (x, pads[0]) if pads[0] == pads[1] else (F.pad(x, (*pads, *pads)), 0)
        out = F.conv2d(padded, weight, bias, stride, around, groups=channels)
        return F.relu6(out) if activation else out

    def ours() -> Tensor:
        bounds = (0.0, 6.0) if activation else None
        return depthwise.depthwise_conv2d(x, weight, bias, (stride, stride), (pads, pads), bounds)

    grad = torch.randn_like(by_torch())
    inputs = [value for value in (x, weight, bias) if value is not None]
    works = {
        f"{name} {part}": work
        for name, convolve in (("torch", by_torch), ("ours", ours))
        for part, work in (
            ("forward", convolve),
            ("with backward", lambda convolve=convolve: torch.autograd.grad(convolve(), inputs, grad)),
        )
    }
    return seconds(works, repeats)


def of_step(name: str, side: int, batch: int, repeats: int) -> dict[str, float]:
    model = build(name, **({"pretrained": False} if name == "efficientnet" else {})).train_mode()
    images = torch.rand(batch, 3, side, side)
    kernel = depthwise.kernel()

    def step(with_kernel: bool) -> None:
        depthwise.kernel = lambda: kernel if with_kernel else None  # type: ignore[assignment]
        model.zero_grad()
        model(images).joints.square().sum().backward()

    try:
        return seconds({"torch": lambda: step(False), "ours": lambda: step(True)}, repeats)
    finally:
        depthwise.kernel = lambda: kernel  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    if depthwise.kernel() is None:
        raise SystemExit("there is no kernel here to be compared: install g++")
    machine = f"{processor()}, {args.threads} threads, torch {torch.__version__}, batch {args.batch}"
    print(f"{machine}; ms, forward / with backward")
    report: dict[str, Any] = {"machine": machine, "shapes": {}, "steps": {}}
    for label, shapes in (("BlazePose", BLAZEPOSE), ("Lite0", lite0())):
        for shape in shapes:
            found = of_shape(shape, label == "BlazePose", args.batch, args.repeats)
            channels, side, kernel, stride = shape
            name = f"{label} {channels} channels, {side} px, {kernel} x {kernel}, stride {stride}"
            parts = ("forward", "with backward")
            theirs, ours = ([found[f"{who} {part}"] for part in parts] for who in ("torch", "ours"))
            times = "; ".join(
                f"{who} {' / '.join(f'{1e3 * value:.2f}' for value in values)}"
                for who, values in (("torch", theirs), ("ours", ours))
            )
            print(f"{name}: {times}; {theirs[0] / ours[0]:.2f} / {theirs[1] / ours[1]:.2f} times", flush=True)
            report["shapes"][name] = found
    for name, side in STEPS.items():
        found = of_step(name, side, args.batch, args.repeats)
        times = f"torch {1e3 * found['torch']:.0f}, ours {1e3 * found['ours']:.0f}"
        print(f"a step of {name} at {side} px: {times}; {found['torch'] / found['ours']:.2f} times", flush=True)
        report["steps"][name] = found
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
