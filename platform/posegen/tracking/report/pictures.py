"""Renders with skeletons drawn over them, and sheets of many with captions.

Pixels as everywhere: u right, v down, the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from posegen.body.joint_sets import joint_set

if TYPE_CHECKING:
    from PIL import ImageFont
    from PIL.Image import Image as PilImage

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]

# Blue and orange stay apart for every kind of colour vision and on skin, grass and sky.
TRUTH: Colour = (0, 158, 255)
PREDICTION: Colour = (255, 128, 0)
LEFT_SIDE = "the person's left is lighter"  # for captions: who takes a back for a front swaps the sides
LARGEST_CAPTION_PX = 24
_HALO: Colour = (16, 18, 24)
_SUPERSAMPLING = 2


@dataclass(frozen=True)
class Skeleton:
    """A 2-D skeleton to draw; limbs of the person's left side are drawn in a lighter tint of its colour."""

    joints_px: NDArray[np.floating]  # (J,2)
    colour: Colour
    joint_set: str = "smpl24"


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet with the lines of text below it."""

    image: Pixels  # (H,W,3)
    caption: str = ""


def project(
    joints_cam_m: NDArray[np.floating], focal_px: float, centre_px: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Camera-frame joints (J,3) m, OpenCV axes, to pixels (J,2). Joints behind the camera become NaN (not drawn)."""
    depth = joints_cam_m[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = joints_cam_m[:, :2] / depth * focal_px + np.asarray(centre_px)
    return np.where(depth > 1e-3, pixels, np.nan)


def project_centred(
    joints_m: NDArray[np.floating],
    root_cam_m: NDArray[np.floating],
    focal_px: float,
    centre_px: NDArray[np.floating],
) -> NDArray[np.floating]:
    """Root-centred joints (J,3) m, as an estimator gives them, put at the true root (3,) and projected to (J,2)."""
    return project(joints_m + np.asarray(root_cam_m), focal_px, centre_px)


def overlay(image: Pixels, skeletons: Sequence[Skeleton], scale: int = 3) -> Pixels:
    """The image (H,W,3) enlarged `scale` times with skeletons drawn over it, later ones on top: (sH,sW,3)."""
    from PIL import Image, ImageDraw

    height, width = image.shape[:2]
    enlarged = Image.fromarray(np.ascontiguousarray(image)).resize(
        (width * scale, height * scale), Image.Resampling.BICUBIC
    )
    if not skeletons:
        return np.asarray(enlarged)
    factor = scale * _SUPERSAMPLING
    canvas = enlarged.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    bone = max(2, round(0.011 * max(height, width) * factor))
    for skeleton in skeletons:
        _draw(draw, skeleton, factor, bone, limit=10 * factor * max(height, width))
    return np.asarray(canvas.resize((width * scale, height * scale), Image.Resampling.BOX))


def _draw(draw, skeleton: Skeleton, factor: int, bone: int, limit: float) -> None:
    names = joint_set(skeleton.joint_set)
    joints = np.asarray(skeleton.joints_px, float) * factor
    if joints.shape != (len(names), 2):
        raise ValueError(f"joints_px: {joints.shape}, but {names.name} has {len(names)} joints")
    seen = np.isfinite(joints).all(1) & (np.abs(np.nan_to_num(joints, nan=0.0)) < limit).all(1)
    points = [tuple(p) for p in joints]
    colours = [lighter(skeleton.colour) if name.startswith("left_") else skeleton.colour for name in names.joints]
    bones = [(points[a], points[b], colours[b]) for a, b in names.edge_indices if seen[a] and seen[b]]
    dots = [(points[j], colours[j]) for j in range(len(names)) if seen[j]]
    # A dark rim first keeps the lines legible on snow as well as on shade.
    for rim, grow in ((_HALO, max(2, bone // 2)), (None, 0)):
        for a, b, colour in bones:
            draw.line([a, b], fill=rim or colour, width=bone + grow)
        radius = 0.95 * bone + grow / 2
        for (u, v), colour in dots:
            draw.ellipse([u - radius, v - radius, u + radius, v + radius], fill=rim or colour)


def lighter(colour: Colour) -> Colour:
    """The tint of the left side."""
    red, green, blue = (round(value + 0.62 * (255 - value)) for value in colour)
    return red, green, blue


def beside(images: Sequence[Pixels], gap_px: int = 6, colour: Colour = (255, 255, 255)) -> Pixels:
    """Images of one height side by side."""
    gap = np.full((images[0].shape[0], gap_px, 3), colour, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=1)


def contact_sheet(tiles: Sequence[Tile], columns: int = 6, title: str = "", gap_px: int = 10) -> Pixels:
    """Many pictures of one size on a white sheet, each with its caption below: (H,W,3). Texts are broken to fit."""
    from PIL import Image, ImageDraw

    if not tiles:
        raise ValueError("a contact sheet needs at least one picture")
    height, width = tiles[0].image.shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    size = min(max(10, round(width / 15)), LARGEST_CAPTION_PX)
    line = round(size * 1.35)
    captions = [_broken(tile.caption, _font(size), width) for tile in tiles]
    caption = line * max(len(text.splitlines()) for text in captions)
    whole = gap_px + columns * (width + gap_px)
    large = _font(round(size * 1.25))
    heading = _broken(title, large, whole - 2 * gap_px)
    top = gap_px + (round(line * (0.5 + 1.3 * len(heading.splitlines()))) if title else 0)
    sheet = Image.new("RGB", (whole, top + rows * (height + caption + gap_px)), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.multiline_text((gap_px, gap_px), heading, fill=(31, 36, 48), font=large, spacing=2)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = gap_px + column * (width + gap_px), top + row * (height + caption + gap_px)
        sheet.paste(Image.fromarray(np.ascontiguousarray(tile.image)), (x, y))
        text = captions[number]
        draw.multiline_text((x, y + height + 3), text, fill=(70, 76, 90), font=_font(size), spacing=2)
    return np.asarray(sheet)


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """A text whose lines are broken between words where they are wider than that."""
    lines: list[str] = []
    for given in text.splitlines():
        words = given.split(" ")
        line = words[0]
        for word in words[1:]:
            if font.getlength(f"{line} {word}") <= width_px:
                line = f"{line} {word}"
            else:
                lines.append(line.rstrip())
                line = word
        lines.append(line)
    return "\n".join(lines)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans as matplotlib carries it (it has degrees and arrows), so that no font of the machine is needed."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def encode(image: Pixels, kind: Literal["png", "jpeg"] = "png") -> bytes:
    """The bytes of an image file."""
    from PIL import Image

    buffer = io.BytesIO()
    picture: PilImage = Image.fromarray(np.ascontiguousarray(image))
    if kind == "png":
        picture.save(buffer, "PNG", compress_level=4)  # a sixth of the time of optimize=True, 2 % more bytes
    else:
        picture.save(buffer, "JPEG", quality=88, optimize=True, subsampling=0)
    return buffer.getvalue()
