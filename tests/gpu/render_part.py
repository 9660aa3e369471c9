"""The field's paths on a card: milliseconds an image, pictures a second, bytes moved, and the slowest kernels."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from render import FLOP_BACKWARD, FLOP_FORWARD, samples_of, scenes, work_of
from timing import copy_bytes_per_s, median_s, report
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from posegen.renderer import composite
from posegen.renderer.field.artifact import with_config
from posegen.renderer.field.field import ArticulatedField, load_field

CARD = [(128, 256), (128, 32), (512, 32), (512, 256)]  # size px, batch
TINY = [(32, 2)]
nerfacc_is_usable = composite.nerfacc_is_usable


class BytesMoved(TorchDispatchMode):
    """Counts the bytes that torch's operations read and write; views and what is not torch's count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(
            returned.alias_info is not None and not returned.alias_info.is_write for returned in func._schema.returns
        ):
            return result
        self.calls += 1
        for value in (*args, *(kwargs or {}).values(), result):
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if isinstance(tensor, Tensor):
                    self.count += tensor.numel() * tensor.element_size()
        return result


def paths(device: torch.device) -> dict[str, Callable[[ArticulatedField], None]]:
    """The ways to render that there are here, and how to choose each."""

    def chosen(backend: str, nerfacc: bool) -> Callable[[ArticulatedField], None]:
        def choose(field: ArticulatedField) -> None:
            with_config(field, backend=backend)
            composite.nerfacc_is_usable = nerfacc_is_usable if nerfacc else lambda: False  # type: ignore[assignment]

        return choose

    found = {"torch": chosen("eager", False)}
    if device.type == "cuda" and nerfacc_is_usable():
        found = {"nerfacc": chosen("eager", True), **found}
    if device.type == "cpu":
        found = {"fused": chosen("fused", False), **found}
    return found


def measure(field: ArticulatedField, size: int, batch: int, copy: float, repeats: int) -> None:
    device = field.table.device
    scene = scenes(field, batch, size).to(device)
    samples = samples_of(field, scene[: min(batch, 8)])
    for name, choose in paths(device).items():
        choose(field)
        for what, work in zip(("forward", "both"), work_of(field, scene), strict=True):
            key = f"{size}px_b{batch}_{name}_{what}"
            try:
                seconds = median_s(work, device, repeats, 2)
                with BytesMoved() as moved:
                    work()
            except torch.OutOfMemoryError:
                report(**{key: "out of memory"})
                torch.cuda.empty_cache()
                continue
            flop = samples * batch * (FLOP_FORWARD + (FLOP_BACKWARD if what == "both" else 0))
            report(**{
                f"{key}_ms_an_image": 1e3 * seconds / batch,
                f"{key}_pictures_a_second": batch / seconds,
                f"{key}_share_of_copy": moved.count / seconds / copy,
                f"{key}_more": {
                    "seconds": seconds, "bytes": moved.count, "operations": moved.calls, "samples_an_image": samples,
                    "flop_a_second": flop / seconds,
                    "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
                },
            })  # fmt: skip


def profiled(field: ArticulatedField, size: int, batch: int, file: Path) -> None:
    """Writes the slowest kernels of one forward and backward pass of each path, and reports the first."""
    from torch.profiler import ProfilerActivity, profile

    device = field.table.device
    scene = scenes(field, batch, size).to(device)
    on_card = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    texts = []
    for name, choose in paths(device).items():
        choose(field)
        _, both = work_of(field, scene)
        both()
        with profile(activities=activities) as found:
            both()
            if on_card:
                torch.cuda.synchronize()
        events = found.key_averages()
        key = "self_device_time_total" if on_card else "self_cpu_time_total"
        texts.append(f"== {size} px, batch {batch}, {name}\n" + events.table(sort_by=key, row_limit=30,
                                                                          max_name_column_width=90))  # fmt: skip
        kernels = [e for e in events if e.device_type.name == ("CUDA" if on_card else "CPU")]
        slowest = sorted(kernels, key=lambda e: -getattr(e, key))[:6]
        report(**{
            f"profile_{name}": [(e.key[:70], e.count, round(getattr(e, key) / 1e3, 3)) for e in slowest],
            f"profile_{name}_kernels": sum(e.count for e in kernels),
            f"profile_{name}_kernels_ms": sum(getattr(e, key) for e in kernels) / 1e3,
        })  # fmt: skip
        file.write_text("\n\n".join(texts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--profile", type=Path, required=True)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    copy = copy_bytes_per_s(device, 16 if arguments.tiny else 4096)
    report(copy_tb_a_second=copy / 1e12)
    if device.type == "cuda":
        report(nerfacc_runs=nerfacc_is_usable())
    field = load_field().to(device).requires_grad_(False)
    sizes = TINY if arguments.tiny else CARD
    measure(field, *sizes[0], copy, 2 if arguments.tiny else 15)
    profiled(field, *sizes[0], arguments.profile)
    for size, batch in sizes[1:]:
        measure(field, size, batch, copy, 8)


if __name__ == "__main__":
    main()
