"""One training of a generator: draws -> scenes -> pictures -> predictions -> error -> gradient (PoseGen section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from posegen.adversarial.check import check_gradient
from posegen.adversarial.gallery import TrainingGallery
from posegen.adversarial.plausibility import FeedbackGate, Plausibility, PlausibilityMeter
from posegen.adversarial.reals import Reals, noisy
from posegen.adversarial.stability import Stability, UnsoundError
from posegen.adversarial.target import GeneratorTarget, generator_target
from posegen.adversarial.teachers import teachers_of
from posegen.body.pose_space import joint_limit_violation_rad
from posegen.config.task import ArmTask
from posegen.errors import ConfigError, TrainingError
from posegen.estimator.configured import build_estimator
from posegen.estimator.crop import CropConvention, crop_of
from posegen.feedback import Sample, Signal, Surroundings, build_signal
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

    def __init__(self, joints: Sequence[int] | None = None) -> None:
        super().__init__()
        self.pose = PoseDiscriminator()
        self.projection = ProjectionDiscriminator(joints=joints)

    def forward(self, pose: Tensor, joints_px: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.pose(pose), self.projection(joints_px, seen)


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
        target: the user's own domain; read from the config's lifted target if not given, none without one.
        teachers, earlier: what signals compare the estimator with, see posegen.feedback.signals.Surroundings.
    """

    def __init__(  # noqa: PLR0913 - parts that tests and Ray hand over ready-made
        self,
        task: ArmTask,
        device: str | torch.device = "cpu",
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        rank: int = 0,
        world_size: int = 1,
        world: World | None = None,
        estimator: Any = None,
        target: GeneratorTarget | None = None,
        teachers: Sequence[Estimator] = (),
        earlier: Any = None,
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
        self.target = generator_target(config.target, task.target) if target is None else target
        self.reals = self.target.reals(poses) if self.target else Reals(poses)
        seed = config.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(seed, "adversarial", "init").initial_seed())
            self.generator = build_generator(config, poses, self.world.body).to(self.device)
            self.discriminators = Discriminators(self.reals.joints).to(self.device)
        self.drawer = build_drawer(config, self.generator, poses, self.world.subjects, self.target)
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
        self.signal: Signal | None = None
        if self.feedback_settings.name != "none":
            weak = self.target.weak_rows(self.estimator, self.feedback_settings) if self.target else None
            if earlier is None and task.earlier_weights is not None:
                earlier = build_estimator(config, self.device, task.earlier_weights)
            teachers = tuple(teachers) or teachers_of(config, self.device)
            self.signal = build_signal(
                self.feedback_settings, Surroundings(self.estimator, teachers, earlier, weak, seed)
            )
        self._check_estimator()
        self.crop = crop_of(self.estimator)
        lifted = [] if self.target is None else [self.target.anchors.pose]
        self.meter = PlausibilityMeter(torch.cat([poses, *lifted]).to(self.device), self.world.body)
        self.gate: FeedbackGate | None = None
        self.last: Plausibility | None = None
        self.stability = Stability(
            self._trained, self._put_back, "the generator's training",
            "a lower adversarial.learning_rate, or feedback.weight; an arm without feedback tells which",
        )  # fmt: skip
        self.step_index = 0
        self.steps = self.settings.steps
        self.gallery = TrainingGallery.of(task) if rank == 0 else None

    def _check_estimator(self) -> None:
        if self.estimator is None:
            return
        if isinstance(self.estimator, nn.Module):
            self.estimator.requires_grad_(False).eval()
        check_gradient(self.feedback_settings, self.estimator, self.signal is None or self.signal.needs_gradient)

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
        if self.gallery is not None:
            self.gallery.look(self)
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

    def _train_discriminators(self, generated: Generated, joints_px: Tensor) -> float:
        cfg = self.settings
        n = cfg.batch
        real_px, seen = self.reals.skeletons_of(n, self.random, self._real_projections)
        hidden = self.reals.hidden(n, self.random)
        fakes = torch.cat([generated.scene.pose.detach().flatten(1), joints_px.detach().flatten(1)], 1)
        fakes = self.replay.exchange(self.parallel.gather(fakes).detach(), self.random)
        fake_px = noisy(fakes[:, 72:].reshape(-1, 24, 2), hidden, self.random)
        real_px = noisy(real_px, seen, self.random)

        def mine(real: Tensor, fake: Tensor) -> Tensor:
            return torch.cat([self.parallel.slice(part).to(self.device) for part in (real, fake)])

        poses = mine(self.reals.poses(n, self.random), fakes[:, :72].reshape(-1, 24, 3))
        half = len(poses) // 2
        both_seen = None if seen is None or hidden is None else mine(seen, hidden)
        pose_scores, px_scores = self.wrapped_discriminators(poses, mine(real_px, fake_px), both_seen)
        loss = lsgan_discriminator_loss(pose_scores[:half], pose_scores[half:])
        loss = loss + lsgan_discriminator_loss(px_scores[:half], px_scores[half:])
        optimiser = self.optimisers["discriminators"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.discriminators.parameters(), cfg.clip))
        self.stability.check("the discriminators' gradient", norm)
        optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _real_projections(self, n: int) -> Tensor:
        """Real poses as anchors of fresh draws, seen through the unshifted camera prior: (n,24,2) px."""
        scene = self.generator(self.drawer.draw(n, self.random, 0.0).to(self.device), shift=0.0).scene
        return scene.camera.project(self.world.joints_m(scene))

    def _generator_losses(self, draw: Draw, generated: Generated, joints_px: Tensor) -> dict[str, Tensor]:
        pose = generated.scene.pose
        hidden = self.reals.hidden(self.settings.batch, self.random)
        seen = None if hidden is None else self.parallel.slice(hidden).to(self.device)
        self.discriminators.requires_grad_(False)
        pose_scores, px_scores = self.discriminators(pose, joints_px, seen)
        self.discriminators.requires_grad_(True)
        everyone = self.parallel.gather(pose[:, 1:])
        mean, std = (value[1:].to(self.device) for value in (self.reals.mean, self.reals.std))
        spread = std.clamp_min(0.05)
        moments = ((everyone.mean(0) - mean) / spread).square().mean()
        moments = moments + ((everyone.std(0) - std) / spread).square().mean()
        return {
            "adversarial": lsgan_generator_loss(pose_scores),
            "projection": lsgan_generator_loss(px_scores),
            "moments": moments,
            "residual": generated.residual.mean(),
            "limits": joint_limit_violation_rad(pose).mean(),
        }

    # -- feedback ----------------------------------------------------------------------------------------------

    def sample(self, scene: Scene) -> Sample:
        """Scenes as the estimator sees them, with all that a signal may ask of them."""

        def shown(crop: CropConvention) -> tuple[Tensor, Tensor]:
            seen = self.world.cropped(scene, crop)
            return self.world.photograph(seen), self.world.labels(seen)["joints3d_cam_m"]

        return Sample(self.estimator, *shown(self.crop), self.feedback_settings.error, shown)

    def _judged(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """The signal and the error (B,) m of each scene, with gradient to the scene if the feedback needs one."""
        assert self.signal is not None
        with torch.set_grad_enabled(self.feedback.needs_gradient and torch.is_grad_enabled()):
            sample = self.sample(scene)
            return self.signal.of(sample), sample.errors_m

    def _feedback(self, draw: Draw, generated: Generated, explore: float) -> tuple[Tensor, Tensor]:
        rows = slice(0, self.parallel.share(self.settings.feedback_batch, "adversarial.feedback_batch"))
        values, errors = self._judged(generated.scene[rows])
        self._check_sound("the estimator's error", errors)
        log_prob = torch.zeros_like(errors)
        if explore:
            mean = generated.action[rows]
            action = (mean + explore * draw.explore[rows]).detach()
            log_prob = -0.5 * ((action - mean) / explore).square().sum(1)
        return self.feedback.loss(values, log_prob), errors

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Measures the unshifted proposal: the meter's reference, and the values that a band is made of.

        With a target these are values of target-like candidates alone: what is hard among them, not what is unlike it.
        """
        cfg = self.settings
        n = max(cfg.meter_samples, cfg.calibration_images)
        draw = self.drawer.draw(n, self.random).to(self.device)
        scene = self.generator(draw, shift=0.0).scene
        reference = self.meter.measure(scene.pose[: cfg.meter_samples])
        self.gate = FeedbackGate(reference, cfg.limit_nearest_ratio, cfg.limit_violation_rad, cfg.limit_diversity_ratio)
        if self.signal is None:
            return
        if self.target is not None:
            draw = self.drawer.draw(cfg.calibration_images, self.random, 1.0).to(self.device)
            scene = self.generator(draw, shift=0.0).scene
        chunks = scene[: cfg.calibration_images]
        samples = [self.sample(chunks[i : i + 32]) for i in range(0, len(chunks), 32)]
        errors = torch.cat([sample.errors_m for sample in samples])
        if not bool(torch.isfinite(errors).all()):
            raise TrainingError(
                f"the estimator's error is no number on {int((~torch.isfinite(errors)).sum())} of {len(errors)} "
                "proposals, before anything was trained", where="estimator", next_command="posegen evaluate",
            )  # fmt: skip
        self.signal.calibrate(samples)
        self.feedback.calibrate(torch.cat([self.signal.of(sample) for sample in samples]))

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
            "limit_nearest_mm": self.gate.max_nearest_mm,
            "limit_violation_rad": self.gate.max_violation_rad,
            "limit_diversity_mm": self.gate.min_diversity_mm,
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
            "signal": {} if self.signal is None else dict(self.signal.state),
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
        if self.signal is not None:
            self.signal.state = dict(state["signal"])
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
