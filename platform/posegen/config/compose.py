"""From the files of conf/ and the overrides of a command line to a checked configuration, with errors to act on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from posegen.config.overrides import check_shape, opened, readable, with_paths
from posegen.config.schema import PosegenConfig
from posegen.config_types import build, check_rules, open_schema, unknown_key
from posegen.errors import ConfigError, did_you_mean
from posegen.files.state import not_finite
from posegen.folders import conf_dir

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

# Groups whose options may be another package's, and the entry points under which it announces them.
PLUGINS = {"estimator": "posegen.estimators", "noise": "posegen.noises", "renderer": "posegen.renderers"}


def groups() -> dict[str, list[str]]:
    """The config groups and their options."""
    root = conf_dir()
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


def compose(overrides: Sequence[str] = ()) -> PosegenConfig:
    """A configuration with Hydra-style overrides, such as `noise=mixture finetune.steps=50`.

    Values of keys that hold text are taken as typed; `~` and environment variables in paths are expanded.

    Raises:
        ConfigError: for an unknown key, group option, a value of the wrong type or out of bounds, with the choices.

    Example:
        >>> from posegen import compose
        >>> from posegen.config import plain
        >>> settings = plain(compose(["noise=mixture", "finetune.steps=50"]))
        >>> settings["noise"]["name"], settings["finetune"]["steps"]
        ('mixture', 50)
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    overrides = check_words(overrides)
    OmegaConf.register_new_resolver("own_image_size", _own_image_size, replace=True)
    try:
        read = _composed([opened(readable(override)) for override in overrides])
        values = OmegaConf.to_container(read, resolve=True, enum_to_str=True)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:  # also of Hydra: names too long
        raise _explained(error, overrides) from error
    if odd := not_finite(values):
        raise ConfigError("a number that is nan or infinite", where=odd, next_command=f"posegen help {odd}")
    config = with_paths(build(PosegenConfig, values))  # type: ignore[arg-type]
    check_rules(config)
    return config


def _composed(words: Sequence[str]) -> DictConfig:
    """What Hydra makes of the words. The files that options of groups choose are read once a process, a third of a
    second each time; values are set in a copy of what they say, as Hydra sets them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    known = groups()
    chosen = tuple(word for word in words if word.partition("=")[0] in known)
    values = OverridesParser.create().parse_overrides([word for word in words if word not in chosen])
    if any(_is_odd(value) or value.key_or_group in known for value in values):
        return _of_files(tuple(words))  # which Hydra judges
    composed = deepcopy(_of_files(chosen))
    for value in values:
        OmegaConf.update(composed, value.key_or_group, value.value(), merge=True, force_add=value.is_force_add())
    return composed


def _is_odd(value: Override) -> bool:
    return value.is_sweep_override() or value.is_delete() or value.is_add() or bool(value.package)


@lru_cache(maxsize=32)
def _of_files(words: tuple[str, ...]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    ConfigStore.instance().store(name="schema", node=open_schema(PosegenConfig))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose("config", list(words))


def check_words(overrides: Sequence[str]) -> list[str]:
    """What is wrong with the words themselves, told before anything is loaded; returns them as Hydra knows them.

    Raises:
        ConfigError: for a word that is no override, an unknown key, or an unknown option of a group, with the choices.
    """
    known = groups()
    check_shape(overrides, sorted({*known, *PosegenConfig.__dataclass_fields__}))
    words = [_own_size(_data(_plugin(override, known))) for override in overrides]
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        if key in known:
            name = value.strip("'\"")
            if name not in ("", "null", *known[key]) and "${" not in name:
                hint = did_you_mean(name, known[key])
                raise ConfigError(f"{key} has no option {name!r}{hint}", where=word, choices=known[key])
        elif "@" not in key and (problem := unknown_key(PosegenConfig, key)):  # group@part is Hydra's to judge
            raise ConfigError(problem[0], where=word, choices=problem[1])
    return words


def _plugin(override: str, known: Mapping[str, Sequence[str]]) -> str:
    """`estimator=NAME` of a plug-in, which has no YAML file of its own, sets the name alone; so of noise, renderer."""
    key, _, name = override.partition("=")
    if key not in PLUGINS or not name or name in known[key]:
        return override
    announced = {point.name for point in entry_points(group=PLUGINS[key])}
    registered = sys.modules.get("posegen.estimator") if key == "estimator" else None
    if registered is not None:  # in this process alone
        announced |= set(registered.REGISTRY.names())
    return f"{key}.name={name}" if name in announced else override


def _data(override: str) -> str:
    """`data=FOLDER` and `data.3dpw=FOLDER`, of which Hydra's grammar knows neither."""
    for short, key in (("data=", "data.root="), ("data.3dpw=", "data.pw3d=")):
        if override.startswith(short):
            return key + override.removeprefix(short)
    return override


def _own_size(override: str) -> str:
    """`image_size=auto` is the estimator's own."""
    return "image_size=${own_image_size:}" if override == "image_size=auto" else override


def _own_image_size(*, _root_: Any) -> int:
    """The side that the configuration's estimator works at, px: what image_size=auto means."""
    from omegaconf import OmegaConf

    from posegen.estimator import declared_crop
    from posegen.estimator.config import EstimatorConfig

    settings = EstimatorConfig(**OmegaConf.to_container(_root_.estimator))  # type: ignore[arg-type]
    return declared_crop(settings.name, settings.keywords()).size_px


def _explained(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Hydra's error in the terms of the override that caused it."""
    cause = error.__cause__ if error.__cause__ is not None else error
    text = str(cause).splitlines()[0] if str(cause) else str(error)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if f"'{value}'" in text or key in str(error):
            return ConfigError(text, where=override, next_command=f"posegen help {key}")
    return ConfigError(text, where=" ".join(overrides) or "conf/")
