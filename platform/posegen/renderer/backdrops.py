"""Procedural surroundings seen by a camera: rooms, streets and meadows, snowy slopes, smooth noise.

Each is a function of view rays and of per-item random numbers, so the floor lies at the feet, the walls meet it, and
both move with the camera as they would behind a real person.

Dimensions: N items, P pixels of one image, K random numbers. World frame: metres, y up. Colours are RGB in [0,1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.scene import Camera, Light

GroundTexture = Callable[[Tensor, Tensor], Tensor]  # pick (N,) in [0,1), uv (N,P,2) in tiles -> colours (N,P,3)

CLEARANCE_M = 0.15  # a camera below the floor would see it from underneath: the floor is lowered to this below it
HAZE_DISTANCE_M = 40.0


@dataclass(frozen=True)
class View:
    """The rays of a batch of images and where the person stands."""

    origin: Tensor  # (N,3) m
    direction: Tensor  # (N,P,3) not normalised: one unit of depth
    person: Tensor  # (N,3) m
    floor_m: Tensor  # (N,) world y under the feet
    focal: Tensor  # (N,) px
    light: Light

    @staticmethod
    def of(camera: Camera, person: Tensor, floor_m: Tensor, light: Light) -> View:
        device = camera.R.device
        v, u = torch.meshgrid(
            torch.arange(camera.height, device=device) + 0.5,
            torch.arange(camera.width, device=device) + 0.5,
            indexing="ij",
        )
        pixel = torch.stack([u, v], -1).reshape(1, -1, 2)
        xy = (pixel - camera.centre[:, None]) / camera.focal[:, None, None]
        rays_cam = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
        origin = -(camera.R.transpose(-1, -2) @ camera.t[..., None])[..., 0]
        floor_m = torch.minimum(floor_m, origin[:, 1] - CLEARANCE_M)
        return View(origin, rays_cam @ camera.R, person, floor_m, camera.focal, light)

    @property
    def exposure(self) -> Tensor:
        """(N,1,1) how bright the light makes a surface, as a soft factor around 1."""
        return (0.55 + 0.45 * (self.light.ambient + 0.6 * self.light.diffuse))[:, None, None]


def _colour(u: Tensor, value: tuple[float, float], saturation: float) -> Tensor:
    """Random numbers (...,4) -> colours (...,3): a grey of the given range, tinted."""
    grey = value[0] + (value[1] - value[0]) * u[..., :1]
    return (grey + saturation * (u[..., 1:4] - 0.5)).clamp(0, 1)


def _shadow(view: View, x: Tensor, z: Tensor) -> Tensor:
    """(N,P,1) darkening of the ground under and beside the person, away from the light."""
    away = -view.light.direction[:, [0, 2]] * 0.25
    dx = x - (view.person[:, 0] + away[:, 0])[:, None]
    dz = z - (view.person[:, 2] + away[:, 1])[:, None]
    depth = 0.25 + 0.25 * view.light.diffuse
    return (1 - depth[:, None] * torch.exp(-(dx * dx + dz * dz) / 0.35**2))[..., None]


def room(view: View, u: Tensor, ground: GroundTexture) -> Tensor:
    """A box room around person and camera, with patterned surfaces and a picture or window on each wall.

    Args:
        u: (N,K) random numbers, K = ROOM_NUMBERS.

    Returns:
        (N,P,3).
    """
    n = len(u)
    head, surfaces = u[:, :16], u[:, 16:ROOM_NUMBERS].reshape(n, 6, 20)
    yaw = head[:, 0] * math.pi / 2
    cos, sin = yaw.cos(), yaw.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], -1).reshape(n, 3, 3)
    origin = ((view.origin - view.person)[:, None] @ turn.transpose(-1, -2))[:, 0]
    d = view.direction @ turn.transpose(-1, -2)
    d = torch.where(d.abs() < 1e-6, torch.full_like(d, 1e-6), d)
    # The walls are at least 0.7 m behind person and camera, whichever is further out.
    low = torch.minimum(origin, torch.zeros_like(origin)) - 0.7 - 3.0 * head[:, 1:4]
    high = torch.maximum(origin, torch.zeros_like(origin)) + 0.7 + 3.0 * head[:, 4:7]
    floor = view.floor_m - view.person[:, 1]
    low = torch.stack([low[:, 0], floor, low[:, 2]], -1)
    ceiling = torch.maximum(floor + 2.4 + 1.2 * head[:, 7], origin[:, 1] + 0.3)
    high = torch.stack([high[:, 0], ceiling, high[:, 2]], -1)
    bound = torch.where(d > 0, high[:, None], low[:, None])
    distance, axis = ((bound - origin[:, None]) / d).min(-1)
    hit = origin[:, None] + distance[..., None] * d
    x, y, z = hit.unbind(-1)
    surface = 2 * axis + (d.gather(-1, axis[..., None])[..., 0] > 0)  # -x, +x, floor, ceiling, -z, +z
    flat = axis == 1
    a = torch.where(axis == 0, z, x)
    b = torch.where(flat, z, y - floor[:, None])

    wall = _colour(surfaces[..., :4], (0.35, 0.95), 0.25)
    other = (wall * (0.4 + 0.9 * surfaces[..., 4:5]) + 0.2 * (surfaces[..., 4:7] - 0.5)).clamp(0, 1)
    picture = _colour(surfaces[..., 7:11], (0.1, 1.0), 0.6)
    kind = surfaces[..., 11]
    is_floor = torch.zeros(6, device=u.device)
    is_floor[2] = 1
    plain = (kind < 0.55 - 0.4 * is_floor).float()
    stripes = (kind > 0.8).float()
    cell_m = 0.12 + 0.7 * surfaces[..., 12]
    square = torch.stack([(surfaces[..., 13] - 0.5) * 4, 0.8 + 1.2 * surfaces[..., 14]], -1)
    size = 0.15 + 0.75 * surfaces[..., 15:17]
    size = torch.where(torch.tensor([0, 0, 1, 1, 0, 0], device=u.device).bool()[:, None], -1.0, size)
    table = torch.cat([wall, other, picture, plain[..., None], stripes[..., None], cell_m[..., None], square, size], -1)
    chosen = table.gather(1, surface[..., None].expand(-1, -1, table.shape[-1]))
    base, second, paint, plain, stripes, cell_m, square, size = chosen.split([3, 3, 3, 1, 1, 1, 2, 2], -1)

    footprint = distance[..., None] / view.focal[:, None, None] / cell_m  # cells a pixel covers: no aliasing
    phase = math.pi * torch.stack([a, b], -1) / cell_m
    wave = phase.sin()
    wave = wave[..., :1] * torch.where(stripes > 0, 1.0, wave[..., 1:])
    pattern = torch.sigmoid(12 * wave) * (1.3 - 2 * footprint).clamp(0, 1) * (1 - plain)
    colour = base + (second - base) * pattern
    offset = (torch.stack([a, b], -1) - square).abs()
    colour = torch.where((offset < size).all(-1, keepdim=True), paint, colour)
    textured = (head[:, 8] < 0.35)[:, None, None] & (surface == 2)[..., None]
    if bool(textured.any()):
        tiles = torch.stack([x, z], -1) / (0.6 + 2 * head[:, 9])[:, None, None]
        tone = ground(head[:, 10], tiles).mean(-1, keepdim=True)
        colour = torch.where(textured, second * (0.4 + 1.2 * tone), colour)

    light = (turn @ view.light.direction[..., None])[..., 0].abs()
    lit = 0.8 + 0.2 * light.gather(1, axis)
    corner = torch.where(flat, 1.0, 1 - 0.25 * torch.exp(-b.abs() / 0.25))
    shade = (lit * corner)[..., None]
    shade = torch.where((surface == 2)[..., None], shade * _shadow_local(view, x, z, turn), shade)
    return (colour * shade * view.exposure).clamp(0, 1)


def _shadow_local(view: View, x: Tensor, z: Tensor, turn: Tensor) -> Tensor:
    """The shadow in the room's frame, whose origin is the person."""
    points = torch.stack([x, torch.zeros_like(x), z], -1) @ turn
    return _shadow(view, points[..., 0] + view.person[:, None, 0], points[..., 2] + view.person[:, None, 2])


