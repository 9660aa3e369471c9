"""Who may see what: the clips, people, bodies, cameras and backgrounds of every training pool and every test.

A split is a file (conf/split/*.yaml). It is loaded here, printed with each result, and proved disjoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posegen.body.cameras import SURFACE_FACTOR
from posegen.errors import ConfigError, DataError, did_you_mean
from posegen.files.state import read_yaml
from posegen.folders import conf_dir
from posegen.renderer.surroundings.backgrounds import DEFAULT_KINDS, KINDS
from posegen.renderer.surroundings.looks import LookConfig, Range
from posegen.renderer.surroundings.photos import POOLS
from posegen.seeds import torch_generator

SECTOR_DEG = 4.0  # azimuths of even and odd sectors belong to different lattices ...
SECTOR_GAP_DEG = 0.5  # ... and keep this far from the sectors' borders
WINDOW_S = 0.5  # half seconds of clips with even and odd numbers are apart likewise: tests show the ones ...
WINDOW_GAP_S = 0.05  # ... and their target parts the others, this far from the windows' borders
SIDES = ("any", "even", "odd")
BOXES = ("surface", "joints")
TARGET_SUFFIX = "-target"
TRAINING_PARTS = ("source", "pool")


@dataclass(frozen=True)
class CameraRange:
    """What cameras are drawn from; see conf/split/embedded.yaml for the meaning of each."""

    azimuth_deg: tuple[Range, ...] = ((-180.0, 180.0),)  # one of them is picked for each camera
    elevation_deg: Range = (0.0, 0.0)
    roll_deg: Range = (0.0, 0.0)
    distance_scale: Range = (1.0, 1.0)
    focal_scale: Range = (1.0, 1.0)
    centre_jitter: float = 0.0  # standard deviation of the crop's centre, in sides
    scale_jitter: float = 0.0  # half range of the crop's relative size
    lattice: str = "any"  # "even", "odd" or "any"
    box: str = "surface"  # what the crop holds: the body's surface, or its joints
    box_factor: float = SURFACE_FACTOR  # side of the crop in units of the square around that

    def __post_init__(self) -> None:
        if self.lattice not in SIDES:
            raise ConfigError(f"unknown camera lattice {self.lattice!r}", choices=SIDES)
        if self.box not in BOXES:
            raise ConfigError(f"unknown box {self.box!r}", where="split: camera.box", choices=BOXES)
        if not 1 <= self.box_factor <= 4:
            raise ConfigError(f"a crop of {self.box_factor} boxes is not possible", where="split: camera.box_factor")
        ranges = {"elevation_deg": [self.elevation_deg], "roll_deg": [self.roll_deg]}
        ranges |= {"distance_scale": [self.distance_scale], "focal_scale": [self.focal_scale]}
        for name, values in (ranges | {"azimuth_deg": list(self.azimuth_deg)}).items():
            for low, high in values:
                if low > high or (name.endswith("scale") and low <= 0):
                    raise ConfigError(f"camera.{name} is no range", where=(low, high))


@dataclass(frozen=True)
class Bodies:
    """A finite list of body shapes, so that it can be proved that two pools share none."""

    count: int
    seed: int
    spread: float = 0.8

    def betas(self) -> Tensor:
        """(count,10), within what the body model calls plausible."""
        from posegen.body.model import BETA_LIMIT

        drawn = self.spread * torch.randn(self.count, 10, generator=torch_generator(self.seed, "bodies"))
        limit = torch.tensor([BETA_LIMIT[0]] + [BETA_LIMIT[1]] * 9)
        return torch.maximum(torch.minimum(drawn, limit), -limit)


@dataclass(frozen=True)
class BackgroundPool:
    pool: str = "train"
    kinds: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_KINDS))

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise ConfigError(f"unknown background pool {self.pool!r}", choices=POOLS)
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ConfigError(f"unknown kinds of background {unknown}", choices=KINDS)


@dataclass(frozen=True)
class SplitPart:
    """What one pool or test may draw from."""

    name: str
    clips: tuple[str, ...]
    subjects: tuple[str, ...]
    bodies: Bodies
    easy: tuple[str, ...] = ()  # of the clips those of a kind of motion that training has; they make half of the scenes
    windows: str = "any"  # which half seconds of the clips are shown: "even", "odd" or "any"
    camera: CameraRange = CameraRange()
    background: BackgroundPool = BackgroundPool()
    look: LookConfig = LookConfig()
    ambient: Range = (0.35, 0.75)
    joint_noise_deg: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        for kind in ("clips", "subjects", "easy"):
            if odd := [name for name in getattr(self, kind) if not isinstance(name, str)]:
                raise ConfigError(f"{kind} are named by words, {odd[0]!r} is none", where=self.name)
        if self.windows not in SIDES:
            raise ConfigError(f"unknown windows {self.windows!r}", where=self.name, choices=SIDES)
        if unknown := sorted(set(self.easy) - set(self.clips)):
            raise ConfigError(f"easy clips {unknown} are none of the part's clips", where=self.name, choices=self.clips)

    @property
    def hard(self) -> tuple[str, ...]:
        """The clips that are not easy."""
        return tuple(clip for clip in self.clips if clip not in self.easy)

    def __str__(self) -> str:
        c = self.camera
        azimuth = sorted({f"{low:g}..{high:g}" for low, high in c.azimuth_deg})
        return (
            f"{self.name}: clips {self._said_clips()}; subjects {', '.join(self.subjects)}; "
            f"{self.bodies.count} bodies (seed {self.bodies.seed}); azimuth {' or '.join(azimuth)}, "
            f"elevation {c.elevation_deg[0]:g}..{c.elevation_deg[1]:g} degrees, {c.lattice} sectors; "
            f"backgrounds {self.background.pool}"
        )

    def _said_clips(self) -> str:
        windows = "" if self.windows == "any" else f", {self.windows} half seconds"
        if not self.easy:
            return ", ".join(self.clips) + windows
        return f"{', '.join(self.hard)}; of known kinds {', '.join(self.easy)}{windows}"


@dataclass(frozen=True)
class Split:
    name: str
    version: int
    parts: Mapping[str, SplitPart]  # training and validation
    tests: Mapping[str, SplitPart]
    targets: Mapping[str, SplitPart] = field(default_factory=dict)  # by the test whose unlabelled kin they are

    def __getitem__(self, name: str) -> SplitPart:
        """A training part, a test or a target part by its name."""
        both = {**self.parts, **self.tests, **{part.name: part for part in self.targets.values()}}
        if name not in both:
            hint = did_you_mean(name, both)
            raise ConfigError(f"the split {self.name!r} has no part {name!r}{hint}", choices=both)
        return both[name]

    @property
    def digest(self) -> str:
        """Changes whenever anything in the split does."""
        return part_digest(*self.parts.values(), *self.tests.values(), *self.targets.values())

    def __str__(self) -> str:
        lines = [f"split {self.name} version {self.version}"]
        lines += [f"  {part}" for part in self.parts.values()]
        lines += [f"  test {part}" for part in self.tests.values()]
        lines += [f"  target {part}" for part in self.targets.values()]
        return "\n".join(lines)


def part_digest(*parts: SplitPart) -> str:
    """16 hexadecimal digits that name the content of parts."""
    text = json.dumps([asdict(part) for part in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _subject_names(value: str | Sequence[str]) -> tuple[str, ...]:
    from posegen.body.subjects import ALL_SUBJECTS, GROUPS

    if isinstance(value, str):
        if value not in GROUPS:
            raise ConfigError(f"unknown group of subjects {value!r}", choices=GROUPS)
        return GROUPS[value]
    if unknown := [name for name in value if name not in ALL_SUBJECTS]:
        raise ConfigError(f"unknown subjects {unknown}", choices=ALL_SUBJECTS)
    return tuple(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_range(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and all(map(_is_number, value))


# By a field's declared type: what the error calls it, and whether a value is of that kind.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", lambda value: type(value) is int),
    "float": ("a number", _is_number),
    "bool": ("true or false", lambda value: type(value) is bool),
    "str": ("a word", lambda value: type(value) is str),
    "Range": ("two numbers", _is_range),
    "tuple[Range, ...]": (
        "a list of two numbers each",
        lambda value: type(value) is tuple and all(map(_is_range, value)),
    ),
}


def _record(cls: type, values: Mapping[str, Any], where: str) -> Any:
    names = [f.name for f in fields(cls)]
    if unknown := sorted(set(values) - set(names)):
        raise ConfigError(f"unknown keys {unknown} in the split", where=where, choices=names)
    frozen = {key: _frozen(value) for key, value in values.items()}
    for one in fields(cls):
        said, fits = _KINDS.get(str(one.type), ("", None))
        if one.name in frozen and fits is not None and not fits(frozen[one.name]):
            raise ConfigError(f"{one.name} must be {said}, not {values[one.name]!r}", where=where)
    try:
        return cls(**frozen)
    except TypeError as error:
        raise ConfigError(f"the split is incomplete: {error}", where=where, choices=names) from error


def _frozen(value: Any) -> Any:
    """Lists (also nested) to tuples; numbers in ranges to floats."""
    if isinstance(value, (list, tuple)):
        return tuple(float(v) if isinstance(v, int) else _frozen(v) for v in value)
    return value


def part_from_config(name: str, config: Mapping[str, Any]) -> SplitPart:
    """One part out of plain dictionaries and lists."""
    values = dict(config)
    where = f"split part {name}"
    for key, cls in (
        ("bodies", Bodies),
        ("camera", CameraRange),
        ("background", BackgroundPool),
        ("look", LookConfig),
    ):
        if key in values:
            values[key] = _record(cls, values[key], f"{where}, {key}")
    if "subjects" in values:
        values["subjects"] = _subject_names(values["subjects"])
    return _record(SplitPart, {**values, "name": name}, where)


def target_from_config(test: str, config: Mapping[str, Any]) -> SplitPart:
    """The target part of a test: the test itself with what the split's `targets` say of it instead."""
    seen = {**config["parts"], **config["tests"]}
    if test not in seen:
        raise ConfigError(f"the target {test!r} is of no test", where="split targets", choices=seen)
    values = dict(seen[test])
    for key, value in config["targets"][test].items():
        values[key] = {**(values.get(key) or {}), **value} if isinstance(value, Mapping) else value
    return part_from_config(test + TARGET_SUFFIX, values)


