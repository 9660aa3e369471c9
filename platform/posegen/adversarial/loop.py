"""One training of a generator: draws -> scenes -> pictures -> predictions -> error -> gradient (PoseGen section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from posegen.adversarial.plausibility import FeedbackGate, Plausibility, PlausibilityMeter
from posegen.adversarial.stability import Stability, UnsoundError
from posegen.body.pose_space import joint_limit_violation_rad
from posegen.body.rotations import mirror_pose
from posegen.config.task import ArmTask
from posegen.errors import ConfigError, TrainingError
from posegen.estimator.configured import build_estimator
from posegen.estimator.crop import crop_of
from posegen.feedback import FeedbackConfig, image_error_m
from posegen.feedback import build as build_feedback
from posegen.generator.build import build_drawer, build_generator
from posegen.generator.discriminators import (
    PoseDiscriminator,
    ProjectionDiscriminator,
    ReplayPool,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)
from posegen.generator.draws import Draw
from posegen.generator.generator import Generated
from posegen.parallel import Parallel
from posegen.scene import Estimator, Scene
from posegen.scenes.world import World, build_world, real_poses
from posegen.seeds import torch_generator


class Discriminators(nn.Module):
    """Pose and projection discriminators as one module, so that data-parallel training wraps one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.pose = PoseDiscriminator()
        self.projection = ProjectionDiscriminator()

    def forward(self, pose: Tensor, joints_px: Tensor) -> tuple[Tensor, Tensor]:
        return self.pose(pose), self.projection(joints_px)


def check_gradient(settings: FeedbackConfig, estimator: Estimator) -> None:
    """Raises ConfigError where a feedback needs a gradient that the estimator does not offer."""
    if build_feedback(settings).needs_gradient and settings.name != "none" and not estimator.differentiable:
        raise ConfigError(
            f"estimator {estimator.name!r} offers no gradient, which feedback {settings.name!r} needs",
            where="feedback.name",
            choices=("score_function", "none"),
            next_command="feedback=score_function",
        )


