"""Cameras around a person: looking at it, framing it, cropping to it. All differentiable.

Angles are seen from the subject in its rest pose: azimuth 0 is in front of it (the camera on the +z side, looking
towards -z), azimuth +90 degrees at its left (+x); elevation is positive above it; positive roll turns the picture
clockwise. Everything is closed-form in the angles: nothing is singular when the camera looks straight down.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from posegen.scene import Camera

# The crop that estimators are used to: 1.2 times the square around the joints (SPIN's and HMR's box factor).
BOX_FACTOR = 1.2
# The same for the square around the whole surface, which holds heads, hands and feet: people come out about as large.
SURFACE_FACTOR = 1.05
# Focal length of the embedded cameras in units of the image's side: a field of view of 44 degrees.
FOCAL_PER_SIDE = 1.25


def look_at_camera(
    azimuth_rad: Tensor,
    elevation_rad: Tensor,
    distance_m: Tensor,
    roll_rad: Tensor | float = 0.0,
    focal_px: Tensor | float | None = None,
    size_px: int = 96,
    target_m: Tensor | None = None,
) -> Camera:
    """Cameras on spheres around their targets.

    Args:
        azimuth_rad, elevation_rad, distance_m: (B,), or numbers that broadcast against one (B,).
        roll_rad: (B,) or a number.
        focal_px: (B,) or a number, px; None takes FOCAL_PER_SIDE * size_px.
        size_px: side of the square image; the principal point is its middle.
        target_m: (B,3) world point that lands on the principal point; None is the origin.

    Returns:
        a Camera of batch B, differentiable in every tensor given.

    Example:
        >>> import torch
        >>> from posegen import look_at_camera
        >>> camera = look_at_camera(torch.tensor([0.0]), elevation_rad=0.0, distance_m=3.0, size_px=96)
        >>> camera.project(torch.zeros(1, 1, 3))  # what it looks at is in the middle
        tensor([[[48., 48.]]])
    """
    azimuth, elevation, distance, roll, focal = torch.broadcast_tensors(
        *(
            torch.as_tensor(value, dtype=torch.float32) if not isinstance(value, Tensor) else value
            for value in (
                azimuth_rad,
                elevation_rad,
                distance_m,
                roll_rad,
                FOCAL_PER_SIDE * size_px if focal_px is None else focal_px,
            )
        )
    )
    azimuth, elevation, distance, roll, focal = (v.reshape(-1) for v in (azimuth, elevation, distance, roll, focal))
    sin_a, cos_a, sin_e, cos_e = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    zero = torch.zeros_like(sin_a)
    right = torch.stack([cos_a, zero, -sin_a], -1)
    down = torch.stack([sin_e * sin_a, -cos_e, sin_e * cos_a], -1)
    forward = torch.stack([-cos_e * sin_a, -sin_e, -cos_e * cos_a], -1)
    cos_r, sin_r = roll.cos()[:, None], roll.sin()[:, None]
    rotation = torch.stack([cos_r * right - sin_r * down, sin_r * right + cos_r * down, forward], -2)
    translation = torch.stack([zero, zero, distance], -1)
    if target_m is not None:
        target = target_m.expand(len(rotation), 3)
        translation = translation - (rotation @ target[..., None])[..., 0]
    centre = torch.full((len(rotation), 2), size_px / 2, dtype=rotation.dtype, device=rotation.device)
    return Camera(rotation, translation, focal, centre, size_px, size_px)


def bounding_sphere(joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of the joints' bounding box and the largest distance from it: (B,J,3) -> (B,3), (B,)."""
    middle = (joints_m.amax(-2) + joints_m.amin(-2)) / 2
    return middle, (joints_m - middle[:, None]).norm(dim=-1).amax(-1)