def split_file(name: str = "embedded") -> Path:
    """conf/split/<name>.yaml of the working directory, else of those that come with posegen."""
    roots = (Path.cwd() / "conf" / "split", conf_dir() / "split")
    for root in roots:
        if (root / f"{name}.yaml").is_file():
            return root / f"{name}.yaml"
    found = sorted({path.stem for root in roots for path in root.glob("*.yaml")})
    raise ConfigError(f"there is no split {name!r}", where=roots[1], choices=found)


def load_split(source: str | Path | Mapping[str, Any] = "embedded") -> Split:
    """A split by name, file, or as the plain mapping that Hydra composed."""
    if isinstance(source, Mapping):
        config: Any = source
        where = "split"
    else:
        path = source if isinstance(source, Path) else split_file(source)
        where = str(path)
        try:
            config = read_yaml(path, "the split")
        except FileNotFoundError as error:
            raise DataError("there is no such split", where=path) from error
    expected = ("name", "version", "parts", "tests", "targets")
    if not isinstance(config, Mapping) or set(config) != set(expected):
        raise ConfigError("a split has exactly five keys", where=where, choices=expected)
    try:
        return Split(
            str(config["name"]),
            int(config["version"]),
            {str(name): part_from_config(str(name), part) for name, part in config["parts"].items()},
            {str(name): part_from_config(str(name), part) for name, part in config["tests"].items()},
            {str(name): target_from_config(str(name), config) for name in config["targets"]},
        )
    except ConfigError as error:
        if error.where is not None:
            raise
        raise ConfigError(error.what, where=where, choices=error.choices, next_command=error.next_command) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # a value of another kind than expected
        raise ConfigError(f"a value of the split is of another kind than it should be: {error}", where=where) from error
