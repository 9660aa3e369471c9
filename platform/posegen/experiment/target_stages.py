"""The stages of a run that are about the target: who is in it, lifting, weights, and how an estimator reprojects.

target/           people.npz, lifted.npz, sheet.png, summary.json; parts/ holds what is done of the lifting
target/weights/   of the people, for a round of an arm that follows the estimator
target/error/     the reprojection error of an arm's estimator, on people held out and on those shown
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from posegen.body.model import load_body
from posegen.config import PosegenConfig, parts_of
from posegen.config.task import TargetFiles
from posegen.estimator.configured import build_estimator, crop_of_config
from posegen.experiment.stages import RunFolder, RunStage, digest_of, file_digest
from posegen.files.atomic import replacing
from posegen.files.state import read_json
from posegen.progress import Bar
from posegen.scenes.world import real_poses
from posegen.target.config import TargetConfig
from posegen.target.given import is_given
from posegen.target.lifted import LIFTED, Lifted, read_lifted, write_lifted
from posegen.target.opinion import Opinion
from posegen.target.people import People, people_of, read_people, write_people
from posegen.target.readers import read_target
from posegen.target.record import Target
from posegen.target.run_lift import lift, people_to_lift
from posegen.target.sheet import sheet
from posegen.target.summary import summary
from posegen.target.weighing import reprojection_errors, weights_of_people

WIDE = 2.0  # boxes: pictures of the embedded target for estimators that want more around a person than its box


class TargetStages:
    """The target of one run.

    Args:
        run_stage: posegen.experiment.experiment.Experiment.stage.
    """

    def __init__(self, config: PosegenConfig, run: RunFolder, run_stage: RunStage) -> None:
        self.config, self.run, self._stage = config, run, run_stage
        self._one = threading.Lock()
        self._known: TargetFiles | None = None

    @property
    def given(self) -> bool:
        return is_given(self.config.target)

    @property
    def folder(self) -> Path:
        return self.run.folder("target")

    def files(self) -> TargetFiles | None:
        """The target's people and who they are in the world, found and lifted if that was not done before."""
        if not self.given:
            return None
        with self._one:
            if self._known is None:
                self._known = self._made()
            return self._known

    def _made(self) -> TargetFiles:
        config = self.config
        people, lifted = self.folder / "people.npz", self.folder / LIFTED
        digest = digest_of(
            parts_of(config, "target", "mocap", "body", "split"), inputs_digest(config.target),
            [self._margin, crop_of_config(config).size_px] if config.target.embedded else None,
        )  # fmt: skip

        def work(bar: Bar) -> dict[str, Any]:
            found, made = self._lifted(bar)
            write_people(found, people)
            write_lifted(made, lifted)
            with replacing(self.folder / "sheet.png") as partial, partial.open("wb") as file:
                Image.fromarray(sheet(made, self._body)).save(file, "PNG")
            told = summary(made) | {"held_out": int(found.held.sum()), "pictures": bool(found.target.pictures)}
            self.run.write_json(self.folder / "summary.json", told)
            return {"people": len(found), "held_out": told["held_out"]}

        self._stage("target", "lifting the target", digest, None, work)
        return TargetFiles(str(people), str(lifted))

    @cached_property
    def _body(self):
        return load_body(self.config.body.path, resolution=self.config.body.resolution)

    @property
    def _margin(self) -> float:
        """Of the embedded target's pictures."""
        return WIDE if crop_of_config(self.config).reframes else 1.0

    def _lifted(self, bar: Bar) -> tuple[People, Lifted]:
        settings = self.config.target
        if settings.lifted is not None:
            return of_earlier(read_lifted(settings.lifted), settings.held_share)
        target = read_target(self._embedded(bar) if settings.embedded else settings)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(done, total, what)

        parts, opinion = self.folder / "parts", Opinion(self.config, target)
        people = people_of(people_to_lift(target, settings, parts, tell), settings.held_share)
        made = lift(people.shown.target, self._body, real_poses(self.config), settings, parts, tell)
        return people, opinion(made, people.shown, self._body, parts, tell)

    def _embedded(self, bar: Bar) -> TargetConfig:
        """The stand-ins' target parts, written as a user's."""
        from posegen.target.embedded import write_target_folder

        settings = self.config.target
        pictures, keypoints = write_target_folder(
            self.folder / "embedded", settings.embedded, settings.embedded_images, self.config.split,
            size_px=crop_of_config(self.config).size_px, noise_px=settings.embedded_noise_px, margin=self._margin,
            tell=lambda done, total: bar.update(done, total, "drawing and writing pictures"),
        )  # fmt: skip
        return replace(settings, images=str(pictures), keypoints=str(keypoints), joint_set=None)

    # -- what an estimator makes of it ---------------------------------------------------------------------------

    def weighed(self, name: str, weights: Path | None, earlier: Path | None = None) -> TargetFiles | None:
        """The target with its people weighed by how an estimator reprojects on their pictures.

        Args:
            name: of the arm and round.
            weights: the estimator's; None is the one that a run starts from.
            earlier: those of the round before; None is the one that a run starts from.
        """
        files, settings = self.files(), self.config.target
        if files is None or settings.follow == "none":
            return files
        now = self._errors(f"{name}-shown", weights, held=False)
        before = None
        if settings.follow == "progress" and weights is not None:
            before = self._errors("before-shown" if earlier is None else f"{name}-earlier-shown", earlier, held=False)
        file = self.run.folder("target", "weights") / f"{name}.npy"
        values = weights_of_people(
            settings.follow, torch.tensor(now), None if before is None else torch.tensor(before), settings.follow_power
        )
        with replacing(file) as partial, partial.open("wb") as opened:
            np.save(opened, values.numpy())
        return replace(files, weights=str(file))

    def people(self) -> People | None:
        """Who the target shows; None without a target."""
        files = self.files()
        return None if files is None else read_people(Path(files.people))

    def errors_of(self, arm: str, weights: Path | None, held: bool) -> np.ndarray:
        """How an arm's estimator reprojects on people held out, or shown: (N,) half crop's sides, NaN where unseen."""
        return np.array(self._errors(arm if held else f"{arm}-shown", weights, held), np.float64)

    def _errors(self, name: str, weights: Path | None, held: bool) -> list[float]:
        """The reprojection error of each person, held out or shown; NaN where nothing of a person is seen."""
        files = self.files()
        assert files is not None
        file = self.run.folder("target", "error") / f"{name}.json"
        digest = digest_of(
            file_digest(files.people), held,
            None if weights is None else file_digest(weights), parts_of(self.config, "estimator", "body"),
        )  # fmt: skip

        def work(bar: Bar) -> dict[str, Any]:
            people = read_people(Path(files.people))
            chosen = people.kept_back if held else people.shown
            estimator = build_estimator(self.config, checkpoint=None if weights is None else str(weights))
            errors = reprojection_errors(estimator, chosen, bar.update)
            values = [None if not np.isfinite(e) else float(e) for e in errors.tolist()]
            self.run.write_json(file, {"errors": values})
            known = [value for value in values if value is not None]
            return {"people": len(known), "mean": float(np.mean(known)) if known else None}

        with self._one:
            self._stage(f"target/error/{name}", f"{name} on the target", digest, None, work)
        told = read_json(file, "the errors on the target")
        return [float("nan") if value is None else float(value) for value in told["errors"]]


def of_earlier(lifted: Lifted, held_share: float) -> tuple[People, Lifted]:
    """People of a file of `posegen lift`, some of them held out, and the others as they were lifted."""
    target = Target(
        lifted.joint_set, lifted.keypoints, lifted.names, lifted.pictures, left_out=lifted.left_out,
        turned=lifted.turned,
    )  # fmt: skip
    people = people_of(target, held_share)
    return people, lifted.pick(~people.held)


def inputs_digest(settings: TargetConfig) -> list[Any]:
    """Changes when a file of the target does: names, sizes and times."""
    told: list[Any] = []
    for place in (settings.images, settings.keypoints, settings.boxes, settings.lifted):
        if place is None:
            continue
        root = Path(place).expanduser()
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        stats = [(file.name, status.st_size, status.st_mtime_ns) for file in files if (status := _status(file))]
        told.append(digest_of(stats))
    return told


def _status(file: Path):
    try:
        return file.stat()
    except OSError:
        return None
