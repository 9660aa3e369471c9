"""Fine-tuning as an object that steps, and can be saved and continued exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from posegen.body.skeleton import free_skeleton, scene_skeleton, skeleton_of
from posegen.config_types import typed
from posegen.errors import ConfigError, DataError
from posegen.estimator import trainable
from posegen.estimator.augment import AugmentConfig, augment
from posegen.estimator.base import LEARNING_RATE
from posegen.estimator.labels import Labels, LossWeights, follow_crop, supervised_loss
from posegen.estimator.preprocess import to_float
from posegen.finetune.config import FinetuneConfig
from posegen.finetune.objective import Teaching, labels_of_rows
from posegen.parallel import Parallel
from posegen.seeds import torch_generator

COLUMNS = ("image", "pose", "betas", "camera_R", "joints3d_cam_m", "joints2d_px")


def load_source_rows(directory: str) -> dict[str, Tensor]:
    """The source rows of a shard folder, in memory."""
    from posegen.shards.reader import read_shards
    from posegen.shards.table import table_to_tensors

    return table_to_tensors(read_shards(directory).table(COLUMNS), COLUMNS)


def _teachings(config: Mapping[str, Any], estimator: Any) -> dict[str, Teaching]:
    """What generated rows, which ride on the scenes' body, and source rows, on the free one, teach an estimator."""
    skeleton = skeleton_of(estimator)
    if skeleton is None:
        return dict.fromkeys(("generated", "source"), Teaching(False, None))
    bodies = {"generated": scene_skeleton(config), "source": free_skeleton()}
    return {kind: Teaching.between(body, skeleton) for kind, body in bodies.items()}


class FinetuneLoop:
    """Fine-tunes an estimator on batches of source and generated rows.

    Randomness of step k is a function of the seed, k and the rank alone, so nothing of it needs saving.

    Args:
        config: the plain dict of posegen.config.PosegenConfig, with "source_rows" (a folder of shards) added if any
            share of the batch is source.
        device: where to compute.
        wrap: wraps the trainable module for data-parallel training.
        rank, world_size: this worker among all.
        estimator, source: built from the config if not given.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        device: str | torch.device = "cpu",
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        rank: int = 0,
        world_size: int = 1,
        estimator: Any = None,
        source: Mapping[str, Tensor] | None = None,
    ) -> None:
        from posegen.scenes.world import build_estimator

        self.settings = typed(FinetuneConfig, config["finetune"], "finetune")
        cfg = self.settings
        self.device = torch.device(device)
        self.parallel = Parallel(rank, world_size)
        self.seed = int(config["seed"])
        source_rows = round(cfg.batch * cfg.source_share)
        self.source_batch = source_rows
        self.parallel.share(source_rows, "finetune.batch * finetune.source_share")
        self.batch_rows = self.parallel.share(cfg.batch - source_rows, "finetune.batch * (1 - finetune.source_share)")
        self.source = source
        if source_rows and source is None:
            self.source = load_source_rows(config["source_rows"])
        if source_rows and not len(self.source["image"]):  # type: ignore[index]
            raise DataError("the source has no rows", where=config.get("source_rows"))
        if estimator is None:
            estimator = build_estimator(config, self.device, config.get("estimator_weights"))
        if not trainable(estimator):
            raise ConfigError(
                f"estimator {getattr(estimator, 'name', estimator)!r} has no weights to fine-tune", where="estimator"
            )
        self.estimator = cast(Any, estimator.to(self.device))
        self.teaching = _teachings(config, estimator)
        self.estimator.requires_grad_(True)
        self.estimator.train_mode(frozen_batchnorm=cfg.frozen_batchnorm)
        recommended = getattr(self.estimator, "learning_rate", LEARNING_RATE)
        self.peak_rate = float(recommended if cfg.learning_rate is None else cfg.learning_rate)
        self.optimiser = torch.optim.AdamW(
            [p for p in self.estimator.parameters() if p.requires_grad],
            lr=self.peak_rate,
            weight_decay=cfg.weight_decay,
        )
        self.averaged = {name: value.detach().clone() for name, value in self.estimator.state_dict().items()}
        self.wrapped = wrap(self.estimator)
        self.weights = LossWeights(cfg.weight_joints, cfg.weight_rotations, cfg.weight_betas, cfg.weight_joints_crop)
        self.augmentation = AugmentConfig()
        self.step_index = 0
        self.steps = cfg.steps

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to zero."""
        cfg = self.settings
        up = min(1.0, (step + 1) / max(1, cfg.warmup_steps))
        return self.peak_rate * up * (1 - step / cfg.steps)

    def _source_part(self) -> dict[str, Tensor]:
        assert self.source is not None
        generator = torch_generator(self.seed, "finetune", "source", self.step_index)
        chosen = torch.randint(len(self.source["image"]), (self.source_batch,), generator=generator)
        mine = self.parallel.slice(chosen)
        return {name: self.source[name][mine] for name in COLUMNS}

    def step(self, generated: Mapping[str, Tensor]) -> dict[str, float]:
        """One optimiser step.

        Args:
            generated: `batch_rows` rows, this rank's; columns as in posegen.shards.schema, more are ignored.
        """
        if self.batch_rows and len(generated["image"]) != self.batch_rows:
            raise DataError(f"a step takes {self.batch_rows} generated rows, got {len(generated['image'])}")
        parts = {}
        if self.batch_rows:
            parts["generated"] = {name: generated[name].to(self.device) for name in COLUMNS}
        if self.source_batch:
            parts["source"] = {name: value.to(self.device) for name, value in self._source_part().items()}
        labels = Labels.cat([labels_of_rows(rows, self.teaching[kind]) for kind, rows in parts.items()])
        images = to_float(torch.cat([rows["image"] for rows in parts.values()]))
        if self.settings.augment:
            generator = torch_generator(self.seed, "finetune", "augment", self.step_index, self.parallel.rank)
            images, zoom, shift = augment(images, self.augmentation, generator)
            labels = follow_crop(labels, zoom, shift)
        rate = self.learning_rate(self.step_index)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = supervised_loss(self.wrapped(images), labels, self.weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.estimator.parameters(), self.settings.clip)
        self.optimiser.step()
        self.step_index += 1
        self._average()
        return {"loss": float(loss.detach()), "learning_rate": rate, "gradient_norm": float(norm)}

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.average, (1 + self.step_index) / (10 + self.step_index))
        for name, value in self.estimator.state_dict().items():
            if self.settings.average and value.is_floating_point():
                self.averaged[name].lerp_(value, 1 - decay)
            else:
                self.averaged[name].copy_(value)

    def finish(self) -> Any:
        """The estimator with its averaged weights, in evaluation mode."""
        self.estimator.load_state_dict(self.averaged)
        return self.estimator.eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: tensors and numbers only."""
        return {
            "step": self.step_index,
            "estimator": self.estimator.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.estimator.load_state_dict(state["estimator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["averaged"].items():
            self.averaged[name].copy_(value)
        self.step_index = int(state["step"])
