"""Small loops of the same shape as the real ones, for tests of the engine alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from posegen.errors import DataError


class GanLoop:
    """A generator and a discriminator trained against each other, with one frozen network between them.

    Every rank draws the global batch from one generator and takes its slice.
    """

    def __init__(self, config, device="cpu", wrap=lambda module: module, rank=0, world_size=1):
        self.config, self.rank, self.world_size = config, rank, world_size
        torch.manual_seed(config.get("seed", 0))
        self.g = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 6)).to(device)
        self.d = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)).to(device)
        self.frozen = nn.Linear(6, 6).to(device).requires_grad_(False)
        self.g_ddp, self.d_ddp = wrap(self.g), wrap(self.d)
        self.g_optimiser = torch.optim.Adam(self.g.parameters(), 1e-2)
        self.d_optimiser = torch.optim.Adam(self.d.parameters(), 1e-2)
        self.random = torch.Generator().manual_seed(1)
        self.step_index, self.steps = 0, config["steps"]

    def slice(self, *shape):
        whole = torch.randn(*shape, generator=self.random)
        return whole.chunk(self.world_size)[self.rank]

    def step(self):
        self.misbehave()
        noise, real = self.slice(self.config["batch"], 4), self.slice(self.config["batch"], 6)
        with torch.no_grad():
            fake = self.g_ddp(noise)
        logit = self.d_ddp(torch.cat([real, fake]))
        want = torch.cat([torch.ones(len(real), 1), torch.zeros(len(fake), 1)])
        d_loss = nn.functional.binary_cross_entropy_with_logits(logit, want)
        self.d_optimiser.zero_grad()
        d_loss.backward()
        self.d_optimiser.step()
        self.d.requires_grad_(False)
        made = self.g_ddp(noise)
        g_loss = nn.functional.softplus(-self.d(made)).mean() + (self.frozen(made) ** 2).mean()
        self.g_optimiser.zero_grad()
        g_loss.backward()
        self.g_optimiser.step()
        self.d.requires_grad_(True)
        self.step_index += 1
        return {"g_loss": g_loss.item(), "d_loss": d_loss.item()}

    def misbehave(self):
        time.sleep(self.config.get("sleep", 0))
        once = self.config.get("kill_once")  # a file that says it happened already
        last = self.rank == self.world_size - 1
        if once and last and self.step_index == self.config["kill_at"] and not Path(once).exists():
            Path(once).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.get("fail_at") == self.step_index:
            raise DataError("the shard is cut short", where="part-7", next_command="posegen run")

    def state_dict(self):
        return {
            "g": self.g.state_dict(), "d": self.d.state_dict(), "step": self.step_index,
            "g_optimiser": self.g_optimiser.state_dict(), "d_optimiser": self.d_optimiser.state_dict(),
            "random": self.random.get_state(),
        }  # fmt: skip

    def load_state_dict(self, state):
        self.g.load_state_dict(state["g"])
        self.d.load_state_dict(state["d"])
        self.g_optimiser.load_state_dict(state["g_optimiser"])
        self.d_optimiser.load_state_dict(state["d_optimiser"])
        self.random.set_state(state["random"].cpu())
        self.step_index = state["step"]


def run_here(config):
    """The same loop to its end in this process, without Ray."""
    loop = GanLoop(config)
    while loop.step_index < loop.steps:
        loop.step()
    return loop.state_dict()


class RowLoop:
    """Fits a linear map to the poses of generated rows; wants `batch` rows a step in all."""

    def __init__(self, config, device="cpu", wrap=lambda module: module, rank=0, world_size=1):
        self.config, self.rank = config, rank
        torch.manual_seed(0)
        self.net = nn.Linear(72, 1)
        self.wrapped = wrap(self.net)
        self.optimiser = torch.optim.SGD(self.net.parameters(), 1e-3)
        self.batch_rows = config["batch"] // world_size
        self.step_index, self.steps = 0, config["steps"]

    def step(self, generated):
        time.sleep(self.config.get("sleep", 0))
        assert generated["image"].dtype == torch.uint8 and len(generated["row_id"]) == self.batch_rows
        once = self.config.get("kill_once")
        if once and self.step_index == self.config["kill_at"] and not Path(once).exists():
            Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        target = generated["row_id"].float()[:, None].remainder(7)
        loss = ((self.wrapped(generated["pose"].flatten(1)) - target) ** 2).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step_index += 1
        return {"loss": loss.item(), "first_row": float(generated["row_id"][0])}

    def state_dict(self):
        return {"net": self.net.state_dict(), "step": self.step_index}

    def load_state_dict(self, state):
        self.net.load_state_dict(state["net"])
        self.step_index = state["step"]


def meet(config, moment):
    """Makes the order of two runs certain: at a moment, waits for files others write and writes some itself."""
    folder = Path(config["meet"])
    for kind, name in config["at"].get(moment, ()):
        if kind == "write":
            (folder / name).touch()
        deadline = time.monotonic() + 150
        while kind == "wait" and not list(folder.glob(name)):
            if time.monotonic() > deadline:
                raise DataError(f"nobody wrote {name}", where=moment)
            time.sleep(0.02)


class MeetingGanLoop(GanLoop):
    """Its state has a generator, whose weights say which version it is."""

    def step(self):
        meet(self.config, f"train {self.step_index + 1}")
        return super().step()

    def state_dict(self):
        return super().state_dict() | {"generator": {"version": -(-self.step_index // self.config["every"])}}


class MeetingRowLoop(RowLoop):
    def step(self, generated):
        metrics = super().step(generated)
        meet(self.config, f"finetuned {self.step_index}")
        return metrics


class SameBatch:
    """The same toy rows in every step, of the size the loop wants; a posegen.engine.worker.Batches."""

    def __init__(self, task, *, loop, rank, world_size):
        from toy_render import toy_rows

        from posegen.shards import table_to_tensors

        self.batch = table_to_tensors(toy_rows(range(loop.batch_rows), task.config.image_size))

    def __iter__(self):
        while True:
            yield (self.batch,)

    def metrics(self):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        del state
