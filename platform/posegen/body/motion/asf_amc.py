"""Acclaim's skeleton (.asf) and motion (.amc), the format of the CMU Graphics Lab Motion Capture Database.

A bone turns about its own axes: with C the rotation of its `axis` and M that of its degrees of freedom, its rotation
relative to its parent is C M C^-1, and its end lies `length` along its `direction`, which is given in the world's axes
of the rest pose. Angles are applied about fixed axes in the order in which they are listed (Lander, "Working with
motion capture file formats", 1998). An .amc says nothing of its rate: CMU's is 120 frames a second for most trials.

A bone becomes a joint at its start, as in posegen.body.motion.source; bones without children get one at their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posegen.body.motion.source import MAX_FRAMES, MAX_JOINTS, Array, Line, SourceMotion, check_counts, text_lines
from posegen.errors import DataError

AMC_FPS = 120.0
SECTIONS = (":version", ":name", ":units", ":documentation", ":root", ":bonedata", ":hierarchy")
ANGLES = ("rx", "ry", "rz")


@dataclass
class Bone:
    """A bone while its file is read."""

    name: str
    direction: Array = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: Rotation = field(default_factory=Rotation.identity)
    dof: tuple[str, ...] = ()
    parent: str | None = None


@dataclass(frozen=True)
class Acclaim:
    """A skeleton file: bones by name, parents before children; the first is the root."""

    bones: dict[str, Bone]
    degrees: bool
    path: Path


def read_asf(path: Path) -> Acclaim:
    """The skeleton in an .asf file. Raises DataError with the line that is wrong."""
    bones: dict[str, Bone] = {"root": Bone("root")}
    children: dict[str, list[str]] = {}
    degrees = True
    axis: tuple[str, ...] = ("XYZ",)  # of the root
    orientation: tuple[str, ...] = ("0", "0", "0")
    section = ""
    lines = text_lines(path, "#")
    for line in lines:
        first = line.words[0].lower()
        if first.startswith(":"):
            if first not in SECTIONS:
                raise line.error(f"unknown section {line.words[0][:40]!r} in the skeleton", SECTIONS)
            section = first
        elif section == ":units" and first == "angle":
            degrees = _is_degrees(line)
        elif section == ":root":
            if first == "order":
                bones["root"].dof = tuple(word.lower() for word in line.words[1:])
                _check_dof(line, bones["root"].dof, ("tx", "ty", "tz", *ANGLES))
            elif first in ("axis", "orientation"):
                axis = line.words[1:] if first == "axis" else axis
                orientation = line.words[1:] if first == "orientation" else orientation
                bones["root"].axis = _rotation(line, orientation, axis, degrees)
        elif section == ":bonedata" and first == "begin":
            bone = _bone(line, lines, degrees)
            if bone.name in bones:
                raise line.error(f"two bones are called {bone.name!r}")
            bones[bone.name] = bone
            if len(bones) > MAX_JOINTS:
                raise line.error(f"more than {MAX_JOINTS} bones")
        elif section == ":hierarchy" and first not in ("begin", "end"):
            _hang(line, bones, children)
    if not bones["root"].dof:
        raise DataError("the skeleton has no :root with an order", where=path)
    return Acclaim(_in_order(bones, children, path), degrees, path)


def _is_degrees(line: Line) -> bool:
    unit = line.words[-1].lower()
    if not unit.startswith(("deg", "rad")):
        raise line.error(f"unknown unit of angles {unit[:40]!r}", ("deg", "rad"))
    return unit.startswith("deg")


def _check_dof(line: Line, found: tuple[str, ...], valid: tuple[str, ...]) -> None:
    if unknown := [name for name in found if name not in valid]:
        raise line.error(f"unknown degree of freedom {unknown[0][:40]!r}", valid)
    if len(set(found)) != len(found):
        raise line.error("a degree of freedom is listed twice")


def _rotation(line: Line, angles: tuple[str, ...], order: tuple[str, ...], degrees: bool) -> Rotation:
    """The rotation of three angles about fixed axes, in an order such as XYZ."""
    name = order[0].lower() if len(order) == 1 else ""
    if sorted(name) != ["x", "y", "z"] or len(angles) != 3:
        raise line.error("an axis is three angles and their order, such as 0 0 20 XYZ")
    return Rotation.from_euler(name, line.numbers(angles), degrees=degrees)


def _bone(start: Line, lines: Iterator[Line], degrees: bool) -> Bone:
    """The bone between `begin` and `end`."""
    bone = Bone("")
    for line in lines:
        first, words = line.words[0].lower(), line.words[1:]
        if first == "end":
            if not bone.name or not bone.length or not np.any(bone.direction):
                raise line.error("a bone needs a name, a direction and a length that are not zero")
            return bone
        if first == "name" and len(words) == 1:
            bone.name = words[0]
        elif first == "direction":
            direction = np.array(line.numbers(words))
            if direction.shape != (3,) or np.linalg.norm(direction) < 1e-9:
                raise line.error("a direction is three numbers that are not all zero")
            bone.direction = direction / np.linalg.norm(direction)
        elif first == "length" and len(words) == 1:
            bone.length = line.numbers(words)[0]
        elif first == "axis":
            bone.axis = _rotation(line, words[:3], words[3:], degrees)
        elif first == "dof":
            bone.dof = tuple(word.lower() for word in words)
            _check_dof(line, bone.dof, ANGLES)
        elif first.startswith(":"):
            break
    raise start.error("a bone begins here and does not end")


def _hang(line: Line, bones: dict[str, Bone], children: dict[str, list[str]]) -> None:
    """One line of the hierarchy: a bone and those that hang on it."""
    for name in line.words:
        if name not in bones:
            raise line.error(f"there is no bone {name[:40]!r}", sorted(bones)[:40])
    parent = line.words[0]
    for name in line.words[1:]:
        if bones[name].parent is not None or name == "root":
            raise line.error(f"the bone {name!r} hangs on two others")
        bones[name].parent = parent
        children.setdefault(parent, []).append(name)


def _in_order(bones: dict[str, Bone], children: dict[str, list[str]], path: Path) -> dict[str, Bone]:
    """Parents first; refuses bones that hang on nothing, or on each other in a ring."""
    ordered, waiting = {"root": bones["root"]}, list(children.get("root", ()))
    while waiting:
        name = waiting.pop(0)
        ordered[name] = bones[name]
        waiting += children.get(name, ())
    if loose := sorted(set(bones) - set(ordered)):
        raise DataError(f"the bone {loose[0]!r} does not hang on the root", where=path)
    if len(ordered) < 2:
        raise DataError("the skeleton has no bones", where=path)
    return ordered


def read_amc(path: Path, skeleton: Acclaim, fps: float = AMC_FPS, name: str | None = None) -> SourceMotion:
    """The motion in an .amc file of a skeleton. Raises DataError with the line that is wrong."""
    bones = skeleton.bones
    values: dict[str, list[list[float]]] = {bone.name: [] for bone in bones.values() if bone.dof}
    degrees, frames = skeleton.degrees, 0
    for line in text_lines(path, "#"):
        first = line.words[0]
        if first.startswith(":"):
            if first.lower() in (":degrees", ":radians"):
                degrees = first.lower() == ":degrees"
            continue
        if len(line.words) == 1 and first.isdigit():
            _check_frame(line, values, frames)
            frames += 1
            if frames > MAX_FRAMES:
                raise line.error(f"more than {MAX_FRAMES} frames")
            continue
        if first not in values:
            raise line.error(f"the skeleton {skeleton.path.name} moves no bone {first[:40]!r}", sorted(values))
        if not frames:
            raise line.error("a bone's angles come before the first frame's number")
        if len(line.words) - 1 != len(bones[first].dof):
            raise line.error(f"{first} has {len(bones[first].dof)} degrees of freedom, not {len(line.words) - 1}")
        if len(values[first]) != frames - 1:
            raise line.error(f"{first} occurs twice in a frame, or was missing in an earlier one")
        values[first].append(line.numbers(line.words[1:]))
    check_counts(len(bones), frames, path)
    if short := [bone for bone, rows in values.items() if len(rows) != frames]:
        raise DataError(f"the last frame has no {short[0]}: the file is cut short", where=path)
    arrays = {bone: np.array(rows) for bone, rows in values.items()}
    return _motion(name or path.stem, skeleton, arrays, frames, degrees, fps)


def _check_frame(line: Line, values: dict[str, list[list[float]]], frames: int) -> None:
    """A new frame begins: all bones have been told of the one before."""
    if short := [bone for bone, rows in values.items() if len(rows) != frames]:
        raise line.error(f"the frame before has no {short[0]}")


def _turn(bone: Bone, values: Array, degrees: bool) -> Rotation:
    """M of a bone for all frames."""
    columns = [index for index, dof in enumerate(bone.dof) if dof in ANGLES]
    if not columns:
        return Rotation.identity(len(values))
    order = "".join(bone.dof[index][1] for index in columns)
    return Rotation.from_euler(order, values[:, columns], degrees=degrees)


def _motion(
    name: str, skeleton: Acclaim, values: dict[str, Array], frames: int, degrees: bool, fps: float
) -> SourceMotion:
    """Forward kinematics of Acclaim bones, told as joints at their starts."""
    bones = list(skeleton.bones.values())
    place = {bone.name: index for index, bone in enumerate(bones)}
    ends = [bone for bone in bones if bone.name not in {other.parent for other in bones}]
    parents = [-1] + [place[str(bone.parent)] for bone in bones[1:]] + [place[bone.name] for bone in ends]
    rotations = np.empty((frames, len(parents), 3, 3))
    rest = np.zeros((len(parents), 3))
    for index, bone in enumerate(bones):
        turn = Rotation.identity(frames)
        if bone.dof:
            turn = bone.axis * _turn(bone, values[bone.name], degrees) * bone.axis.inv()
        local = turn.as_matrix()
        parent = parents[index]
        rotations[:, index] = local if parent < 0 else rotations[:, parent] @ local
    for index in range(1, len(parents)):
        bone = bones[parents[index]]
        rest[index] = rest[parents[index]] + bone.length * bone.direction
        if index >= len(bones):
            rotations[:, index] = rotations[:, parents[index]]
    root = np.zeros((frames, 3))
    for axis, dof in enumerate(("tx", "ty", "tz")):
        if dof in bones[0].dof:
            root[:, axis] = values["root"][:, bones[0].dof.index(dof)]
    joints = (*place, *(f"{bone.name}_end" for bone in ends))
    return SourceMotion(name, joints, tuple(parents), rest, rotations, root, fps)
