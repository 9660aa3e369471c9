"""Fine-tuning as an object that steps, and can be saved and continued exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from posegen.body.model import BodyModel, load_body
from posegen.body.skeleton import free_skeleton, scene_skeleton, skeleton_of
from posegen.config.schema import PosegenConfig
from posegen.config.task import ArmTask
from posegen.errors import ConfigError, DataError
from posegen.estimator import trainable
from posegen.estimator.augment import AugmentConfig, augment
from posegen.estimator.labels import Labels, LossWeights, follow_crop, supervised_loss
from posegen.estimator.preprocess import to_float
from posegen.estimator.weak_labels import WeakRows
from posegen.feedback.errors3d import image_error_m
from posegen.finetune import optimisers
from posegen.finetune.guard import Guard, GuardSettings
from posegen.finetune.keep import OldAnswers, StartingPoint, check_keep
from posegen.finetune.objective import Teaching, labels_of_rows
from posegen.finetune.target_share import TargetShare, following
from posegen.parallel import Parallel
from posegen.scene import Prediction
from posegen.seeds import torch_generator
from posegen.target.lifted import Lifted, read_lifted
from posegen.target.people import People, read_people

KEEP_WEIGHTS = {"none": 0.0, "l2sp": 100.0, "distill": 5.0}
COLUMNS = ("image", "pose", "betas", "camera_R", "joints3d_cam_m", "joints2d_px")


def load_source_rows(directory: str) -> dict[str, Tensor]:
    """The source rows of a shard folder, in memory."""
    from posegen.shards.reader import read_shards
    from posegen.shards.table import table_to_tensors

    return table_to_tensors(read_shards(directory).table(COLUMNS), COLUMNS)


def _source_of(task: ArmTask, given: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """Rows of the source, as given or from the task's folder. Raises ConfigError or DataError without any."""
    if given is None and task.source_rows is None:
        raise ConfigError("rows of the source need their folder", where="finetune.source_share")
    source = load_source_rows(str(task.source_rows)) if given is None else given
    if not len(source["image"]):
        raise DataError("the source has no rows", where=task.source_rows)
    return source


def _people_of(task: ArmTask, given: People | None) -> People:
    """The target's people, as given or from the task's file. Raises ConfigError without one."""
    if given is not None:
        return given
    if task.target is None:
        raise ConfigError(
            "a share of the batch is of the target, and none is given", where="finetune.target_share",
            next_command="target.images=FOLDER target.keypoints=FILE",
        )  # fmt: skip
    return read_people(Path(task.target.people))


def _lifted_of(task: ArmTask) -> tuple[Lifted, BodyModel] | None:
    """The target's lifted people with their body, from the task's file; None where they do not teach.

    Raises ConfigError without one.
    """
    body = task.config.body
    if task.config.finetune.target_labels != "lifted":
        return None
    if task.target is None:
        raise ConfigError("lifted people are to teach, and nobody was lifted", where="finetune.target_labels")
    return read_lifted(task.target.lifted), load_body(body.path, resolution=body.resolution)


