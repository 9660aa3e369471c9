"""Reads a target: which reader a file or folder is for, and that pictures and keypoints belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from posegen.errors import ConfigError, DataError
from posegen.target.config import TargetConfig
from posegen.target.readers.coco import read_coco
from posegen.target.readers.folders import counts_turned, matched, people_of_pictures, picture_names
from posegen.target.readers.openpose import read_openpose
from posegen.target.readers.own import read_npz_target
from posegen.target.record import Target

KINDS = (
    "COCO keypoints (.json)", "a folder of OpenPose's *_keypoints.json", "an npz file with openpose or part (SPIN's)",
    "an npz file with keypoints and joint_set (ours)",
)  # fmt: skip


def read_target(config: TargetConfig) -> Target:
    """The target of a configuration.

    With keypoints, one row a person that they tell. With pictures alone, one row a picture or box, all keypoints still
    unknown (posegen.target.detect finds them).

    Raises:
        ConfigError: neither pictures nor keypoints are given.
        DataError: a file is damaged, empty, or does not belong to the pictures.
    """
    if config.keypoints is None and config.images is None:
        raise ConfigError(
            "no target is given",
            where="target",
            next_command="posegen lift target.keypoints=FILE, or target.images=DIR",
        )
    if config.keypoints is None:
        assert config.images is not None
        return people_of_pictures(config.images, config.boxes)
    found = read_keypoints(Path(config.keypoints).expanduser(), config.joint_set)
    if config.images is None:
        return found
    names = matched(found.names, picture_names(config.images), config.images, config.keypoints)
    shown = replace(found, pictures=tuple(names))
    return replace(shown, turned=counts_turned(shown, config.keypoints))


def read_keypoints(path: Path, joint_set: str | None) -> Target:
    """The keypoints in a file or folder, in whichever of the four formats they are."""
    if path.is_dir():
        return read_openpose(path, joint_set)
    if not path.exists():
        raise DataError("the keypoints are not there", where=path, choices=KINDS)
    if path.suffix.lower() == ".json":
        return read_coco(path, joint_set)
    if path.suffix.lower() == ".npz":
        return read_npz_target(path, joint_set)
    raise DataError(f"keypoints of an unknown kind: {path.name}", where=path, choices=KINDS)
