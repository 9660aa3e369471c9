"""A training that follows the clock: it renders and learns in turn until its time is over, and can be continued.

The learning rate warms up, then falls along a cosine, both over shares of the time: a fast machine makes more steps of
the same schedule. What is kept is a running average of the weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posegen.config_types import check_rules, number, share
from posegen.errors import CheckpointError, PosegenError
from posegen.estimator.blazepose import as_it_looks
from posegen.estimator.checkpoint import write_torch
from posegen.estimator.hmr import Hmr
from posegen.estimator.hmr_lite import HmrLite
from posegen.estimator.labels import LossWeights, supervised_loss
from posegen.estimator.preprocess import to_float
from posegen.feedback.errors3d import image_error_m
from posegen.files.torch_files import read_torch
from posegen.finetune.relative_adam import RelativeAdam
from posegen.pretrain.augment import Augment
from posegen.pretrain.pictures import Pictures, PictureStore
from posegen.scene import Prediction
from posegen.seeds import derive

STATE = ("model", "averaged", "optimisers", "step", "seconds", "next_id")
WEIGHTS = LossWeights(rotations=3.0)  # of the loss, as in fine-tuning


@dataclass(frozen=True)
class PretrainConfig:
    """How long, and how."""

    seconds: float = number(240.0, above=0)  # of rendering and learning; not of evaluation
    batch: int = number(256, low=2)
    learning_rate: float = number(1e-3, above=0)  # of the head, by AdamW
    trunk_rate: float = number(3e-4, above=0)  # of the trunk, by steps relative to its channels' sizes
    warmup_share: float = share(0.03)  # of the time
    weight_decay: float = number(0.02, low=0)
    clip: float = number(2.0, above=0)  # of the head's gradient; steps of the trunk are bounded as they are
    average: float = share(0.998)  # decay of the running average
    head_steps: int = number(600, low=0)  # of the head alone, before the clock starts
    head_batch: int = number(256, low=2)
    head_dropout: float = share(0.2)
    render_share: float = share(0.4)  # of the time
    render_batch: int = number(256, low=1)
    first_rows: int = number(20_000, low=1)  # before the clock starts
    block: int = number(8, low=1)  # steps between two looks at the clock
    seed: int = 0

    def __post_init__(self) -> None:
        check_rules(self, "pretraining")


class Pretraining:
    """Trains a model on the rows of a store.

    Args:
        model: with the weights to start from; on the store's device.
        store: that refills itself.
        clock: seconds that only grow.
    """

    def __init__(
        self, model: HmrLite, store: PictureStore, config: PretrainConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self.store = store
        self.device = store.maker.device
        self.model = model
        self.averaged = copy.deepcopy(model).requires_grad_(False).eval()
        self.model.train_mode(frozen_batchnorm=False)
        trunk = list(model.backbone.network.named_parameters())
        apart = {id(parameter) for _, parameter in trunk}
        self.head = [parameter for parameter in model.parameters() if id(parameter) not in apart]
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(
                [
                    {"params": [p for p in self.head if p.dim() > 1], "weight_decay": config.weight_decay},
                    {"params": [p for p in self.head if p.dim() <= 1], "weight_decay": 0.0},
                ],
                lr=config.learning_rate,
                fused=self.device.type == "cuda",
            ),
            RelativeAdam(trunk, config.trunk_rate),
        )
        self.augment = Augment()
        self.clock = clock
        self.steps = 0
        self.seconds = 0.0  # of rendering and learning
        self.rendering = 0.0  # of these
        self._generator = torch.Generator(device=self.device)

    def rate_share(self, progress: float) -> float:
        """Of the learning rates, at a share of the time in [0,1]."""
        warm = self.config.warmup_share
        up = min(1.0, (progress + 1e-3) / warm) if warm else 1.0
        return up * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    @property
    def progress(self) -> float:
        return min(1.0, self.seconds / self.config.seconds)

    def fill(self, tell: Callable[[int], None] = lambda rows: None) -> None:
        """Makes the first rows. Their time does not count."""
        while self.store.made < min(self.config.first_rows, self.store.capacity):
            self.store.refill(self.config.render_batch)
            tell(self.store.made)

    def head_start(self, tell: Callable[[int], None] = lambda step: None) -> None:
        """Teaches the head what the trunk sees of the rows there are, before anything moves the trunk.

        A random head would pull a good trunk apart (Kumar et al. 2022). The rows are looked at once, without
        augmentation, which makes these steps cheap. Their time does not count.
        """
        config, model = self.config, self.model
        rows = self.store.all()
        seen = torch.cat([self._seen(rows[slice(i, i + config.batch)]) for i in range(0, len(rows), config.batch)])
        optimiser = torch.optim.AdamW(self.head, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._generator.manual_seed(derive(config.seed, "head start"))
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive(config.seed, "dropout") % (1 << 63))
            for step in range(config.head_steps):
                optimiser.param_groups[0]["lr"] = config.learning_rate * self.rate_share(step / config.head_steps)
                chosen = torch.randint(len(rows), (config.head_batch,), generator=self._generator, device=self.device)
                features = model.backbone.judged(seen[chosen], config.head_dropout)
                loss = supervised_loss(model.regressed(features), rows.labels[chosen], WEIGHTS)
                self._descend(loss, optimiser)
                tell(step + 1)
        self.averaged.load_state_dict(model.state_dict())

    @torch.no_grad()
    def _seen(self, rows: Pictures) -> Tensor:
        return self.model.backbone.seen(as_it_looks(to_float(rows.images)))

    def block(self) -> float:
        """Some steps, then as many pictures as the clock allows. Returns the steps' mean loss."""
        start = self._now()
        self._generator.manual_seed(derive(self.config.seed, "pretraining", self.steps))
        now = self.rate_share(self.progress)
        for optimiser, rate in zip(self.optimisers, (self.config.learning_rate, self.config.trunk_rate), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * now
        losses = torch.stack([self._step() for _ in range(self.config.block)])
        loss = float(losses.mean())
        if not math.isfinite(loss):
            raise PosegenError(
                f"the training blew up at step {self.steps}", where="pretraining",
                next_command="go on from its state with a lower learning rate",
            )  # fmt: skip
        learnt = self._now()
        self.seconds += learnt - start
        while self.rendering < self.config.render_share * self.seconds:
            begun = self._now()
            self.store.refill(self.config.render_batch)
            taken = self._now() - begun
            self.rendering += taken
            self.seconds += taken
        return loss

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()

    def _step(self) -> Tensor:
        rows = self.store.batch(self.config.batch, self._generator)
        images, labels = self.augment(to_float(rows.images), rows.labels, self._generator)
        prediction = self._predicted(images)
        loss = supervised_loss(prediction, labels, WEIGHTS)
        self._descend(loss, *self.optimisers)
        self.steps += 1
        self._average()
        return loss.detach()

    def _descend(self, loss: Tensor, *optimisers: torch.optim.Optimizer) -> None:
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head, self.config.clip)
        for optimiser in optimisers:
            optimiser.step()

    def _predicted(self, images: Tensor) -> Prediction:
        """Features in half precision on a GPU; what turns them into joints stays exact."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            features = self.model.features(images)
        return self.model.regressed(features.float())

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.average, (1 + self.steps) / (10 + self.steps))
        pairs = list(zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True))
        floats = [(old, new) for old, new in pairs if old.is_floating_point()]
        torch._foreach_lerp_([old for old, _ in floats], [new for _, new in floats], 1 - decay)
        for old, new in pairs:
            if not old.is_floating_point():
                old.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, but for the rows, which are made anew."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.steps,
            "seconds": self.seconds,
            "next_id": self.store.next_id,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.steps, self.seconds = int(state["step"]), float(state["seconds"])
        self.rendering = self.config.render_share * self.seconds
        self.store.next_id = int(state["next_id"])

    def save(self, path: Path) -> None:
        write_torch(self.state_dict(), path)

    def resume(self, path: Path) -> None:
        """Goes on from a file that `save` wrote."""
        state = read_torch(path)
        if not isinstance(state, dict) or set(state) != set(STATE):
            raise CheckpointError("this is no state of a pre-training", where=path, choices=STATE)
        self.load_state_dict(state)


@torch.no_grad()
def errors_mm(model: Hmr, pictures: Pictures, batch: int = 256) -> dict[str, float]:
    """MPJPE and PA-MPJPE of a model in evaluation mode on pictures that lie on its device."""
    found: dict[str, list[Tensor]] = {"mpjpe_mm": [], "pa_mpjpe_mm": []}
    for start in range(0, len(pictures), batch):
        part = pictures[slice(start, start + batch)]
        prediction = model(to_float(part.images)).to("cpu")
        for name, errors in found.items():
            errors.append(image_error_m(prediction, part.labels.joints.cpu(), name.removesuffix("_mm")))
    return {name: round(1000 * float(torch.cat(errors).mean()), 1) for name, errors in found.items()}
