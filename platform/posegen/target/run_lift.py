"""Lifts a whole target in chunks that are kept, so that a stopped command goes on and memory stays bounded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.body.model import BodyModel
from posegen.config_types import typed
from posegen.errors import ConfigError, DataError
from posegen.target.config import TargetConfig
from posegen.target.detect import Detector
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.lifter import Hypotheses, Lifter
from posegen.target.lift.sequence import over_time
from posegen.target.lift.together import in_one_camera, pictures_of
from posegen.target.lifted import HYPOTHESES, Lifted, lifted_of
from posegen.target.parts import identity, part_path, read_part, write_part
from posegen.target.readers.opening import open_picture
from posegen.target.record import Target, boxes_of, usable

Tell = Callable[[str, int, int], None]  # what, done, of how many


def lift_config(config: TargetConfig) -> LiftConfig:
    """Raises ConfigError for settings that are none."""
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in config.lifting.items()}
    settings = typed(LiftConfig, {**options, "hypotheses": config.hypotheses}, "target.lifting")
    if not 1 <= settings.hypotheses <= settings.candidates:
        raise ConfigError(
            f"{settings.hypotheses} hypotheses of {settings.candidates} candidates", where="target.hypotheses",
            choices=("1", "...", str(settings.candidates)),
        )  # fmt: skip
    return settings


def detected(target: Target, folder: Path, chunk: int, tell: Tell) -> Target:
    """The target with its keypoints found in its pictures. Chunks that are there already are read, not made again."""
    if target.detected:
        return target
    assert target.boxes is not None
    detector: Detector | None = None
    opened = partial(open_picture, turned=target.turned)
    parts = []
    for start in range(0, len(target), chunk):
        rows = slice(start, min(start + chunk, len(target)))
        files = tuple(identity(picture) for picture in target.pictures[rows])
        shown = ("turned",) if target.turned else ()
        path = part_path(folder, (*target.names[rows], *files, *shown), target.boxes[rows])
        found = read_part(path, ("keypoints",))
        if found is None:
            detector = detector or Detector()
            found = {"keypoints": detector(list(target.pictures[rows]), target.boxes[rows], opened)}
            write_part(path, found)
        parts.append(found["keypoints"])
        tell("finding keypoints", rows.stop, len(target))
    keypoints = np.concatenate(parts)
    unseen = np.asarray((keypoints[..., 2] <= 0).all(1))
    nobody = int(unseen.sum())
    left_out = {**target.left_out, **({"no person seen, or the picture cannot be read": nobody} if nobody else {})}
    seen = replace(target, keypoints=keypoints, left_out=left_out)
    if nobody == len(target):
        raise DataError(f"no person is seen in any of {nobody} pictures", where=target.pictures[0],
                        next_command="give boxes (target.boxes) or keypoints (target.keypoints)")  # fmt: skip
    return seen.pick(~unseen)


def people_to_lift(target: Target, config: TargetConfig, folder: Path, tell: Tell) -> Target:
    """Those of a target who can be lifted, their keypoints found where there are none; the others are counted."""
    return usable(detected(target, folder, config.chunk, tell), config.min_confidence, config.min_joints)


def lift(
    target: Target, body: BodyModel, poses: torch.Tensor, config: TargetConfig, folder: Path, tell: Tell
) -> Lifted:
    """Finds keypoints where there are none, leaves out who cannot be lifted, and lifts the others.

    Args:
        poses: (P,24,3) rad, the pool of real poses.
        folder: for what is done so far; a chunk is one file, named by all that it depends on.
    """
    settings = lift_config(config)
    people = people_to_lift(target, config, folder, tell)
    centre, side = boxes_of(people.keypoints)
    normal = people.keypoints.copy()
    normal[..., :2] = (normal[..., :2] - centre[:, None]) / side[:, None, None]
    about = json.dumps(asdict(settings)) + people.joint_set + _digest(poses.numpy(), body.rest_template.numpy())
    lifter: Lifter | None = None
    # Filled in place: what small arrays a chunk left behind would keep its freed memory from being of use again.
    all_found: dict[str, NDArray] = {}
    for start in range(0, len(people), config.chunk):
        rows = slice(start, min(start + config.chunk, len(people)))
        path = part_path(folder, (about,), normal[rows])
        found = read_part(path, HYPOTHESES)
        if found is None:
            lifter = lifter or Lifter(people.names_of_joints, body, poses, settings)
            made = lifter(torch.from_numpy(normal[rows]))
            found = {name: getattr(made, name).numpy() for name in HYPOTHESES}
            write_part(path, found)
        if not all_found:
            all_found = {name: np.empty((len(people), *some.shape[1:]), some.dtype) for name, some in found.items()}
        for name, values in found.items():
            all_found[name][rows] = values
        tell("lifting", rows.stop, len(people))
    hypotheses = Hypotheses(**{name: torch.from_numpy(values) for name, values in all_found.items()})
    hypotheses = over_time(hypotheses, people.sequences, people.frames, body, settings.temperature)
    hypotheses = in_one_camera(hypotheses, pictures_of(people.names), body, poses, settings)
    return lifted_of(people, hypotheses, centre, side)


def _digest(*arrays: NDArray) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
