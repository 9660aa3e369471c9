"""The values that a key or a group may have, each with what it means: for completion and help."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from posegen.config.compose import PLUGINS, groups
from posegen.config.keys import keys
from posegen.folders import conf_dir

# Keys whose values are the options of a group.
_BY_GROUP = {
    "noise.name": "noise",
    "feedback.name": "feedback",
    "estimator.name": "estimator",
    "renderer.name": "renderer",
    "evaluation.suite": "benchmark",
    "evaluation.watch": "benchmark",
    "benchmark.name": "benchmark",
}
_PLUGINS = {**PLUGINS, "benchmark": "posegen.benchmarks"}

__all__ = ["choices_of", "file_of", "groups", "said_of"]


def choices_of(key: str) -> list[tuple[str, str]]:
    """The values of a group (`noise`) or key (`finetune.keep`) with their meanings; empty where any value may be."""
    if key in groups():
        return _options(key)
    if key in _BY_GROUP:
        return _options(_BY_GROUP[key])
    if key == "dataset.arms":
        from posegen.arms.registry import arm_of, names

        return [(name, arm_of(name).meaning) for name in names()]
    known = keys().get(key)
    if known is None:
        return []
    if known.kind == "true or false":
        return [("true", ""), ("false", "")]
    return [(choice, "") for choice in known.choices]


def _options(group: str) -> list[tuple[str, str]]:
    told = [(option, said_of(file_of(group, option))) for option in groups()[group]]
    listed = {option for option, _ in told}
    plugins = entry_points(group=_PLUGINS[group]) if group in _PLUGINS else ()
    return told + [(point.name, "a plug-in") for point in plugins if point.name not in listed]


def file_of(group: str, option: str) -> Path:
    """The YAML file of a group's option."""
    return conf_dir() / group / f"{option}.yaml"


def said_of(file: Path) -> str:
    """The comment at the top of a YAML file of conf/, as one line."""
    said = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        said.append(line.lstrip("# ").strip())
    return " ".join(said)
