"""Biovision's .bvh: a tree of joints with offsets and channels, then one line of numbers a frame.

A joint's rotation is the product of its rotation channels in the order in which they are listed, each about the axes
that those before it have turned. The root's position channels are its place in the world; those of other joints, which
some programs write beside their rotations, repeat the offsets and are not looked at: bones do not change their length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posegen.body.motion.source import MAX_FRAMES, MAX_JOINTS, Array, Line, SourceMotion, check_counts, text_lines
from posegen.errors import DataError

POSITIONS = ("xposition", "yposition", "zposition")
ROTATIONS = ("xrotation", "yrotation", "zrotation")


@dataclass
class Joint:
    """A joint while its file is read."""

    name: str
    parent: int
    offset: Array = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


def read_bvh(path: Path, name: str | None = None) -> SourceMotion:
    """The skeleton and motion in a .bvh file. Raises DataError with the line that is wrong."""
    lines = text_lines(path)
    joints = _hierarchy(lines, path)
    frames, fps, line = _motion_head(lines, path)
    width = sum(len(joint.channels) for joint in joints)
    check_counts(len(joints), frames, path)
    rows: list[list[float]] = []
    for line in lines:
        if len(line.words) != width:
            raise line.error(f"the skeleton has {width} channels, this frame {len(line.words)} numbers")
        if len(rows) == frames:
            raise line.error(f"there are more frames than the {frames} announced")
        rows.append(line.numbers(line.words))
    if len(rows) != frames:
        raise DataError(f"{frames} frames are announced, {len(rows)} are there: the file is cut short", where=path)
    return _motion(name or path.stem, joints, np.array(rows), fps)


def _hierarchy(lines: Iterator[Line], path: Path) -> list[Joint]:  # noqa: PLR0912 - a branch for each word of the format
    """The joints, parents first. Nesting is followed with a list, not with recursion."""
    joints: list[Joint] = []
    open_joints: list[int] = []
    waiting: int | None = None  # the joint whose brace has not been opened yet
    if (first := next(lines, None)) is None or first.words[0].upper() != "HIERARCHY":
        raise DataError("this is no BVH file: it does not begin with HIERARCHY", where=path)
    for line in lines:
        word = line.words[0].upper()
        if word == "MOTION":
            if open_joints or waiting is not None or not joints:
                raise line.error("the motion begins before the skeleton's last brace is closed")
            return joints
        if word in ("ROOT", "JOINT", "END"):
            if (word == "ROOT") == bool(joints) or (word != "ROOT" and not open_joints) or waiting is not None:
                raise line.error(f"{word} stands where no joint may begin")
            if len(joints) >= MAX_JOINTS:
                raise line.error(f"more than {MAX_JOINTS} joints")
            waiting = len(joints)
            joints.append(_joint(line, word, joints, open_joints))
        elif word == "{" and waiting is not None:
            open_joints.append(waiting)
            waiting = None
        elif word == "}" and open_joints and waiting is None:
            open_joints.pop()
        elif word == "OFFSET" and open_joints:
            offset = line.numbers(line.words[1:])
            if len(offset) != 3:
                raise line.error("an offset is three numbers")
            joints[open_joints[-1]].offset = np.array(offset)
        elif word == "CHANNELS" and open_joints:
            joints[open_joints[-1]].channels = _channels(line)
        else:
            raise line.error(
                f"{line.words[0][:40]!r} is not expected here", ("JOINT", "End Site", "OFFSET", "CHANNELS")
            )
    raise DataError("the BVH file ends before its motion", where=path)


def _joint(line: Line, word: str, joints: list[Joint], open_joints: list[int]) -> Joint:
    parent = open_joints[-1] if open_joints else -1
    if word == "END":
        return Joint(f"{joints[parent].name}_end", parent)
    if len(line.words) < 2:
        raise line.error("a joint has no name")
    name = " ".join(line.words[1:])
    if any(joint.name == name for joint in joints):
        raise line.error(f"two joints are called {name[:40]!r}")
    return Joint(name, parent)


def _channels(line: Line) -> tuple[str, ...]:
    count = line.count(line.words[1], 6) if len(line.words) > 1 else -1
    channels = tuple(word.lower() for word in line.words[2:])
    if len(channels) != count or len(set(channels)) != count:
        raise line.error("CHANNELS takes a count and as many different names")
    if unknown := [name for name in channels if name not in (*POSITIONS, *ROTATIONS)]:
        raise line.error(f"unknown channel {unknown[0][:40]!r}", (*POSITIONS, *ROTATIONS))
    return channels


def _motion_head(lines: Iterator[Line], path: Path) -> tuple[int, float, Line]:
    """Frames, frames a second, and the line that said so."""
    frames = None
    for line in lines:
        head = " ".join(line.words[:-1]).rstrip(":").strip().lower()
        if head == "frames" and frames is None:
            frames = line.count(line.words[-1], MAX_FRAMES)
        elif head == "frame time" and frames is not None:
            seconds = line.numbers(line.words[-1:])[0]
            if not 1e-4 <= seconds <= 10:
                raise line.error(f"a frame time of {seconds:g} s is not possible")
            return frames, 1 / seconds, line
        else:
            raise line.error("expected 'Frames: N' and then 'Frame Time: SECONDS'")
    raise DataError("the BVH file ends before its first frame", where=path)


def _motion(name: str, joints: list[Joint], values: Array, fps: float) -> SourceMotion:
    frames = len(values)
    rotations = np.empty((frames, len(joints), 3, 3))
    rest = np.zeros((len(joints), 3))
    root = np.tile(joints[0].offset, (frames, 1))
    column = 0
    for index, joint in enumerate(joints):
        own = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        turning = [place for place, channel in enumerate(joint.channels) if channel in ROTATIONS]
        local = np.tile(np.eye(3), (frames, 1, 1))
        if turning:
            order = "".join(joint.channels[place][0].upper() for place in turning)  # upper case: about turned axes
            local = Rotation.from_euler(order, own[:, turning], degrees=True).as_matrix()
        if joint.parent < 0:
            rotations[:, index] = local
            for place, channel in enumerate(joint.channels):
                if channel in POSITIONS:
                    root[:, POSITIONS.index(channel)] = own[:, place]
        else:
            rotations[:, index] = rotations[:, joint.parent] @ local
            rest[index] = rest[joint.parent] + joint.offset
    return SourceMotion(
        name, tuple(joint.name for joint in joints), tuple(joint.parent for joint in joints), rest, rotations, root, fps
    )
