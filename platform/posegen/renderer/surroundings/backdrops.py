"""Procedural surroundings seen by a camera: rooms, streets and meadows, snowy slopes, smooth noise.

Each is a function of view rays and of per-item random numbers, so the floor lies at the feet, the walls meet it, and
both move with the camera as they would behind a real person.

Dimensions: N items, P pixels of one image, K random numbers. World frame: metres, y up. Colours are RGB in [0,1],
planar (N,3,P), as arithmetic is fast along the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.scene import Camera, Light

GroundTexture = Callable[[Tensor, Tensor, Tensor], Tensor]  # pick (N,) in [0,1), u, v (N,P) in tiles -> tone (N,P)

CLEARANCE_M = 0.15  # a camera below the floor would see it from underneath: the floor is lowered to this below it
HAZE_DISTANCE_M = 40.0


@dataclass(frozen=True)
class View:
    """The rays of a batch of images and where the person stands."""

    origin: Tensor  # (N,3) m
    direction: Tensor  # (N,3,P) not normalised: one unit of depth
    person: Tensor  # (N,3) m
    floor_m: Tensor  # (N,) world y under the feet
    focal: Tensor  # (N,) px
    light: Light

    @staticmethod
    def of(camera: Camera, person: Tensor, floor_m: Tensor, light: Light) -> View:
        device = camera.R.device
        u = torch.arange(camera.width, device=device) + 0.5
        v = torch.arange(camera.height, device=device) + 0.5
        x = (u - camera.centre[:, :1]) / camera.focal[:, None]
        y = (v - camera.centre[:, 1:]) / camera.focal[:, None]
        # R^T (x, y, 1) = x * first row + y * second row + third row
        first, second, third = (row[..., None, None] for row in camera.R.unbind(1))
        direction = x[:, None, None] * first + y[:, None, :, None] * second + third
        origin = -(camera.R.transpose(-1, -2) @ camera.t[..., None])[..., 0]
        floor_m = torch.minimum(floor_m, origin[:, 1] - CLEARANCE_M)
        return View(origin, direction.flatten(2), person, floor_m, camera.focal, light)

    @property
    def exposure(self) -> Tensor:
        """(N,1,1) how bright the light makes a surface, as a soft factor around 1."""
        return (0.55 + 0.45 * (self.light.ambient + 0.6 * self.light.diffuse))[:, None, None]


def _colour(u: Tensor, value: tuple[float, float], saturation: float) -> Tensor:
    """Random numbers (...,4) -> colours (...,3): a grey of the given range, tinted."""
    grey = value[0] + (value[1] - value[0]) * u[..., :1]
    return (grey + saturation * (u[..., 1:4] - 0.5)).clamp(0, 1)


def _blend(below: Tensor, above: Tensor, cover: Tensor) -> Tensor:
    """`above` (N,3,P or 1) over `below` (N,3,P) where `cover` (N,P) is 1."""
    return torch.lerp(below, above.expand_as(below), cover[:, None].expand_as(below))


def _shadow(view: View, dx: Tensor, dz: Tensor, towards: Tensor) -> Tensor:
    """(N,P) darkening of the ground at dx, dz (N,P) m from the person, most on the side away from the light.

    `towards` (N,3) is the light's direction in the frame of dx and dz.
    """
    dx = dx + 0.25 * towards[:, 0, None]
    dz = dz + 0.25 * towards[:, 2, None]
    depth = 0.25 + 0.25 * view.light.diffuse
    return 1 - depth[:, None] * torch.exp((dx * dx + dz * dz) / -(0.35**2))


ROOM_NUMBERS = 16 + 6 * 20


def room(view: View, u: Tensor, ground: GroundTexture) -> Tensor:
    """A box room around person and camera, with patterned surfaces and a picture or window on each wall.

    Args:
        u: (N,K) random numbers, K = ROOM_NUMBERS.

    Returns:
        (N,3,P).
    """
    n = len(u)
    head, surfaces = u[:, :16], u[:, 16:ROOM_NUMBERS].reshape(n, 6, 20)
    yaw = head[:, 0] * math.pi / 2
    cos, sin = yaw.cos(), yaw.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], -1).reshape(n, 3, 3)
    origin = (turn @ (view.origin - view.person)[..., None])[..., 0]
    light = (turn @ view.light.direction[..., None])[..., 0]
    d = turn @ view.direction
    d = torch.where(d.abs() < 1e-6, 1e-6, d)
    # The walls are at least 0.7 m behind person and camera, whichever is further out.
    low = torch.minimum(origin, torch.zeros_like(origin)) - 0.7 - 3.0 * head[:, 1:4]
    high = torch.maximum(origin, torch.zeros_like(origin)) + 0.7 + 3.0 * head[:, 4:7]
    floor = view.floor_m - view.person[:, 1]
    low = torch.stack([low[:, 0], floor, low[:, 2]], -1)
    ceiling = torch.maximum(floor + 2.4 + 1.2 * head[:, 7], origin[:, 1] + 0.3)
    high = torch.stack([high[:, 0], ceiling, high[:, 2]], -1)
    ahead = d > 0
    bound = torch.where(ahead, (high - origin)[..., None], (low - origin)[..., None])
    distance, axis = (bound / d).min(1)
    x, y, z = (origin[..., None] + distance[:, None] * d).unbind(1)
    surface = 2 * axis + ahead.gather(1, axis[:, None])[:, 0]  # -x, +x, floor, ceiling, -z, +z
    flat = axis == 1
    a = torch.where(axis == 0, z, x)
    height = y - floor[:, None]
    b = torch.where(flat, z, height)

    chosen = _surface_table(surfaces).gather(2, surface[:, None].expand(-1, TABLE_ROWS, -1))
    base, second, paint, rest = chosen[:, :3], chosen[:, 3:6], chosen[:, 6:9], chosen[:, 9:]
    patterned, stripes, cells_per_m, centre_a, centre_b, half_a, half_b = rest.unbind(1)

    footprint = distance / view.focal[:, None] * cells_per_m  # cells a pixel covers: no aliasing
    wave = torch.sin(math.pi * cells_per_m * a)
    wave = wave * torch.where(stripes > 0, 1.0, torch.sin(math.pi * cells_per_m * b))
    pattern = torch.sigmoid(12 * wave) * (1.3 - 2 * footprint).clamp(0, 1) * patterned
    on_picture = ((a - centre_a).abs() < half_a) & ((b - centre_b).abs() < half_b)
    colour = torch.where(on_picture[:, None], paint, torch.lerp(base, second, pattern[:, None].expand_as(base)))
    textured = (head[:, 8] < 0.35).nonzero()[:, 0]
    if len(textured):
        tile_m = (0.6 + 2 * head[textured, 9])[:, None]
        tone = ground(head[textured, 10], x[textured] / tile_m, z[textured] / tile_m)
        stone = second[textured] * (0.4 + 1.2 * tone)[:, None]
        colour[textured] = torch.where((surface[textured] == 2)[:, None], stone, colour[textured])

    lit = 0.8 + 0.2 * light.abs().gather(1, axis)
    corner = torch.where(flat, 1.0, 1 - 0.25 * torch.exp(height / -0.25))
    shade = lit * corner * torch.where(surface == 2, _shadow(view, x, z, light), 1.0)
    return (colour * (shade[:, None] * view.exposure)).clamp(0, 1)


TABLE_ROWS = 16


def _surface_table(u: Tensor) -> Tensor:
    """What the six surfaces of a room look like: random numbers (N,6,20) -> (N,TABLE_ROWS,6).

    Three colours (wall, its pattern, the picture on it), patterned, stripes instead of checks, cells a metre, and the
    picture's centre and half size in metres.
    """
    wall = _colour(u[..., :4], (0.35, 0.95), 0.25)
    other = (wall * (0.4 + 0.9 * u[..., 4:5]) + 0.2 * (u[..., 4:7] - 0.5)).clamp(0, 1)
    picture = _colour(u[..., 7:11], (0.1, 1.0), 0.6)
    kind = u[..., 11]
    plain_share = torch.full((6,), 0.55, device=u.device)
    plain_share[2] = 0.15  # floors are rarely plain
    patterned, stripes = (kind >= plain_share).float(), (kind > 0.8).float()
    per_m = 1 / (0.12 + 0.7 * u[..., 12])
    centre = torch.stack([(u[..., 13] - 0.5) * 4, 0.8 + 1.2 * u[..., 14]], -1)
    half = 0.15 + 0.75 * u[..., 15:17]
    half[:, 2:4] = -1.0  # no picture on floor and ceiling
    scalars = torch.stack([patterned, stripes, per_m], -1)
    return torch.cat([wall, other, picture, scalars, centre, half], -1).transpose(1, 2)


def _waves(angle: Tensor, u: Tensor, frequencies: tuple[int, ...]) -> Tensor:
    """A random function of angle (N,P) with the period of a turn: sines of random phases u (N,F), falling off."""
    total = torch.zeros_like(angle)
    for i, frequency in enumerate(frequencies):
        total += torch.sin(frequency * angle + 2 * math.pi * u[:, i, None]) / (1 + i) ** 0.7
    return total


@dataclass(frozen=True)
class _Outside:
    """Rays against a ground plane through the feet."""

    azimuth: Tensor  # (N,P) rad
    above: Tensor  # (N,P) sine of the elevation above the plane
    on_ground: Tensor  # (N,P) bool
    distance: Tensor  # (N,P) m
    dx: Tensor  # (N,P) m from the person
    dz: Tensor

    @staticmethod
    def of(view: View, normal: Tensor) -> _Outside:
        d = view.direction
        inverse = d.square().sum(1).rsqrt()
        above = (normal[:, None] @ d)[:, 0] * inverse
        feet = torch.stack([view.person[:, 0], view.floor_m, view.person[:, 2]], -1)
        start = view.origin - feet
        height = (start * normal).sum(-1).clamp_min(CLEARANCE_M)
        distance = height[:, None] / (-above).clamp_min(1e-3)
        step = distance * inverse
        dx, dz = start[:, 0, None] + step * d[:, 0], start[:, 2, None] + step * d[:, 2]
        return _Outside(torch.atan2(d[:, 0], d[:, 2]), above, above < 0, distance, dx, dz)


def _sky(u: Tensor, seen: _Outside) -> Tensor:
    zenith = torch.stack([0.15 + 0.4 * u[:, 0], 0.35 + 0.35 * u[:, 0], 0.65 + 0.3 * u[:, 1]], -1)
    horizon = 0.72 + 0.28 * u[:, 2:5]
    height = (seen.above.clamp_min(0) * 1.6).clamp(0, 1).sqrt()
    plane = 1 / (seen.above.clamp_min(0.02) + 0.15)
    x, z = seen.azimuth.sin() * plane, seen.azimuth.cos() * plane
    cloud = _waves(x + 0.3 * z, u[:, 5:9], (1, 2, 5)) + _waves(z - 0.4 * x, u[:, 9:12], (1, 3))
    cover = 0.7 * torch.sigmoid(3 * (cloud - 1.3 + 2 * u[:, 12, None]))
    clear = _blend(horizon[..., None].expand(-1, -1, height.shape[1]), zenith[..., None], height)
    return torch.lerp(clear, clear.new_tensor(0.95), cover[:, None].expand_as(clear))


def _skyline(view: View, u: Tensor, seen: _Outside, colour: Tensor, scene: Tensor) -> Tensor:
    """Far hills, then trees or blocks of houses, in front of `scene` (N,3,P). colour (N,3) of the vegetation."""
    azimuth, above = seen.azimuth, seen.above
    edge = view.focal[:, None] / 1.5  # 1 / rad: edges as soft as a pixel
    hills = 0.05 + 0.1 * u[:, 0, None] + 0.03 * _waves(azimuth, u[:, 1:4], (3, 5, 11))
    far = 0.55 * colour + 0.45 * colour.new_tensor([0.65, 0.72, 0.8])
    scene = _blend(scene, far[..., None], ((hills - above) * edge).clamp(0, 1))
    built = u[:, 4] < 0.5
    near, body = torch.empty_like(above), torch.empty_like(scene)
    for rows, draw in ((built.nonzero()[:, 0], _houses), ((~built).nonzero()[:, 0], _trees)):
        if len(rows):
            near[rows], body[rows] = draw(u[rows], azimuth[rows], above[rows], colour[rows])
    return _blend(scene, body, ((near - above) * edge).clamp(0, 1))


def _houses(u: Tensor, azimuth: Tensor, above: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Height (N,P) rad of a row of blocks with windows, and its colour (N,3,P)."""
    count = torch.floor(20 + 40 * u[:, 5, None])
    cell = torch.floor((azimuth / math.pi + 1) / 2 * count)
    tone = torch.frac(torch.sin(cell * 12.9898 + 40 * u[:, 6, None]) * 437.5453).abs()
    second = torch.frac(tone * 91.7).abs()
    windows = (torch.sin(above * 120) > 0.3) & (torch.sin(azimuth * count * 5) > 0.2)
    shade = 0.55 + 0.6 * second - 0.2 * windows
    return tone * 0.28 * (second > 0.35), ((0.3 + 0.5 * colour[..., None]) * shade[:, None]).clamp(0, 1)


