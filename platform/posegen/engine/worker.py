"""What runs in a Ray Train worker: builds a loop, resumes it, steps it, reports and checkpoints.

A loop (posegen.loops) knows nothing of Ray: it is given a `wrap` that makes a module data-parallel.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import torch
import torch.distributed
from torch import nn

from posegen.errors import CheckpointError
from posegen.files.versions import load_state, save_state
from posegen.loops import Batches, NoBatches, loop_class, on_cpu, version_of
from posegen.machine import keep_freed_memory

STATE_FILE = "state.pt"
STATE_FORMAT = 1  # of that file


def wrap(module: nn.Module) -> nn.Module:
    """Puts a module on the worker's device and, with several workers, averages its gradients (DDP).

    Buffers are not broadcast: a discriminator runs forward several times before one backward, and a broadcast in
    between would change tensors that autograd still needs. Modules without trainable parameters stay as they are.
    """
    import ray.train.torch

    if not any(parameter.requires_grad for parameter in module.parameters()):
        return module.to(ray.train.torch.get_device())
    return ray.train.torch.prepare_model(module, parallel_strategy_kwargs={"broadcast_buffers": False})


def load_checkpoint(checkpoint: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """The state in a Ray Train checkpoint. CheckpointError when it is damaged."""
    with checkpoint.as_directory() as folder:
        return load_state(
            os.path.join(folder, STATE_FILE),
            STATE_FORMAT,
            "the training's checkpoint",
            f"rm -r {checkpoint.path}  # the run then continues from the one before it",
            error=CheckpointError,
            map_location=map_location,
        )


class ReportClock:
    """Says when to report: never faster than Ray's controller takes reports, or they would hold up the training.

    The controller polls (RAY_TRAIN_HEALTH_CHECK_INTERVAL_S), takes one report a poll, and a second report waits for
    it. All ranks have to report alike, so the first rank's clock decides for all.
    """

    def __init__(self, every_steps: int, interval_s: float, world_size: int) -> None:
        self.every_steps, self.interval_s, self.world_size = every_steps, interval_s, world_size
        self.last = time.monotonic()

    def due(self, step: int) -> bool:
        if step % self.every_steps:
            return False
        due = torch.tensor([time.monotonic() - self.last >= self.interval_s])
        if self.world_size > 1:
            from ray.train.torch import get_device

            on_device = due.to(torch.uint8).to(get_device())
            torch.distributed.broadcast(on_device, src=0)
            due = on_device
        return bool(due.item())

    def reported(self) -> None:
        self.last = time.monotonic()


def _resumed(loop: Any, batches: Batches, device: torch.device) -> dict[str, Any] | None:
    """Puts loop and batches where the run's last checkpoint was; its state, None where there is none."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    state = load_checkpoint(checkpoint, device)
    loop.load_state_dict(state["loop"])
    batches.load_state_dict(state["batches"])
    return state


def _report_with(report: dict[str, Any], state: dict[str, Any] | None) -> None:
    """Reports at a checkpoint, with the state in the first worker and None in the others."""
    import ray.train

    with tempfile.TemporaryDirectory() as folder:
        if state is not None:
            save_state(on_cpu(state), os.path.join(folder, STATE_FILE), STATE_FORMAT)
        saved = ray.train.Checkpoint.from_directory(folder) if state is not None else None
        ray.train.report(report, checkpoint=saved)


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's function for one worker. `settings` is made by posegen.engine.train.run_training."""
    import ray.train.torch

    from posegen.engine.network import check_cuda

    keep_freed_memory()
    check_cuda()
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(settings["threads"])  # Ray sets OMP_NUM_THREADS=1 for a worker of one CPU
    device = ray.train.torch.get_device()
    begun = {} if settings["begin"] is None else {"tables": settings["begin"]()}
    loop = loop_class(settings["kind"])(settings["config"], device=device, wrap=wrap, rank=rank, world_size=world_size)
    batches: Batches = (settings["batches"] or NoBatches)(
        settings["config"], loop=loop, rank=rank, world_size=world_size, **begun
    )
    publish = settings["publish"] if rank == 0 else None
    resumed_from = 0
    state = _resumed(loop, batches, device)
    if state is not None:
        resumed_from = loop.step_index
        if publish is not None:  # whoever takes the newest weights has lost them if the driver was started again
            publish(version_of(resumed_from, settings["checkpoint_every"]), on_cpu(state["loop"]))
    rows: list[dict[str, float]] = []
    waited_s = worked_s = overhead_s = 0.0
    source = iter(batches)
    clock = ReportClock(settings["report_every"], settings["report_interval_s"], world_size)
    while loop.step_index < loop.steps:
        began = time.perf_counter()
        batch = next(source)
        got = time.perf_counter()
        metrics = loop.step(*batch)
        waited_s, worked_s = waited_s + got - began, worked_s + time.perf_counter() - got
        step = loop.step_index  # counts finished steps
        rows.append({"step": step, **{name: float(value) for name, value in metrics.items()}, **batches.metrics()})
        last = step >= loop.steps
        save = last or step % settings["checkpoint_every"] == 0
        if not (save or clock.due(step)):
            continue
        report = {
            "step": step, "steps": loop.steps, "rows": rows, "waited_s": waited_s, "worked_s": worked_s,
            "world_size": world_size, "resumed_from": resumed_from, "pid": os.getpid(),
            "fingerprint": settings["fingerprint"],
        }  # fmt: skip
        rows, waited_s, worked_s = [], 0.0, 0.0
        began = time.perf_counter()
        if not save:
            ray.train.report(report)
            overhead_s += time.perf_counter() - began
            clock.reported()
            continue
        state = {"loop": loop.state_dict(), "batches": batches.state_dict(), "step": step}
        _report_with(report, state if rank == 0 else None)
        if publish is not None:
            publish(version_of(step, settings["checkpoint_every"]), on_cpu(state["loop"]))
        overhead_s += time.perf_counter() - began
        clock.reported()
    return {"overhead_s": overhead_s}
