"""What each column of a generated data set is: for the reference, and for the card that goes with an export."""

from __future__ import annotations

from posegen.shards.schema import LABELS

MEANINGS: dict[str, str] = {
    "row_id": "names the row for ever: the same id of the same data set is the same scene",
    "image": "RGB, the rendered person on a background",
    "pose": "joint rotations, axis-angle, rad; SMPL's 24 joints in SMPL's order, the root in the world",
    "betas": "body shape, SMPL's first ten",
    "transl": "the body's place in the world, m",
    "camera_R": "rotation world to camera; OpenCV's axes, x right, y down, z forward",
    "camera_t": "translation world to camera, m",
    "focal": "focal length, px",
    "centre": "principal point x, y, px",
    "joints2d_px": "the 24 joints in the picture, x right and y down, px",
    "joints3d_cam_m": "the 24 joints in the camera's frame, m",
    "subject": "which of the fitted people",
    "light": "direction x, y, z in the world, ambient and diffuse strength",
    "background": "its seed; -1 is white",
    "seed": "of the run",
    "round": "of generating and fine-tuning, from 0",
    "generator_version": "checkpoints that the generator had behind it when it made the row",
    "arm": "how the scene was proposed",
    "error_at_birth_mm": "MPJPE of the estimator when the row was made, mm; NaN where it was not measured",
}


def table(names: list[str] | None = None) -> str:
    """The columns as a Markdown table: name, type, shape, meaning."""
    lines = ["| column | type | shape | meaning |", "|---|---|---|---|"]
    for name in names or ["image", *LABELS]:
        kind, shape = (str(LABELS[name][0]), LABELS[name][1]) if name in LABELS else ("uint8", ("3", "H", "W"))
        size = " x ".join(map(str, shape)) or "-"
        lines.append(f"| `{name}` | {kind} | {size} | {MEANINGS[name]} |")
    return "\n".join(lines)
