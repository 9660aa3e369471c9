"""A contact sheet of a batch as the training sees it, with its labels drawn on it: the eye finds a wrong label."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.estimator.labels import Labels

SIDE_PX = 256
LEFT, RIGHT, MIDDLE = (255, 64, 64), (64, 128, 255), (255, 255, 0)


def contact_sheet(images: Tensor, labels: Labels, path: Path, columns: int = 6) -> Path:
    """Writes a PNG: each picture with its projected joints, beside it its 3-D joints from the front and from its side.

    The subject's left is red, its right blue. The side view looks along the camera's x axis, its left being nearer.

    Args:
        images: (B,3,S,S) in [0,1].
    """
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * 3 * SIDE_PX // 2, rows * SIDE_PX))
    resized = torch.nn.functional.interpolate(images, (SIDE_PX, SIDE_PX), mode="nearest")
    for index in range(len(images)):
        x, y = index % columns * 3 * SIDE_PX // 2, index // columns * SIDE_PX
        array = (resized[index] * 255).byte().permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(array)
        _bones(ImageDraw.Draw(picture), (labels.joints_crop[index].cpu() + 1) / 2 * SIDE_PX)
        sheet.paste(picture, (x, y))
        joints = labels.joints[index].cpu()
        half = SIDE_PX // 2
        for row, axes in enumerate(([0, 1], [2, 1])):
            panel = Image.new("RGB", (half, half), (30, 30, 30))
            _bones(ImageDraw.Draw(panel), joints[:, axes] / 2.4 * half + half / 2)
            sheet.paste(panel, (x + SIDE_PX, y + row * half))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
    return path


def _bones(draw: ImageDraw.ImageDraw, points: Tensor) -> None:
    """points (24,2) px."""
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent < 0:
            continue
        name = SMPL24.joints[joint]
        colour = LEFT if name.startswith("left") else RIGHT if name.startswith("right") else MIDDLE
        draw.line([tuple(points[parent].tolist()), tuple(points[joint].tolist())], fill=colour, width=2)
