"""Small BVH and ASF/AMC files of a person with other proportions and another rest pose than SMPL's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# name, parent, offset; arms hang down at rest, legs are short, there are two spine joints. Centimetres.
JOINTS = (
    ("Hips", None, (0, 0, 0)),
    ("Spine", "Hips", (0, 9, 0)), ("Chest", "Spine", (0, 22, 0)), ("Neck", "Chest", (0, 16, 0)),
    ("Head", "Neck", (0, 9, 1)),
    *(
        joint
        for side, s in (("Left", 1), ("Right", -1))
        for joint in (
            (f"{side}Shoulder", "Chest", (4 * s, 13, 0)), (f"{side}Arm", f"{side}Shoulder", (13 * s, 0, 0)),
            (f"{side}ForeArm", f"{side}Arm", (2 * s, -29, 0)), (f"{side}Hand", f"{side}ForeArm", (0, -26, 1)),
            (f"{side}UpLeg", "Hips", (9 * s, -5, 0)), (f"{side}Leg", f"{side}UpLeg", (1 * s, -38, 0)),
            (f"{side}Foot", f"{side}Leg", (0, -37, -2)), (f"{side}ToeBase", f"{side}Foot", (1 * s, -6, 13)),
        )
    ),
)  # fmt: skip


def bvh_text(angles: dict[str, np.ndarray], root: np.ndarray, seconds: float, z_up: bool = False) -> str:
    """A BVH file; angles of a joint (T,3) deg in the order of its channels Z, X, Y."""
    offsets = {name: np.array(offset, float) for name, _, offset in JOINTS}
    if z_up:  # the same skeleton, standing along z: x' = x, y' = -z, z' = y
        offsets = {name: np.array([v[0], -v[2], v[1]]) for name, v in offsets.items()}
    lines = ["HIERARCHY"]

    def write(name: str, parent: str | None, depth: int) -> None:
        pad = "  " * depth
        lines.append(f"{pad}{'ROOT' if parent is None else 'JOINT'} {name}")
        lines.append(f"{pad}{{")
        lines.append(f"{pad}  OFFSET {' '.join(map(str, offsets[name]))}")
        places = "6 Xposition Yposition Zposition" if parent is None else "3"
        lines.append(f"{pad}  CHANNELS {places} Zrotation Xrotation Yrotation")
        children = [child for child, above, _ in JOINTS if above == name]
        for child in children:
            write(child, name, depth + 1)
        if not children:
            lines.extend([f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET 0 1 0", f"{pad}  }}"])
        lines.append(f"{pad}}}")

    write("Hips", None, 0)
    order = [line.split()[1] for line in lines if line.split()[0] in ("ROOT", "JOINT")]
    lines += ["MOTION", f"Frames: {len(root)}", f"Frame Time: {seconds}"]
    for t in range(len(root)):
        numbers = [*root[t]]
        for name in order:
            numbers += list(angles.get(name, np.zeros((len(root), 3)))[t])
        lines.append(" ".join(f"{value:.6f}" for value in numbers))
    return "\n".join(lines) + "\n"


ASF = """# made by a test
:version 1.10
:name tester
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
  a few bones
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
{bones}
:hierarchy
  begin
    root lfemur rfemur spine
    lfemur ltibia
    ltibia lfoot
    rfemur rtibia
    rtibia rfoot
    spine lhumerus rhumerus head
    lhumerus lradius
    lradius lhand
    rhumerus rradius
    rradius rhand
  end
"""

# name, direction, length, axis (deg, XYZ), dof. Legs are splayed, elbows bend about an axis of their own.
BONES = (
    ("lfemur", (0.34202, -0.939693, 0), 7.6, (0, 0, 20), "rx ry rz"),
    ("ltibia", (0.34202, -0.939693, 0), 7.3, (0, 0, 20), "rx"),
    ("lfoot", (0.09, -0.24, 0.96), 2.2, (-90, 0, 20), "rx rz"),
    ("rfemur", (-0.34202, -0.939693, 0), 7.6, (0, 0, -20), "rx ry rz"),
    ("rtibia", (-0.34202, -0.939693, 0), 7.3, (0, 0, -20), "rx"),
    ("rfoot", (-0.09, -0.24, 0.96), 2.2, (-90, 0, -20), "rx rz"),
    ("spine", (0, 1, 0), 6.0, (0, 0, 0), "rx ry rz"),
    ("head", (0, 1, 0), 2.0, (0, 0, 0), "rx ry rz"),
    ("lhumerus", (1, 0, 0), 5.0, (180, 30, 90), "rx ry rz"),
    ("lradius", (1, 0, 0), 4.0, (180, 30, 90), "rx"),
    ("lhand", (1, 0, 0), 1.0, (180, 30, 90), ""),
    ("rhumerus", (-1, 0, 0), 5.0, (180, -30, -90), "rx ry rz"),
    ("rradius", (-1, 0, 0), 4.0, (180, -30, -90), "rx"),
    ("rhand", (-1, 0, 0), 1.0, (180, -30, -90), ""),
)


def asf_text() -> str:
    blocks = []
    for number, (name, direction, length, axis, dof) in enumerate(BONES, 1):
        lines = ["  begin", f"    id {number}", f"    name {name}", f"    direction {' '.join(map(str, direction))}"]
        lines += [f"    length {length}", f"    axis {' '.join(map(str, axis))} XYZ"]
        if dof:
            lines += [f"    dof {dof}", "    limits (-160.0 20.0)"]
            lines += ["           (-70.0 70.0)"] * (len(dof.split()) - 1)
        blocks += [*lines, "  end"]
    return ASF.format(bones="\n".join(blocks))


def amc_text(frames: list[dict[str, tuple[float, ...]]]) -> str:
    """Frames of angles by bone; what is not named is zero."""
    lines = [":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(frames, 1):
        lines += [str(number), "root " + " ".join(map(str, frame.get("root", (0,) * 6)))]
        for name, _, _, _, dof in BONES:
            if dof:
                lines.append(f"{name} " + " ".join(map(str, frame.get(name, (0,) * len(dof.split())))))
    return "\n".join(lines) + "\n"


def write_acclaim(folder: Path, frames: list[dict[str, tuple[float, ...]]], name: str = "07_01") -> Path:
    (folder / "07.asf").write_text(asf_text())
    path = folder / f"{name}.amc"
    path.write_text(amc_text(frames))
    return path
