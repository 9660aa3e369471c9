"""What a sweep searches and how: plain YAML, checked before anything starts. Imports no Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posegen.config_types import typed
from posegen.errors import ConfigError, closest
from posegen.files.names import check_part
from posegen.files.state import read_yaml

SEARCHES = ("random", "grid", "optuna")
SCHEDULERS = ("asha", "none")
DISTRIBUTIONS = {
    "choice": ("values",),
    "uniform": ("lower", "upper"),
    "loguniform": ("lower", "upper"),
    "int": ("lower", "upper"),
}
MEAN_IMPROVEMENT = "mean_relative_improvement"


def mpjpe_of(label: str) -> str:
    """The metric of one data set of the suite."""
    return f"mpjpe_mm/{label}"


@dataclass
class SweepConfig:
    """One sweep. The objective is larger-is-better unless `mode` says otherwise."""

    name: str = "sweep"
    space: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)  # of every trial, e.g. experiment=quickstart
    search: str = "optuna"  # random | grid | optuna
    trials: int = 16  # of random and optuna; a grid has as many as it has points
    grid_points: int = 3  # of each continuous parameter, where search is grid
    scheduler: str = "asha"  # asha | none
    grace_reports: int = 1  # reports that every trial may make before ASHA compares it
    max_reports: int = 100  # reports of a whole trial; a trial that makes more is stopped
    reduction_factor: int = 3  # ASHA lets one in so many go on
    metric: str = MEAN_IMPROVEMENT  # of the four benchmarks, in percent of the error before fine-tuning
    mode: str = "max"
    seed: int = 0
    trial_resources: dict[str, float] = field(default_factory=lambda: {"CPU": 1.0})  # all that one trial holds at once
    in_process: bool = False  # True: the trial's own process computes; False: Ray workers that it starts do
    max_concurrent: int | None = None  # none: what the cluster has room for
    growing_cluster: bool = False  # an autoscaler will add nodes: believe max_concurrent, do not count what is there
    max_failures: int = 1  # times that one trial is started again before it counts as failed


def load(name: str, conf: Path, changes: Mapping[str, Any] | None = None) -> SweepConfig:
    """conf/sweep/<name>.yaml with dotted `changes`. Raises ConfigError with the valid names, keys and values."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_part(name, "a sweep", "sweep")
    path = conf / "sweep" / f"{name}.yaml"
    known = sorted(file.stem for file in (conf / "sweep").glob("*.yaml"))
    if not path.is_file():
        near = closest(name, known)
        raise ConfigError(
            f"no sweep is called {name!r}" + (f"; did you mean {near!r}?" if near else ""),
            where=conf / "sweep",
            choices=known,
            next_command=f"posegen sweep sweep={near or (known or ['small'])[0]}",
        )
    try:
        loaded = OmegaConf.create(read_yaml(path, "the sweep"))
        for key, value in (changes or {}).items():
            OmegaConf.update(loaded, key, value, merge=False, force_add=True)
        plain = OmegaConf.to_container(loaded, resolve=True)
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"the sweep cannot be read: {str(error).splitlines()[0]}", where=path) from error
    if not isinstance(plain, dict):
        raise ConfigError("a sweep is a mapping of settings", where=path)
    values: dict[str, Any] = {str(key): value for key, value in plain.items()}
    values.setdefault("name", name)
    where = " ".join([str(path), *(f"sweep.{key}={value}" for key, value in (changes or {}).items())])
    return check(typed(SweepConfig, values, where=where), where=path)


def check(config: SweepConfig, where: object = "sweep") -> SweepConfig:
    for key, value, valid in (
        ("search", config.search, SEARCHES),
        ("scheduler", config.scheduler, SCHEDULERS),
        ("mode", config.mode, ("max", "min")),
    ):
        if value not in valid:
            raise ConfigError(f"{key} is {value!r}", where=where, choices=valid)
    for key, number in (("trials", config.trials), ("max_reports", config.max_reports)):
        if number < 1:
            raise ConfigError(f"{key} is {number}: at least 1", where=where)
    if config.reduction_factor < 2:
        raise ConfigError(f"reduction_factor is {config.reduction_factor}: at least 2", where=where)
    if not config.space:
        raise ConfigError("the space is empty", where=where, choices=["space: {noise: {dist: choice, values: [...]}}"])
    check_part(config.name, "a sweep", "sweep.name")
    if " " in config.name:
        raise ConfigError(f"a sweep's name has no blank, slash or quote: {config.name!r}", where=where)
    for key, given in config.space.items():
        _check_parameter(key, given, where)
    return config


def _check_parameter(key: str, given: Any, where: object) -> None:
    at = f"{where}: sweep.space.{key}"
    if not isinstance(given, Mapping) or given.get("dist") not in DISTRIBUTIONS:
        raise ConfigError(f"space.{key} needs a `dist`", where=at, choices=DISTRIBUTIONS)
    needed = DISTRIBUTIONS[given["dist"]]
    missing, extra = [n for n in needed if n not in given], [n for n in given if n not in ("dist", *needed)]
    if missing or extra:
        problem = f"is without {', '.join(missing)}" if missing else f"has an unknown {', '.join(map(str, extra))}"
        raise ConfigError(f"space.{key} {problem}", where=at, choices=needed)
    if given["dist"] == "choice":
        if not isinstance(given["values"], list) or not given["values"]:
            raise ConfigError(f"space.{key}.values is a list with at least one value", where=at)
        return
    lower, upper = given["lower"], given["upper"]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (lower, upper)) or not lower < upper:
        raise ConfigError(f"space.{key} needs numbers with lower < upper, not {lower!r} and {upper!r}", where=at)
    if given["dist"] == "loguniform" and lower <= 0:
        raise ConfigError(f"space.{key}: lower of a loguniform is above 0, not {lower}", where=at)
    if given["dist"] == "int" and not (isinstance(lower, int) and isinstance(upper, int)):
        raise ConfigError(f"space.{key}: bounds of an int are whole numbers", where=at)


def grid_values(given: Mapping[str, Any], points: int) -> list[Any]:
    """The values of one parameter on a grid: evenly spaced, in the logarithm for loguniform; bounds included."""
    if given["dist"] == "choice":
        return list(given["values"])
    lower, upper = given["lower"], given["upper"]
    if given["dist"] == "int":
        return sorted({int(v) for v in np.linspace(lower, upper, min(points, upper - lower + 1)).round()})
    spaced = np.geomspace if given["dist"] == "loguniform" else np.linspace
    return [float(value) for value in spaced(lower, upper, points)]


def size(config: SweepConfig) -> int:
    """How many trials the sweep has."""
    if config.search != "grid":
        return config.trials
    return math.prod(len(grid_values(given, config.grid_points)) for given in config.space.values())


def tune_space(config: SweepConfig) -> dict[str, Any]:
    """The space in Ray Tune's terms: one flat entry a parameter, dots kept in the name."""
    from ray import tune

    if config.search == "grid":
        return {k: tune.grid_search(grid_values(given, config.grid_points)) for k, given in config.space.items()}
    domains: dict[str, Any] = {}
    for key, given in config.space.items():
        if given["dist"] == "choice":
            domains[key] = tune.choice(list(given["values"]))
        elif given["dist"] == "int":
            domains[key] = tune.randint(given["lower"], given["upper"] + 1)  # Tune's upper bound is exclusive
        else:
            domains[key] = getattr(tune, given["dist"])(float(given["lower"]), float(given["upper"]))
    return domains