def _trees(u: Tensor, azimuth: Tensor, above: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Height (N,P) rad of a line of trees, and its colour (N,3,P)."""
    height = (0.06 + 0.05 * _waves(azimuth, u[:, 7:12], (5, 9, 17, 31, 67))).clamp_min(0)
    shade = 0.75 + 0.2 * torch.sin(90 * azimuth) * torch.sin(130 * above)
    return height * (0.6 + 1.2 * u[:, 13, None]), 0.8 * colour[..., None] * shade[:, None]


OUTDOOR_NUMBERS = 50


def outdoor(view: View, u: Tensor, ground: GroundTexture) -> Tensor:
    """Sky, hills, trees or houses at the horizon, and a ground of grass, gravel or stone. u (N, OUTDOOR_NUMBERS)."""
    seen = _Outside.of(view, u.new_tensor([0.0, 1.0, 0.0]).expand(len(u), 3))
    green = torch.stack([0.18 + 0.3 * u[:, 40], 0.3 + 0.3 * u[:, 41], 0.12 + 0.15 * u[:, 42]], -1)
    grey = _colour(u[:, 43:47], (0.35, 0.75), 0.15)
    soil = torch.where(u[:, 47, None] < 0.5, green * 1.2, grey)
    tile_m = (0.7 + 2 * u[:, 48])[:, None]
    tone = ground(u[:, 49], seen.dx / tile_m, seen.dz / tile_m) / 0.45
    fade = torch.exp(seen.distance / view.focal[:, None] * (-12 / tile_m))
    patch = _waves(0.9 * seen.dx + 0.4 * seen.dz, u[:, 33:35], (1, 2)) * torch.sin(0.7 * seen.dz)
    patch = 0.09 * patch * torch.exp(seen.distance / -12)
    tone = (1 + (tone - 1) * fade) * (1 + patch) * _shadow(view, seen.dx, seen.dz, view.light.direction)
    haze = 1 - torch.exp(seen.distance / -HAZE_DISTANCE_M)
    far = 0.6 * soil + 0.3
    colour = _blend(soil[..., None] * tone[:, None], far[..., None], haze)
    return (_with_horizon(view, u, seen, green, colour) * view.exposure).clamp(0, 1)


def _with_horizon(view: View, u: Tensor, seen: _Outside, vegetation: Tensor, ground: Tensor) -> Tensor:
    """The ground (N,3,P) with skyline and sky above it, drawn only where a picture reaches above the ground."""
    rows = (~seen.on_ground).any(1).nonzero()[:, 0]
    if not len(rows):
        return ground
    part = _Outside(*(getattr(seen, field.name)[rows] for field in fields(_Outside)))
    near = View(*(getattr(view, field.name)[rows] for field in fields(View)))
    scene = _skyline(near, u[rows, 16:32], part, vegetation[rows], _sky(u[rows, :16], part))
    ground[rows] = torch.where(part.on_ground[:, None], ground[rows], scene)
    return ground


def snow(view: View, u: Tensor, ground: GroundTexture) -> Tensor:
    """A snowy slope of 5 to 25 degrees under a blue sky, with dark trees at its edge. u (N, OUTDOOR_NUMBERS)."""
    tilt, heading = 0.09 + 0.35 * u[:, 43], 2 * math.pi * u[:, 44]
    normal = torch.stack([tilt.sin() * heading.cos(), tilt.cos(), tilt.sin() * heading.sin()], -1)
    seen = _Outside.of(view, normal)
    clear = torch.cat([u[:, :1] * 0.3, u[:, 1:12], u[:, 12:16] * 0.3], 1)
    trees = torch.cat([u[:, 16:20], torch.ones_like(u[:, :1]), u[:, 21:32]], 1)
    forest = torch.stack([0.08 + 0.1 * u[:, 40], 0.16 + 0.12 * u[:, 41], 0.12 + 0.1 * u[:, 42]], -1)
    white = torch.stack([0.86 + 0.1 * u[:, 45], 0.89 + 0.08 * u[:, 45], 0.94 + 0.05 * u[:, 46]], -1)
    x, z = seen.dx, seen.dz
    bumps = torch.sin(2.1 * x + 6 * u[:, 47, None]) * torch.sin(1.3 * z) + 0.5 * torch.sin(5 * x + 3.1 * z)
    across = x * heading.sin()[:, None] - z * heading.cos()[:, None]
    ruts = torch.sigmoid(20 * (torch.sin(4 * across) - 0.93))
    shade = 1 - torch.exp(seen.distance / -15) * (0.05 * bumps.clamp(-1, 1) + 0.06 + 0.14 * ruts)
    shade = shade * (0.5 + 0.5 * _shadow(view, x, z, view.light.direction))
    numbers = torch.cat([clear, trees], 1)
    colour = _with_horizon(view, numbers, seen, forest, white[..., None] * shade[:, None])
    return (colour * (0.75 + 0.25 * view.exposure)).clamp(0, 1)


NOISE_NUMBERS = 160


def noise(u: Tensor, height: int, width: int) -> Tensor:
    """Smooth colour noise and gradients: u (N, NOISE_NUMBERS) -> (N,3,H,W)."""
    n = len(u)
    coarse = F.interpolate(u[:, :12].reshape(n, 3, 2, 2), (height, width), mode="bilinear", align_corners=True)
    fine = F.interpolate(u[:, 12:159].reshape(n, 3, 7, 7), (height, width), mode="bicubic", align_corners=True)
    weight = u[:, 159, None, None, None]
    colour = coarse + 0.9 * weight * (fine - 0.5)
    grey = colour.mean(1, keepdim=True)
    return (grey + 0.45 * (colour - grey)).clamp(0, 1)