def _teachings(config: PosegenConfig, estimator: Any) -> dict[str, Teaching]:
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
        task: the arm and round, with `source_rows` if any share of the batch is source.
        device: where to compute.
        wrap: wraps the trainable module for data-parallel training.
        rank, world_size: this worker among all.
        estimator, source, target: built from the task if not given.
    """

    def __init__(
        self,
        task: ArmTask,
        device: str | torch.device = "cpu",
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        rank: int = 0,
        world_size: int = 1,
        estimator: Any = None,
        source: Mapping[str, Tensor] | None = None,
        target: People | None = None,
    ) -> None:
        from posegen.estimator.configured import build_estimator

        config = task.config
        self.settings = config.finetune
        cfg = self.settings
        self.device = torch.device(device)
        self.parallel = Parallel(rank, world_size)
        self.seed = config.seed
        generated, source_rows, target_rows = cfg.parts()
        self.source_batch = source_rows
        self.parallel.share(source_rows, "finetune.batch * finetune.source_share")
        self.batch_rows = self.parallel.share(generated, "finetune.batch * (1 - source_share - target_share)")
        self.source = _source_of(task, source) if source_rows else source
        if estimator is None:
            estimator = build_estimator(config, self.device, task.estimator_weights)
        if not trainable(estimator):
            raise ConfigError(f"estimator {estimator.name!r} has no weights to fine-tune", where="estimator")
        self.estimator = cast(Any, estimator.to(self.device))
        self.teaching = _teachings(config, estimator)
        self.target = None
        if target_rows:
            shown = _people_of(task, target)
            self.target = TargetShare(shown, cfg, estimator, self.seed, self.parallel, _lifted_of(task))
        self.estimator.requires_grad_(True)
        self.estimator.train_mode(frozen_batchnorm=cfg.frozen_batchnorm)
        name, self.peak_rate, every = optimisers.choose(cfg, self.estimator)
        self.optimiser = optimisers.build(name, self.estimator.named_parameters(), self.peak_rate, cfg.weight_decay)
        self.averaged = {name: value.detach().clone() for name, value in self.estimator.state_dict().items()}
        self.wrapped = wrap(self.estimator)
        self.weights = LossWeights(cfg.weight_joints, cfg.weight_rotations, cfg.weight_betas, cfg.weight_joints_crop)
        self.augmentation = AugmentConfig()
        check_keep(cfg.keep, source_rows)
        self.keep_weight = KEEP_WEIGHTS[cfg.keep] if cfg.keep_weight is None else cfg.keep_weight
        self.starting_point = StartingPoint(self.estimator) if cfg.keep == "l2sp" else None
        self.old_answers = OldAnswers(self.estimator) if cfg.keep == "distill" else None
        self.held: dict[str, Mapping[str, Tensor]] = {}
        settings = GuardSettings(every, cfg.guard_factor, cfg.guard_back_off, cfg.guard_tries)
        self.guard = Guard(settings, self._trained, self._put_back, self._held_errors_mm)
        self.held_out_rows = self._share_of_held_rows() if every and self.batch_rows else 0
        self.source_rows = 0 if self.source is None else len(self.source["image"])  # those that are trained on
        if every and source_rows:
            self._hold_out_source()
        self.step_index = 0
        self.steps = cfg.steps

    def _hold_out_source(self) -> None:
        """The last rows of the source are only measured; this rank's share of them."""
        assert self.source is not None
        self.source_rows -= min(self.settings.guard_rows, self.source_rows // 4)
        mine = slice(self.source_rows + self.parallel.rank, None, self.parallel.world_size)
        self.held["source"] = {name: self.source[name][mine] for name in COLUMNS}

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to zero."""
        cfg = self.settings
        up = min(1.0, (step + 1) / max(1, cfg.warmup_steps))
        return self.peak_rate * up * (1 - step / cfg.steps)

    def _share_of_held_rows(self) -> int:
        return -(-self.settings.guard_rows // self.parallel.world_size)

    def hold_out(self, generated: Mapping[str, Tensor]) -> None:
        """Generated rows that are only measured, `held_out_rows` or so on each rank; before the first step."""
        self.held["generated"] = {name: generated[name] for name in COLUMNS}

    @torch.no_grad()
    def _held_errors_mm(self) -> dict[str, Tensor]:
        """The averaged weights' MPJPE on held-out rows (n,) of all ranks, by kind; of the target its reprojection."""
        self.estimator.eval()
        errors = {
            kind: 1000 * self._averaged_errors(rows["image"], rows["joints3d_cam_m"], image_error_m)
            for kind, rows in self.held.items()
        }
        if self.target is not None and self.target.held is not None:
            held = self.target.held
            errors["target"] = self._averaged_errors(held.images, held.keypoints, self.target.error)
        self.estimator.train()
        shared = {kind: self.parallel.gather_uneven(found).cpu() for kind, found in errors.items()}
        return {kind: found for kind, found in shared.items() if len(found)}

    def _averaged_errors(self, images: Tensor, truth: Tensor, error: Callable[[Prediction, Tensor], Tensor]) -> Tensor:
        """Errors (n,) of the averaged weights on n pictures, batch by batch."""
        found = [torch.zeros(0, device=self.device)]
        for start in range(0, len(images), self.settings.batch):
            part = slice(start, start + self.settings.batch)
            shown = to_float(images[part].to(self.device))
            prediction = torch.func.functional_call(self.estimator, self.averaged, (shown,))
            found.append(error(prediction, truth[part].to(self.device)))
        return torch.cat(found)

    def _source_part(self) -> dict[str, Tensor]:
        assert self.source is not None
        generator = torch_generator(self.seed, "finetune", "source", self.step_index)
        chosen = torch.randint(self.source_rows, (self.source_batch,), generator=generator)
        mine = self.parallel.slice(chosen)
        return {name: self.source[name][mine] for name in COLUMNS}

    def step(self, generated: Mapping[str, Tensor] = MappingProxyType({})) -> dict[str, float]:
        """One optimiser step.

        Args:
            generated: `batch_rows` rows, this rank's, none where a batch is of other kinds alone; columns as in
                posegen.shards.schema, more are ignored.
        """
        self.guard.begin(self.step_index)
        if self.batch_rows and len(generated["image"]) != self.batch_rows:
            raise DataError(f"a step takes {self.batch_rows} generated rows, got {len(generated['image'])}")
        parts = {}
        if self.batch_rows:
            parts["generated"] = {name: generated[name].to(self.device) for name in COLUMNS}
        if self.source_batch:
            parts["source"] = {name: value.to(self.device) for name, value in self._source_part().items()}
        labelled = [labels_of_rows(rows, self.teaching[kind]) for kind, rows in parts.items()]
        labels = Labels.cat(labelled) if labelled else None
        known = len(labels) if labels is not None else 0
        pictures = [to_float(rows["image"]) for rows in parts.values()]
        weak = self.target.rows(self.step_index).to(self.device) if self.target is not None else None
        if weak is not None:
            pictures.append(to_float(weak.images))
        images = torch.cat(pictures)
        if self.settings.augment:
            generator = torch_generator(self.seed, "finetune", "augment", self.step_index, self.parallel.rank)
            images, zoom, shift = augment(images, self.augmentation, generator)
            labels = follow_crop(labels, zoom[:known], shift[:known]) if labels is not None else None
            if weak is not None:
                weak = replace(weak, keypoints=following(weak.keypoints, zoom[known:], shift[known:]))
        rate = self.learning_rate(self.step_index) * self.guard.scale
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        prediction = self.wrapped(images)
        loss, told = self._loss(prediction, labels, weak)
        if self.starting_point is not None or self.old_answers is not None:
            kept = self._kept(prediction, images)
            told["kept"] = float(kept.detach())
            loss = loss + self.keep_weight * kept
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.estimator.parameters(), self.settings.clip)
        told |= {"loss": float(loss.detach()), "learning_rate": rate, "gradient_norm": float(norm)}
        self.step_index += 1
        # Of all ranks: they go back together or not at all.
        if self.guard.sound(told["gradient_norm"], float(self.parallel.gather(loss.detach()[None]).sum())):
            self.optimiser.step()
            self._average()
        else:
            self.guard.blown_up(self.step_index, f"the loss is {told['loss']}, its gradient {told['gradient_norm']}")
            told |= self.guard.metrics()
        if self.guard.due(self.step_index, self.steps):
            told |= self.guard.check(self.step_index)
            if self.step_index == self.steps:
                self.guard.go_to_kept()
        return told

    def _loss(
        self, prediction: Prediction, labels: Labels | None, weak: WeakRows | None
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch whose rows with labels come first, those of the target after them."""
        known = len(labels) if labels is not None else 0
        loss = prediction.joints.new_zeros(())
        told: dict[str, float] = {}
        if labels is not None:
            loss = loss + supervised_loss(prediction[:known], labels, self.weights)
        if weak is not None:
            assert self.target is not None
            taught = self.target.loss(prediction[known:], weak, known)
            told["loss_target"] = float(taught.detach())
            loss = loss + taught
        return loss, told

    def _kept(self, prediction: Prediction, images: Tensor) -> Tensor:
        """How far the weights, or the answers on the batch's source rows, are from the old ones."""
        if self.starting_point is not None:
            return self.starting_point()
        assert self.old_answers is not None
        source = slice(self.batch_rows, self.batch_rows + self.source_batch // self.parallel.world_size)
        return self.old_answers(prediction[source], images[source])

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

    def _trained(self) -> dict[str, Any]:
        """What training changes."""
        return {
            "estimator": self.estimator.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
        }

    def _put_back(self, state: Mapping[str, Any]) -> None:
        self.estimator.load_state_dict(state["estimator"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))  # it keeps the tensors that it is given
        for name, value in state["averaged"].items():
            self.averaged[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: tensors and numbers only."""
        return {"step": self.step_index, **self._trained(), "guard": self.guard.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._put_back(state)
        self.guard.load_state_dict(state["guard"])
        self.step_index = int(state["step"])
