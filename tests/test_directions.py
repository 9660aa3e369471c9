"""Where errors point and what they say to type next exists: commands, options, keys, attributes, modules, variables.

Every `where=` and `next_command=` of platform/ and jobs/ is read from the source, also where it is put together or
given a name first; what is only known at run time stands as a blank.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import get_type_hints

import pytest
import torch

from command_words import BLANK, known_keys, problem_of, problem_of_setting
from posegen.benchmarks.protocol import REGISTRY as BENCHMARKS
from posegen.benchmarks.protocol import names as benchmark_names
from posegen.benchmarks.readers.frames import FrameOptions
from posegen.config.keys import keys, parts
from posegen.engine.sweep_space import SweepConfig
from posegen.estimator import REGISTRY as ESTIMATORS
from posegen.renderer.anerf.checkpoint import ANerfConfig
from posegen.renderer.fit.command import FitConfig
from posegen.scene import Scene
from posegen.scenes.split import Split, SplitPart

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "platform").rglob("*.py"), *(ROOT / "jobs").glob("*.py")])
# Programs whose words are their own.
OTHERS = ("pip install", "docker run", "ray start", "ray status", "ray memory", "ray dashboard", "mount -o", "df -h",
          "rm", "unzip", "echo", "python")  # fmt: skip
SUFFIXES = (".npy", ".npz", ".py", ".tflite", ".h5", ".json", ".tar", ".pt", ".yaml", ".mpg.de")
# One word that is no key: the stages of a run and what is done outside of one.
STAGES = ("rendering", "pretraining", "pip", "posegen")
DIRECTIONS = ("where", "next_command")


def texts_of(node: ast.expr | None, named: dict[str, list[ast.expr]], depth: int = 0) -> list[str]:
    """What an expression may say: each branch of a choice by itself, names looked up, the rest blank."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else BLANK for part in node.values)]
    if isinstance(node, ast.IfExp):
        return [*texts_of(node.body, named, depth), *texts_of(node.orelse, named, depth)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in texts_of(value, named, depth)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (texts_of(side, named, depth) or [BLANK] for side in (node.left, node.right))
        return [a + b for a in left for b in right if a + b != 2 * BLANK]
    if isinstance(node, ast.Name) and depth < 3:
        return [text for value in named.get(node.id, []) for text in texts_of(value, named, depth + 1)]
    return []


def directions(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, `where` or `next_command`, and text of every direction of a module."""
    named: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    named.setdefault(target.id, []).append(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in DIRECTIONS:
            for text in texts_of(node.value, named):
                yield node.value.lineno, node.arg, text
        if isinstance(node, ast.Constant | ast.JoinedStr):  # a command wherever it is told, as a cure handed on
            for text in texts_of(node, named):
                if re.fullmatch(r"posegen [a-z-]+( ([\w.]+=|-|#).*)?", text):
                    yield node.lineno, "next_command", text


@cache
def benchmark_options() -> frozenset[str]:
    found = {"name", "predictions", *(part.name for part in fields(FrameOptions))}
    for name in benchmark_names():
        found |= set(inspect.signature(BENCHMARKS.get(name)).parameters)
    return frozenset(found)


@cache
def estimator_options() -> frozenset[str]:
    """Of all estimators: the parameters of their builders."""
    from posegen.estimator import blackbox, blazepose

    builders = [blackbox.http, blackbox.onnx, blackbox.python_callable, blazepose.blazepose]
    builders += [ESTIMATORS.get(name) for name in ESTIMATORS.names()]
    return frozenset(name for builder in builders for name in inspect.signature(builder).parameters)


def below(cls: type, path: list[str]) -> bool:
    """Whether a dotted path leads through the fields of dataclasses; a list's or mapping's own names are free."""
    if not path:
        return True
    if not is_dataclass(cls):
        return cls is not torch.Tensor
    kinds = get_type_hints(cls)
    return path[0] == BLANK or (path[0] in kinds and below(kinds[path[0]], path[1:]))


def problem_of_name(word: str) -> str | None:
    """Why a dotted name leads nowhere; None if it does."""
    top, *rest = word.split(".")
    if word in keys() or word in known_keys() or word in {part.name for part in parts()}:
        return None
    free = {"benchmark": benchmark_options(), "sweep": {field.name for field in fields(SweepConfig)},
            "data": {"3dpw", "NAME"}}  # fmt: skip
    if top in free:
        return None if rest[0] in free[top] or rest[0] == BLANK else f"{top} has no option {rest[0]}"
    if word.startswith("estimator.options."):
        return None if rest[1] == BLANK or rest[1] in estimator_options() else f"no estimator has an option {rest[1]}"
    for prefix, cls in (("renderer.options.", ANerfConfig), ("split.", Split), ("scene.", Scene)):
        if word.startswith(prefix):
            return None if below(cls, word.removeprefix(prefix).split(".")) else f"{word}: no such field"
    if top == "posegen":
        spec_of = [".".join([top, *rest[:end]]) for end in (len(rest), len(rest) - 1)]
        return None if any(_is_module(name) for name in spec_of if name != top) else f"no module {word}"
    nodes = [part.name for part in parts()] + [key.rpartition(".")[0] for key in keys()]
    if word in nodes or (rest and rest[-1] == BLANK and ".".join([top, *rest[:-1]]) in nodes):
        return None
    return f"no key {word}"


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


DOTTED = re.compile(rf"(?<![\w./{BLANK}<-])[a-z]\w*(?:\.[\w{BLANK}]+)+(?![\w/(:])")
PLACE = re.compile(rf"(?<![\w./])(?:jobs|conf|docs|cluster)/[\w/.{BLANK}-]*\w")
SETTING = re.compile(r"(?<![\w./,-])([a-z]\w*(?:\.\w+)*)=(\S*)")


def problems_of(kind: str, text: str) -> list[str]:
    """What a direction names that does not exist."""
    found = []
    lines = [
        re.split(r"[;,`()#\n]| or | and ", rest)[0].split() for rest in re.findall(r"\bposegen ([a-z][^\[]*)", text)
    ]
    for words in lines:
        if words and not text.startswith("install posegen") and words[0] not in OTHERS:
            found.append(problem_of(words))
            if words[0] == "fit-subject":
                found += [
                    None if below(FitConfig, word.partition("=")[0].split(".")) else f"fit-subject has no {word}"
                    for word in words[1:]
                    if not word.startswith("-")
                ]
    own = [word.partition("=")[0] for words in lines for word in words]
    bare = re.sub("|".join(rf"\b{program}\b[^;,]*" for program in OTHERS), "", text)
    for key, value in SETTING.findall(bare):
        if key not in own:
            found.append(problem_of_setting(key, value.rstrip(";,.)")) if "." not in key else problem_of_name(key))
    for owner, cls in (("split:", SplitPart), ("fit-subject", FitConfig)):  # a field of any part of the split, of a fit
        if kind == "where" and (inside := re.match(rf"{owner} (\S+)$", text)) is not None:
            return [] if below(cls, inside[1].split(".")) else [f"{owner} has no {inside[1]}"]
    for word in DOTTED.findall(re.sub(r"\S+@\S+|https?://\S+", "", bare)):
        if not word.endswith(SUFFIXES) and word not in own:
            found.append(problem_of_name(word))
    found += [f"there is no {path}" for path in PLACE.findall(text) if not any(ROOT.glob(path.replace(BLANK, "*")))]
    if kind == "where" and re.fullmatch(r"[a-z_]+", text) and text not in STAGES:
        found.append(problem_of_name(text))
    found += [f"nothing reads {name}" for name in re.findall(r"\bPOSEGEN_[A-Z_]+", text) if name not in variables()]
    return [problem for problem in found if problem]


@cache
def variables() -> frozenset[str]:
    """Environment variables that are read somewhere: their names are texts of their own."""
    return frozenset(
        node.value
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("POSEGEN_")
        if node.value.isupper() and " " not in node.value
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_errors_name_exists(file):
    wrong = [
        f"line {line}, {kind}={text!r}: {problem}"
        for line, kind, text in directions(ast.parse(file.read_text()))
        for problem in problems_of(kind, text)
    ]
    assert not wrong, "\n".join(wrong)


def problems_in(source: str) -> list[str]:
    return sorted({problem for _, kind, text in directions(ast.parse(source)) for problem in problems_of(kind, text)})


def test_wrong_directions_would_be_seen():
    assert problems_in("E('x', where='fit.size_px')") == ["no key fit.size_px"]
    assert problems_in("E('x', where='fit-subject size')") == ["fit-subject has no size"]
    assert problems_in("E('x', where='scene.camera.fokal')") == ["scene.camera.fokal: no such field"]
    assert problems_in("E('x', where='device')") == ["no key device"]
    assert problems_in("E('x', next_command=f'posegen run run={name}')") == ["no key run"]
    assert problems_in("again = 'posegen rnu'\nE('x', next_command=again)") == ["no command rnu"]
    assert problems_in("E('x', next_command='posegen show --xml, or lower finetune.stpes')") == [
        "no key finetune.stpes", "show has no option --xml",
    ]  # fmt: skip
    assert problems_in("E('x', next_command='benchmark.annotation=FILE')") == ["benchmark has no option annotation"]
    assert problems_in("read(path, f'posegen run sead={n}')") == ["no key sead"]
    assert problems_in("E('x', next_command='set POSEGEN_CASH to a folder')") == ["nothing reads POSEGEN_CASH"]
    assert problems_in("E('x', next_command='python jobs/pretrain.py')") == ["there is no jobs/pretrain.py"]
    assert problems_in("E('x', where=f'estimator.options.{key}', next_command='posegen run finetune.steps=3')") == []
