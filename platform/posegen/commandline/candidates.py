"""What may stand at the end of a command line: commands, options, groups and keys with their values, names of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from posegen.arms.registry import arm_of, names
from posegen.commandline.choices import choices_of, groups
from posegen.commandline.options import ARM, COMMAND, COMMANDS, FILE, KEY, RUN, SUBMITTED, Takes
from posegen.config.keys import keys, parts
from posegen.errors import PosegenError
from posegen.experiment.run_folders import finished_runs, name_in


@dataclass(frozen=True)
class Candidates:
    """What may stand for a word.

    Attributes:
        words: each with what it means; one that ends in `=` or `.` is gone on with.
        files: the shell's own completion of file names fits, after `key=` where the word has one.
    """

    words: tuple[tuple[str, str], ...] = ()
    files: bool = False


def candidates(line: Sequence[str]) -> Candidates:
    """What may stand for the last word of a line.

    Args:
        line: the words after `posegen`; the last is the one to complete, "" where nothing is typed of it.
    """
    *before, word = line or [""]
    if not before:
        return _those(word, [(name, _SUMMARIES.get(name, "")) for name in (*COMMANDS, "--help", "--version")])
    takes = COMMANDS.get(before[0], Takes({}))
    inner = [word for word in before[1:] if word in SUBMITTED]
    if takes.words == COMMAND and inner:  # what is submitted is named: its overrides follow
        takes = Takes(takes.options, overrides=True, benchmark=COMMANDS[inner[0]].benchmark)
    previous = before[-1] if len(before) > 1 else ""
    kind = takes.options.get(previous, "")
    if kind:
        return _values(kind, word)
    if word.startswith("-"):
        return _those(word, [(option, "") for option in (*takes.options, "--help")])
    if "=" in word:
        return _value_of(word, takes)
    return _those(word, [*_words(takes, before), *(_overrides(word, takes) if takes.overrides else ())])


def _those(word: str, offered: Sequence[tuple[str, str]]) -> Candidates:
    return Candidates(tuple((name, meaning) for name, meaning in offered if name.startswith(word)))


def _values(kind: str, word: str) -> Candidates:
    if kind == FILE:
        return Candidates(files=True)
    if kind == RUN:
        return _those(word, [(name, "a finished run") for name in _finished()])
    if kind == ARM:
        return _those(word, [(name, arm_of(name).label) for name in names()])
    return Candidates() if kind == "text" else _those(word, [(choice, "") for choice in kind.split(",")])


def _finished() -> list[str]:
    outputs = Path("outputs")
    return [name_in(outputs, run) for run in finished_runs(outputs)]


def _words(takes: Takes, before: Sequence[str]) -> Iterator[tuple[str, str]]:
    if takes.words == RUN:
        yield from ((name, "a finished run") for name in _finished() if name not in before)
    elif takes.words == COMMAND:
        yield from ((name, _SUMMARIES.get(name, "")) for name in SUBMITTED)
    elif takes.words == KEY:
        yield from ((name, _SUMMARIES.get(name, "")) for name in COMMANDS)
        yield from ((part.name, part.meaning.partition("\n")[0]) for part in parts() if part.name)
        yield from ((name, "a group") for name in groups() if name not in {part.name for part in parts()})
        yield from ((key.name, key.meaning) for key in keys().values())
    elif takes.words:
        yield from ((choice, "") for choice in takes.words.split(",") if choice not in before)


def _overrides(word: str, takes: Takes) -> Iterator[tuple[str, str]]:
    """Groups and top keys, and parts as `part.`; the keys of a part once its dot is typed."""
    known = groups()
    yield from ((f"{name}=", "") for name in takes.own)
    if "." in word:
        yield from ((f"{key.name}=", key.meaning) for key in keys().values())
        return
    for name in known:
        if name != "benchmark" or takes.benchmark:
            yield f"{name}=", f"a group: {', '.join(known[name])}"
    for part in parts():
        if part.name:
            yield f"{part.name}.", part.meaning.partition("\n")[0]
        else:
            yield from ((f"{key.name}=", key.meaning) for key in part.keys if key.name not in known)
    yield "data=", "the folder that holds all data sets under their usual names"


def _value_of(word: str, takes: Takes) -> Candidates:
    """Values of `key=`; of a list, `[a,b` goes on with its next item."""
    name, _, typed = word.partition("=")
    if name in takes.own:
        found = _values(takes.own[name], typed)
        return Candidates(tuple((f"{name}={value}", meaning) for value, meaning in found.words), found.files)
    key = keys().get({"data": "data.root"}.get(name, name))
    if key is not None and "path" in key.kind:
        return Candidates(files=True)
    offered = choices_of(name)
    if key is not None and key.kind.startswith("list"):
        head, separator, item = typed.rpartition(",") if "," in typed else ("", "", typed.removeprefix("["))
        opened = f"{head}{separator}" if separator else "["
        taken = set(head.removeprefix("[").split(","))
        return Candidates(tuple(
            (f"{name}={opened}{choice}", meaning) for choice, meaning in offered
            if choice.startswith(item) and choice not in taken
        ))  # fmt: skip
    return Candidates(tuple((f"{name}={c}", meaning) for c, meaning in offered if c.startswith(typed)))


def listing(found: Candidates) -> str:
    """For the shells' scripts: a line for each word, its meaning behind a tab; `:files` where files may follow."""
    lines = [":files"] if found.files else []
    return "".join(f"{line}\n" for line in [*lines, *(f"{word}\t{meaning}" for word, meaning in found.words)])


def listed(line: Sequence[str]) -> str:
    """The listing of a line; empty where the installation is so damaged that nothing can be offered."""
    try:
        return listing(candidates(line))
    except PosegenError:
        return ""


_SUMMARIES = {
    "run": "the whole experiment, before and after",
    "generate": "train the generators and render the data sets of all arms",
    "finetune": "fine-tune the estimator on each rendered data set",
    "evaluate": "error of an estimator on a benchmark or a suite, or of all arms of a run",
    "sweep": "search over noise, loss weights and bands",
    "fit-subject": "fit a subject's articulated field",
    "lift": "2-D keypoints or pictures to people in the world with their cameras",
    "atlas": "where an estimator fails: groups of people with names and pictures",
    "compare": "runs side by side, with intervals",
    "show": "a run's table again",
    "export": "a run's pictures and labels in the formats of other projects",
    "ui": "browse the runs in MLflow",
    "track": "send to MLflow what it was not there for",
    "submit": "a command as a job on a Ray cluster",
    "assets": "build or list the free body, motions and weights",
    "doctor": "what is found on this machine and what is missing",
    "help": "what a command, a group or a key means",
    "completion": "completion for bash, zsh or fish",
}