class AdversarialLoop:
    """The loop as an object that steps, and can be saved and continued exactly.

    Every worker draws the global batch from the same seeded generator and takes its slice; the draws, the meter and
    the calibration are therefore the same on all of them, and one RNG state in the checkpoint serves any number.

    Args:
        task: the arm and round, whose configuration holds the arm's feedback.
        device: where to compute.
        wrap: wraps a trainable module for data-parallel training; the identity for one worker.
        rank, world_size: this worker among all.
        world, estimator: built from the config if not given.
    """

    def __init__(
        self,
        task: ArmTask,
        device: str | torch.device = "cpu",
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        rank: int = 0,
        world_size: int = 1,
        world: World | None = None,
        estimator: Any = None,
    ) -> None:
        config = task.config
        self.settings = config.adversarial
        self.feedback_settings = config.feedback
        self.parallel = Parallel(rank, world_size)
        self.parallel.share(self.settings.batch, "adversarial.batch")
        self.parallel.share(self.settings.feedback_batch, "adversarial.feedback_batch")
        if self.settings.feedback_batch > self.settings.batch:
            raise ConfigError("feedback_batch is larger than batch", where="adversarial.feedback_batch")
        self.device = torch.device(device)
        self.world = build_world(config, self.device) if world is None else world
        poses = real_poses(config)
        self.real = torch.cat([poses, mirror_pose(poses)])
        seed = config.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(seed, "adversarial", "init").initial_seed())
            self.generator = build_generator(config, poses, self.world.body).to(self.device)
            self.discriminators = Discriminators().to(self.device)
        self.drawer = build_drawer(config, self.generator, poses, self.world.subjects)
        self.random = torch_generator(seed, "adversarial", "draws")
        self.replay = ReplayPool(self.settings.replay, (24 * 3 + 24 * 2,))
        betas = (0.5, 0.99)
        self.optimisers = {
            "generator": torch.optim.Adam(self.generator.parameters(), self.settings.learning_rate, betas),
            "discriminators": torch.optim.Adam(self.discriminators.parameters(), self.settings.learning_rate, betas),
        }
        self.wrapped_generator = wrap(self.generator)
        self.wrapped_discriminators = wrap(self.discriminators)
        self.feedback = build_feedback(self.feedback_settings)
        self.estimator = estimator
        if self.feedback_settings.name != "none" and estimator is None:
            self.estimator = build_estimator(config, self.device, task.estimator_weights)
        self._check_estimator()
        self.crop = crop_of(self.estimator)
        self.meter = PlausibilityMeter(poses.to(self.device), self.world.body)
        self.gate: FeedbackGate | None = None
        self.last: Plausibility | None = None
        self.stability = Stability(
            self._trained, self._put_back, "the generator's training",
            "a lower adversarial.learning_rate, or feedback.weight; an arm without feedback tells which",
        )  # fmt: skip
        self.step_index = 0
        self.steps = self.settings.steps

    def _check_estimator(self) -> None:
        if self.estimator is None:
            return
        if isinstance(self.estimator, nn.Module):
            self.estimator.requires_grad_(False).eval()
        check_gradient(self.feedback_settings, self.estimator)

    # -- one step ----------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """Trains the discriminators and the generator once. Returns what a curve should show.

        Raises:
            TrainingError: losses were no numbers, or exploded, again and again; see posegen.adversarial.stability.
        """
        cfg = self.settings
        if self.gate is None:
            self._calibrate()
        if not self.stability.kept:
            self.stability.keep(self.step_index)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = cfg.learning_rate * self.stability.scale
        try:
            out = self._update()
        except UnsoundError as why:
            self.stability.blown_up(self.step_index + 1, why)
            out = self.stability.metrics()
        else:
            self.stability.passed(self.step_index + 1)
        self.step_index += 1
        if self.step_index % cfg.meter_every == 0 or self.step_index == cfg.steps:
            out.update(self._measure())
        return out

    def _update(self) -> dict[str, float]:
        """One step of all weights. UnsoundError before any has moved that would be harmed."""
        cfg = self.settings
        explore = self.feedback_settings.explore if not self.feedback.needs_gradient else 0.0
        draw = self._slice(self.drawer.draw(cfg.batch, self.random))
        generated: Generated = self.wrapped_generator(draw, explore)
        joints_px = generated.scene.camera.project(self.world.joints_m(generated.scene))
        self._check_sound("a generated pose or its projection", generated.scene.pose.flatten(1), joints_px.flatten(1))
        out: dict[str, float] = {}
        if self.step_index % cfg.discriminator_every == 0:
            out["loss_discriminator"] = self._train_discriminators(generated, joints_px)
        losses = self._generator_losses(draw, generated, joints_px)
        fed = self.step_index >= cfg.warmup_steps and self.step_index % cfg.feedback_every == 0
        if fed and self.feedback_settings.name != "none":
            losses["feedback"], errors = self._feedback(draw, generated, explore)
            out["error_mm"] = float(self.parallel.gather(errors.detach()).mean() * 1000)
        total = torch.stack([self._weight(name) * loss for name, loss in losses.items()]).sum()
        optimiser = self.optimisers["generator"]
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        out["gradient_norm"] = float(nn.utils.clip_grad_norm_(self.generator.parameters(), cfg.clip))
        self.stability.check("the generator's gradient", out["gradient_norm"])
        self.stability.check_loss(float(self.parallel.gather(total.detach()[None]).mean()))  # of all workers
        optimiser.step()
        out.update({f"loss_{name}": float(loss.detach()) for name, loss in losses.items()})
        out["loss"] = float(total.detach())
        return out

    def _check_sound(self, name: str, *values: Tensor) -> None:
        """UnsoundError unless all numbers of all workers are finite; they end a step together or not at all."""
        sums = torch.stack([value.detach().abs().sum() for value in values]).sum()[None]
        self.stability.check(name, float(self.parallel.gather(sums).sum()))

    def _weight(self, name: str) -> float:
        if name == "feedback":
            assert self.gate is not None
            return self.feedback_settings.weight * self.gate.weight
        return getattr(self.settings, f"weight_{name}")

    def _slice(self, draw: Draw) -> Draw:
        return self.parallel.slice(draw).to(self.device)

    def _real_batch(self, n: int) -> Tensor:
        """Real poses of the global batch (n,24,3), CPU."""
        return self.real[torch.randint(len(self.real), (n,), generator=self.random)]

    def _train_discriminators(self, generated: Generated, joints_px: Tensor) -> float:
        cfg = self.settings
        n = cfg.batch
        # Projections of real poses: real poses as anchors of fresh draws, seen through the unshifted camera prior.
        real_draw = self._slice(self.drawer.draw(n, self.random))
        with torch.no_grad():
            real_scene = self.generator(real_draw, shift=0.0).scene
            real_px = real_scene.camera.project(self.world.joints_m(real_scene))
        fakes = torch.cat([generated.scene.pose.detach().flatten(1), joints_px.detach().flatten(1)], 1)
        fakes = self.parallel.slice(self.replay.exchange(self.parallel.gather(fakes).detach(), self.random))
        real_pose = self.parallel.slice(self._real_batch(n)).to(self.device)
        half = len(real_pose)
        pose_scores, px_scores = self.wrapped_discriminators(
            torch.cat([real_pose, fakes[:, :72].reshape(-1, 24, 3)]),
            torch.cat([real_px, fakes[:, 72:].reshape(-1, 24, 2)]),
        )
        loss = lsgan_discriminator_loss(pose_scores[:half], pose_scores[half:])
        loss = loss + lsgan_discriminator_loss(px_scores[:half], px_scores[half:])
        optimiser = self.optimisers["discriminators"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.discriminators.parameters(), cfg.clip))
        self.stability.check("the discriminators' gradient", norm)
        optimiser.step()
        return float(loss.detach())

    def _generator_losses(self, draw: Draw, generated: Generated, joints_px: Tensor) -> dict[str, Tensor]:
        pose = generated.scene.pose
        self.discriminators.requires_grad_(False)
        pose_scores, px_scores = self.discriminators(pose, joints_px)
        self.discriminators.requires_grad_(True)
        everyone = self.parallel.gather(pose[:, 1:])
        real = self.real[:, 1:].to(self.device)
        spread = real.std(0).clamp_min(0.05)
        moments = ((everyone.mean(0) - real.mean(0)) / spread).square().mean()
        moments = moments + ((everyone.std(0) - real.std(0)) / spread).square().mean()
        return {
            "adversarial": lsgan_generator_loss(pose_scores),
            "projection": lsgan_generator_loss(px_scores),
            "moments": moments,
            "residual": generated.residual.mean(),
            "limits": joint_limit_violation_rad(pose).mean(),
        }

    # -- feedback ----------------------------------------------------------------------------------------------

    def _errors(self, scene: Scene) -> Tensor:
        """The estimator's error on each scene (B,) m, with gradient to the scene if the feedback needs one."""
        scene = self.world.cropped(scene, self.crop)
        truth = self.world.labels(scene)["joints3d_cam_m"]
        with torch.set_grad_enabled(self.feedback.needs_gradient and torch.is_grad_enabled()):
            prediction = self.estimator(self.world.photograph(scene))
            return image_error_m(prediction, truth, self.feedback_settings.error)

    def _feedback(self, draw: Draw, generated: Generated, explore: float) -> tuple[Tensor, Tensor]:
        rows = slice(0, self.parallel.share(self.settings.feedback_batch, "adversarial.feedback_batch"))
        errors = self._errors(generated.scene[rows])
        self._check_sound("the estimator's error", errors)
        log_prob = torch.zeros_like(errors)
        if explore:
            mean = generated.action[rows]
            action = (mean + explore * draw.explore[rows]).detach()
            log_prob = -0.5 * ((action - mean) / explore).square().sum(1)
        return self.feedback.loss(errors, log_prob), errors

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Measures the unshifted proposal: the meter's reference, and the errors that a band is made of."""
        cfg = self.settings
        n = max(cfg.meter_samples, cfg.calibration_images)
        draw = self.drawer.draw(n, self.random).to(self.device)
        scene = self.generator(draw, shift=0.0).scene
        reference = self.meter.measure(scene.pose[: cfg.meter_samples])
        self.gate = FeedbackGate(reference, cfg.limit_nearest_ratio, cfg.limit_violation_rad, cfg.limit_diversity_ratio)
        if self.feedback_settings.name != "none":
            chunks = scene[: cfg.calibration_images]
            errors = torch.cat([self._errors(chunks[i : i + 32]) for i in range(0, len(chunks), 32)])
            if not bool(torch.isfinite(errors).all()):
                raise TrainingError(
                    f"the estimator's error is no number on {int((~torch.isfinite(errors)).sum())} of {len(errors)} "
                    "proposals, before anything was trained", where="estimator", next_command="posegen evaluate",
                )  # fmt: skip
            self.feedback.calibrate(errors)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        draw = self.drawer.draw(self.settings.meter_samples, self.random).to(self.device)
        self.last = self.meter.measure(self.generator(draw).scene.pose)
        assert self.gate is not None
        weight = self.gate.update(self.last)
        return {
            **self.last.as_dict("meter_"),
            "feedback_gate": weight,
            "limits_broken": len(self.gate.broken(self.last)),
        }

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: tensors, numbers and strings only."""
        return {
            "step": self.step_index,
            **self._trained(),
            "replay": self.replay.items,
            "random": self.random.get_state(),
            "feedback": dict(self.feedback.state),
            "reference": {} if self.gate is None else dict(vars(self.gate.reference)),
            "measured": {} if self.last is None else dict(vars(self.last)),
            "gate": 1.0 if self.gate is None else self.gate.weight,
            "stability": self.stability.state_dict(),
        }

    def _trained(self) -> dict[str, Any]:
        """What training changes."""
        return {
            "generator": self.generator.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def _put_back(self, state: Mapping[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminators.load_state_dict(state["discriminators"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._put_back(state)
        if "stability" in state:  # checkpoints of before there was one lack it
            self.stability.load_state_dict(state["stability"])
        self.replay.items = state["replay"].cpu()
        self.random.set_state(state["random"].cpu())
        self.feedback.state = dict(state["feedback"])
        self.step_index = int(state["step"])
        self.last = Plausibility(**state["measured"]) if state["measured"] else None
        if state["reference"]:
            cfg = self.settings
            self.gate = FeedbackGate(
                Plausibility(**state["reference"]),
                cfg.limit_nearest_ratio,
                cfg.limit_violation_rad,
                cfg.limit_diversity_ratio,
            )
            self.gate.weight = float(state["gate"])