def framing_distance(
    joints_m: Tensor, focal_px: Tensor | float, size_px: int, share: Tensor | float = 1 / BOX_FACTOR
) -> Tensor:
    """The distance (B,) m from which the joints' bounding sphere fills `share` of a square image's side.

    A sphere of radius r at distance d has the outline radius focal * r / sqrt(d^2 - r^2).

    Args:
        joints_m: (B,J,3) posed joints, any frame.
        focal_px: (B,) or a number.
        share: (B,) or a number, of the side, in (0, 1].
    """
    _, radius = bounding_sphere(joints_m)
    return radius * ((2 * focal_px / (share * size_px)) ** 2 + 1) ** 0.5


def joints_box_px(joints_px: Tensor) -> tuple[Tensor, Tensor]:
    """The square around projected joints: (B,J,2) px -> centre (B,2) px and side (B,) px."""
    low, high = joints_px.amin(-2), joints_px.amax(-2)
    return (low + high) / 2, (high - low).amax(-1)


def crop_camera(camera: Camera, centre_px: Tensor, side_px: Tensor, size_px: int) -> Camera:
    """The camera that sees just a square of another camera's picture, at another resolution.

    The same view point: only focal length and principal point change, so rendering with it equals cropping exactly.

    Args:
        centre_px: (B,2) of the square, in the given camera's pixels.
        side_px: (B,) of the square.
        size_px: side of the new image.
    """
    scale = size_px / side_px
    centre = (camera.centre - centre_px) * scale[:, None] + size_px / 2
    return replace(camera, focal=camera.focal * scale, centre=centre, height=size_px, width=size_px)


def crop_to_person(
    camera: Camera, joints_m: Tensor, size_px: int | None = None, factor: Tensor | float = BOX_FACTOR
) -> Camera:
    """The camera cropped to `factor` times the square around the projected joints, as all benchmarks crop.

    Args:
        camera: sees the person; any image size.
        joints_m: (B,J,3) world.
        size_px: side of the crop; None keeps the camera's width.
        factor: (B,) or a number.
    """
    centre, side = joints_box_px(camera.project(joints_m))
    return crop_camera(camera, centre, side * factor, size_px or camera.width)


def frame_person(  # noqa: PLR0913 - a camera is that many numbers
    joints_m: Tensor,
    azimuth_rad: Tensor,
    elevation_rad: Tensor,
    roll_rad: Tensor | float = 0.0,
    focal_px: Tensor | float | None = None,
    size_px: int = 96,
    distance_scale: Tensor | float = 1.0,
    factor: Tensor | float = BOX_FACTOR,
    held_m: Tensor | None = None,
) -> Camera:
    """Cameras as the product uses them: looking at the person from the distance that frames it, then cropped to it.

    Args:
        joints_m: (B,J,3) posed joints, world.
        azimuth_rad, elevation_rad: (B,).
        distance_scale: (B,) or a number; above 1 the camera stands further away (weaker perspective). The crop
            undoes the change of size.
        factor: side of the crop in units of the square around what is held.
        held_m: (B,N,3) what the crop holds, world, such as the body's vertices; None takes the joints.
    """
    focal = FOCAL_PER_SIDE * size_px if focal_px is None else focal_px
    middle, _ = bounding_sphere(joints_m)
    distance = framing_distance(joints_m, focal, size_px) * distance_scale
    camera = look_at_camera(azimuth_rad, elevation_rad, distance, roll_rad, focal, size_px, middle)
    return crop_to_person(camera, joints_m if held_m is None else held_m, size_px, factor)


def viewing_angles(camera_R: Tensor, body_R: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Azimuth and elevation (B,), (B,) rad at which a camera sees a body: the inverse of `look_at_camera`.

    Args:
        camera_R: (B,3,3) world -> camera.
        body_R: (B,3,3) body -> world (the global orient); None takes the world's own axes.
    """
    towards_camera = -camera_R[:, 2]
    if body_R is not None:
        towards_camera = (body_R.transpose(-1, -2) @ towards_camera[..., None])[..., 0]
    x, y, z = towards_camera.unbind(-1)
    return torch.atan2(x, z), torch.asin(y.clamp(-1, 1))
