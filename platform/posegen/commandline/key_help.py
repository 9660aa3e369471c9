"""`posegen help [WORD]`: what a command, a group, an option, a part or a key of the configuration means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from posegen.commandline.choices import choices_of, file_of, groups
from posegen.config.keys import Key, Part, keys, parts
from posegen.errors import ConfigError, closest, did_you_mean
from posegen.folders import conf_dir

WIDTH = 120
_INDENT = "  "


def about(word: str) -> str:
    """What is known of a word: `finetune.steps`, `finetune`, `noise`, `noise=mixture`. Raises ConfigError."""
    name, equals, option = word.partition("=")
    if equals and name in groups() and option:
        return _option(name, option)
    part = {part.name: part for part in parts() if part.name}.get(name)
    if name in groups() or part is not None:
        return "\n\n".join([*_group(name), *_part(part)])
    if name in keys():
        return _key(keys()[name])
    under = [key for key in keys().values() if key.name.startswith(f"{name}.")]
    if under:  # part of a part, such as dataset.selection
        return _listed(under)
    above = _open_key_above(name)
    if above is not None:
        return f"{name} is inside of {above.name}, which may hold any key.\n\n{_key(above)}"
    known = [*keys(), *groups(), *(part.name for part in parts() if part.name)]
    near = closest(name, known)
    hint = f"; did you mean {near!r}?" if near else ""
    choices = [key.name for key in keys().values() if key.name.split(".")[0] == name.split(".")[0]]
    raise ConfigError(
        f"no command, group or key is called {name!r}{hint}",
        choices=choices or None,
        next_command=f"posegen help {near}" if near else "posegen help run   # lists all keys",
    )


def is_part(word: str) -> bool:
    """Whether a part of the configuration or a group is called so."""
    return word in groups() or any(part.name == word for part in parts() if part.name)


def help_text(command: str, about_command: str) -> str:
    """The help of a command that takes the whole configuration: its groups and parts, each in a line."""
    lines = [f"posegen {command} [key=value ...]: {about_command}", "", "groups, as group=option:"]
    lines += [_entry(name, ", ".join(options), 14) for name, options in groups().items()]
    lines += ["", "parts, as part.key=value (posegen help PART tells its keys):"]
    for part in parts():
        names = ", ".join(key.name.rpartition(".")[2] for key in part.keys)
        lines.append(_entry(part.name or "(none)", names, 14))
    lines += ["", "posegen help KEY tells meaning, type, default and bounds of a key.", ""]
    lines.append(f"example: posegen {command} experiment=quickstart seed=1 noise=student_t finetune.steps=400")
    return "\n".join(lines)


def _entry(name: str, text: str, width: int) -> str:
    hang = _INDENT + " " * width
    return textwrap.fill(text, WIDTH, initial_indent=f"{_INDENT}{name:<{width}}", subsequent_indent=hang)


def _option(group: str, option: str) -> str:
    if option not in groups()[group]:
        hint = did_you_mean(option, groups()[group])
        raise ConfigError(f"{group} has no option {option!r}{hint}", choices=groups()[group])
    text = file_of(group, option).read_text(encoding="utf-8").rstrip()
    return f"{group}={option} is conf/{group}/{option}.yaml:\n\n{textwrap.indent(text, _INDENT)}"


def _group(name: str) -> Iterator[str]:
    if name not in groups():
        return
    lines = [f"{name}=OPTION chooses one of conf/{name}/*.yaml; posegen help {name}=OPTION shows it."]
    yield "\n".join([*lines, *(_entry(option, said or "-", 18) for option, said in choices_of(name))])


def _part(part: Part | None) -> Iterator[str]:
    if part is None:
        return
    yield "\n".join(textwrap.fill(line, WIDTH) for line in part.meaning.splitlines())
    yield _listed(part.keys)


def _listed(told: Sequence[Key]) -> str:
    width = max((len(key.name) for key in told), default=0) + 2
    return "\n".join(_entry(key.name, f"{key.meaning} ({limits(key)}; {key.default})", width) for key in told)


def _key(key: Key) -> str:
    rows = [("meaning", key.meaning), ("type", limits(key)), ("default", key.default)]
    rows += [("set by", f"{recipe}: {value}") for recipe, value in recipes(key.name)]
    choices = choices_of(key.name)
    if choices:
        rows.append(("choices", ", ".join(choice for choice, _ in choices)))
    lines = [key.name, *(_entry(title, text, 10) for title, text in rows)]
    value = next((choice for choice, _ in choices if choice != key.default), key.default)
    if value in ("null", "[]"):
        value = "TEXT" if key.kind == "list of text" else key.kind.partition(" ")[0].upper()
    lines.append(_entry("example", f"posegen run {key.name}={value}", 10))
    return "\n".join(lines)


def limits(key: Key) -> str:
    """Type and bounds: "whole number, at least 1"."""
    return f"{key.kind}, {key.bounds}" if key.bounds else key.kind


def recipes(name: str) -> list[tuple[str, str]]:
    """Which experiments set a key, and to what."""
    import yaml

    found = []
    for option in groups()["experiment"]:
        node = yaml.safe_load((conf_dir() / "experiment" / f"{option}.yaml").read_text(encoding="utf-8"))
        for step in name.split("."):
            node = node.get(step) if isinstance(node, dict) else None
        if node is not None:
            found.append((f"experiment={option}", str(node)))
    return found


def _open_key_above(name: str) -> Key | None:
    """The mapping, such as estimator.options, that a deeper key is in."""
    steps = name.split(".")
    for count in range(len(steps) - 1, 0, -1):
        key = keys().get(".".join(steps[:count]))
        if key is not None and key.kind == "mapping":
            return key
    return None