ROOM_NUMBERS = 16 + 6 * 20


def _waves(angle: Tensor, u: Tensor, frequencies: tuple[int, ...]) -> Tensor:
    """A periodic random function of angle (N,P): a sum of sines with random phases u (N,F) and amplitudes."""
    total = torch.zeros_like(angle)
    for i, frequency in enumerate(frequencies):
        total = total + torch.sin(frequency * angle + 2 * math.pi * u[:, i, None]) / (1 + i) ** 0.7
    return total


def _outside(view: View, u: Tensor, normal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rays against a ground plane through the feet: azimuth, elevation above the plane, on ground, depth, position."""
    d = view.direction
    length = d.norm(dim=-1)
    above = (d * normal[:, None]).sum(-1) / length
    feet = torch.stack([view.person[:, 0], view.floor_m, view.person[:, 2]], -1)
    height = ((view.origin - feet) * normal).sum(-1).clamp_min(CLEARANCE_M)
    distance = height[:, None] / (-above).clamp_min(1e-3)
    hit = view.origin[:, None] + d / length[..., None] * distance[..., None]
    return torch.atan2(d[..., 0], d[..., 2]), above, above < 0, distance, hit


def _sky(view: View, u: Tensor, azimuth: Tensor, above: Tensor) -> Tensor:
    zenith = torch.stack([0.15 + 0.4 * u[:, 0], 0.35 + 0.35 * u[:, 0], 0.65 + 0.3 * u[:, 1]], -1)
    horizon = 0.72 + 0.28 * u[:, 2:5]
    t = (above.clamp_min(0) * 1.6).clamp(0, 1).sqrt()[..., None]
    sky = horizon[:, None] + (zenith - horizon)[:, None] * t
    plane = above.clamp_min(0.02) + 0.15
    x, z = azimuth.sin() / plane, azimuth.cos() / plane
    cloud = _waves(x + 0.3 * z, u[:, 5:9], (1, 2, 5, 9)) + _waves(z - 0.4 * x, u[:, 9:12], (1, 3, 6))
    cover = torch.sigmoid(3 * (cloud - 1.5 + 2 * u[:, 12, None]))[..., None]
    return sky + (0.95 - sky) * 0.7 * cover


def _skyline(view: View, u: Tensor, azimuth: Tensor, above: Tensor, colour: Tensor, scene: Tensor) -> Tensor:
    """Far hills, then trees or blocks of houses, in front of `scene` (N,P,3)."""
    pixel = 1.5 / view.focal[:, None]  # rad: edges as soft as a pixel
    hills = 0.05 + 0.1 * u[:, 0, None] + 0.03 * _waves(azimuth, u[:, 1:4], (3, 5, 11))
    cover = ((hills - above) / pixel).clamp(0, 1)[..., None]
    far = 0.55 * colour + 0.45 * torch.tensor([0.65, 0.72, 0.8], device=u.device)
    scene = scene + (far[:, None] - scene) * cover
    houses = (u[:, 4, None] < 0.5).float()
    count = torch.floor(20 + 40 * u[:, 5, None])
    cell = torch.floor((azimuth / math.pi + 1) / 2 * count)
    tone = torch.frac(torch.sin(cell * 12.9898 + 40 * u[:, 6, None]) * 437.5453).abs()
    second = torch.frac(tone * 91.7).abs()
    block = tone * 0.28 * (second > 0.35)
    trees = (0.06 + 0.05 * _waves(azimuth, u[:, 7:13], (5, 9, 17, 31, 53, 83))).clamp_min(0)
    near = torch.where(houses > 0, block, trees * (0.6 + 1.2 * u[:, 13, None]))
    windows = (torch.sin(above * 120) > 0.3) & (torch.sin(azimuth * count * 5) > 0.2)
    shade = torch.where(
        houses > 0, 0.55 + 0.6 * second - 0.2 * windows, 0.75 + 0.2 * torch.sin(90 * azimuth) * torch.sin(130 * above)
    )
    body = torch.where(houses[..., None] > 0, 0.3 + 0.5 * colour[:, None], colour[:, None] * 0.8) * shade[..., None]
    cover = ((near - above) / pixel).clamp(0, 1)[..., None]
    return scene + (body.clamp(0, 1) - scene) * cover


def outdoor(view: View, u: Tensor, ground: GroundTexture) -> Tensor:
    """Sky, hills, trees or houses at the horizon, and a ground of grass, gravel or stone. u (N, OUTDOOR_NUMBERS)."""
    normal = torch.tensor([0.0, 1.0, 0.0], device=u.device).expand(len(u), 3)
    azimuth, above, on_ground, distance, hit = _outside(view, u, normal)
    green = torch.stack([0.18 + 0.3 * u[:, 40], 0.3 + 0.3 * u[:, 41], 0.12 + 0.15 * u[:, 42]], -1)
    sky = _sky(view, u[:, :16], azimuth, above)
    scene = _skyline(view, u[:, 16:32], azimuth, above, green, sky)
    grey = _colour(u[:, 43:47], (0.35, 0.75), 0.15)
    soil = torch.where((u[:, 47, None] < 0.5), green * 1.2, grey)
    tile_m = (0.7 + 2 * u[:, 48])[:, None, None]
    tone = ground(u[:, 49], hit[..., [0, 2]] / tile_m)
    tone = tone.mean(-1, keepdim=True) / 0.45
    fade = torch.exp(-distance / view.focal[:, None] * 12 / tile_m[..., 0])[..., None]
    patch = _waves(0.9 * hit[..., 0] + 0.4 * hit[..., 2], u[:, 33:36], (1, 2, 3)) * torch.sin(0.7 * hit[..., 2])
    patch = 1 + 0.09 * patch[..., None] * torch.exp(-distance / 12)[..., None]
    colour = soil[:, None] * (1 + (tone - 1) * fade) * patch
    haze = (1 - torch.exp(-distance / HAZE_DISTANCE_M))[..., None]
    colour = colour * _shadow(view, hit[..., 0], hit[..., 2])
    colour = colour + (0.6 * soil[:, None] + 0.3 - colour) * haze
    return (torch.where(on_ground[..., None], colour, scene) * view.exposure).clamp(0, 1)


OUTDOOR_NUMBERS = 50


def snow(view: View, u: Tensor, ground: GroundTexture) -> Tensor:
    """A snowy slope of 5 to 25 degrees under a blue sky, with dark trees at its edge. u (N, OUTDOOR_NUMBERS)."""
    tilt, heading = 0.09 + 0.35 * u[:, 43], 2 * math.pi * u[:, 44]
    normal = torch.stack([tilt.sin() * heading.cos(), tilt.cos(), tilt.sin() * heading.sin()], -1)
    azimuth, above, on_ground, distance, hit = _outside(view, u, normal)
    clear = torch.cat([u[:, :1] * 0.3, u[:, 1:12], u[:, 12:16] * 0.3], 1)
    forest = torch.stack([0.08 + 0.1 * u[:, 40], 0.16 + 0.12 * u[:, 41], 0.12 + 0.1 * u[:, 42]], -1)
    trees = torch.cat([u[:, 16:20], torch.ones_like(u[:, :1]), u[:, 21:32]], 1)
    scene = _skyline(view, trees, azimuth, above, forest, _sky(view, clear, azimuth, above))
    white = torch.stack([0.86 + 0.1 * u[:, 45], 0.89 + 0.08 * u[:, 45], 0.94 + 0.05 * u[:, 46]], -1)
    x, z = hit[..., 0], hit[..., 2]
    bumps = torch.sin(2.1 * x + 6 * u[:, 47, None]) * torch.sin(1.3 * z) + 0.5 * torch.sin(5 * x + 3.1 * z)
    ruts = torch.sigmoid(20 * (torch.sin((x * heading.sin()[:, None] - z * heading.cos()[:, None]) * 4) - 0.93))
    fade = torch.exp(-distance / 15)
    shade = 1 - fade * (0.05 * bumps.clamp(-1, 1) + 0.06 + 0.14 * ruts)
    colour = white[:, None] * shade[..., None] * (0.5 + 0.5 * _shadow(view, x, z))
    exposure = 0.75 + 0.25 * view.exposure
    return (torch.where(on_ground[..., None], colour, scene) * exposure).clamp(0, 1)


def noise(u: Tensor, height: int, width: int) -> Tensor:
    """Smooth colour noise and gradients: u (N, NOISE_NUMBERS) -> (N,3,H,W)."""
    n = len(u)
    coarse = F.interpolate(u[:, :12].reshape(n, 3, 2, 2), (height, width), mode="bilinear", align_corners=True)
    fine = F.interpolate(u[:, 12:159].reshape(n, 3, 7, 7), (height, width), mode="bicubic", align_corners=True)
    weight = u[:, 159, None, None, None]
    colour = coarse + 0.9 * weight * (fine - 0.5)
    grey = colour.mean(1, keepdim=True)
    return (grey + 0.45 * (colour - grey)).clamp(0, 1)


NOISE_NUMBERS = 160
