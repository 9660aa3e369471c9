"""Changes of texts: JSON, YAML, motion files, arguments. Words, lines, numbers, nesting, encodings."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import yaml

from . import trees
from .format import Mutators

WORDS = (
    "nan", "inf", "-inf", "1e999", "-1e400", "1e-400", "0", "-0", "-1", "1e6", "1e30", "99999999999999999999",
    "9" * 5000,
    "0x10", "1_000", "１２", "True", "None", "null", "", "-", ".", "{", "}", "[", "]", ":", '"', "'", "\\", "#", "//",
    "x" * 100_000, "é", "\ufeff", "\0", "\x1b[31m", "a b", "=", "==", "${a}", "${oc.env:HOME}", "~", "../..", "&a",
    "*a",
)  # fmt: skip
_TOKEN = re.compile(rb"[^\s,:=]+")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def change_word(rng: random.Random, data: bytes) -> bytes:
    """A word or a number for another of the same file, or for one that is none."""
    found = list((_NUMBER if rng.random() < 0.6 else _TOKEN).finditer(data))
    match = rng.choice(found)
    new = rng.choice(WORDS).encode("utf-8", "surrogatepass") if rng.random() < 0.7 else rng.choice(found)[0]
    return data[: match.start()] + new + data[match.end() :]


def change_lines(rng: random.Random, data: bytes) -> bytes:
    """Lines dropped, doubled, exchanged, joined, indented."""
    lines = data.split(b"\n")
    index = rng.randrange(len(lines))
    what = rng.randrange(6)
    if what == 0:
        del lines[index]
    elif what == 1:
        lines[index:index] = [lines[index]] * rng.choice((1, 1, 300))
    elif what == 2:
        other = rng.randrange(len(lines))
        lines[index], lines[other] = lines[other], lines[index]
    elif what == 3:
        lines[index : index + 2] = [b" ".join(lines[index : index + 2])]
    elif what == 4:
        lines[index] = rng.choice((b"  ", b"\t", b"    ")) + lines[index]
    else:
        lines[index] = rng.choice(
            (b"", lines[index] + b" 1", lines[index].upper(), lines[index][: len(lines[index]) // 2])
        )
    return b"\n".join(lines)


def change_encoding(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "surrogatepass")
    return rng.choice((text.encode("utf-16"), text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode(),
    b"\xff" + data,
                       text.replace("\n", "\r").encode(), text.replace(" ", "\u3000").encode(),
                       text.encode("utf-32")))  # fmt: skip


def json_changed(rng: random.Random, data: bytes) -> bytes:
    """Another value, key or order."""
    tree = trees.changed(rng, json.loads(data), plain=True)
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5, default=str).encode("utf-8", "surrogatepass")


def json_text(rng: random.Random, data: bytes) -> bytes:
    """Forms that JSON's grammar has, or nearly has: repeated keys, deep nesting, great numbers, remarks."""
    text = data.decode()
    depth = rng.choice((30, 100, 100_000))
    return rng.choice((
        text.replace("{", '{"a": 1, "a": 2, ', 1), "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth,
        text.replace(": ", ": " + "9" * 5000, 1), text.rstrip()[:-1], text + text, text.rstrip()[:-1] + ",}",
        "// remark\n" + text,
        text.replace('"', "'"), f"[{text}]", '"text"', "null", "", " ", "\ufeff" + text, text.replace("0", "NaN", 1),
    )).encode()  # fmt: skip


def yaml_changed(rng: random.Random, data: bytes) -> bytes:
    """Another value, key or order."""
    tree: Any = trees.changed(rng, yaml.safe_load(data), plain=True)
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def yaml_text(rng: random.Random, data: bytes) -> bytes:
    """Forms of YAML that settings do not need: aliases, tags, documents, odd keys, odd scalars."""
    text = data.decode()
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    extra = rng.choice((
        "x: &x [*x]\n", "x: &x {y: *x}\n", bomb, "x: !!python/tuple [1]\n", "x: !!python/name:math.sqrt\n",
        "x: !!binary '%%'\n",
        "x: !!set {a, b}\n", "x: !!timestamp 2020-99-99\n", "? [a, b]\n: 1\n", "? {a: b}\n: 1\n", "x: 0x_\n",
        "x: .nan\n", "x: 1:60:99\n",
        "x: *nowhere\n", "<<: 3\n", "<<: [1]\n", "x: |\n y\n z\n", "x: 'open\n", "---\nb: 1\n",
        "x: " + "[" * 100 + "]" * 100 + "\n",
        "x: ${y}\ny: ${x}\n", "x: ${oc.env:NOT_THERE}\n", "x: 1e400\n", "x: 0o777\n", "x: 2001-01-01\n", "\tx: 1\n",
    ))  # fmt: skip
    return (extra + text if rng.random() < 0.5 else text + "\n" + extra).encode()


LINES = Mutators((), (change_word, change_word, change_word, change_lines, change_lines, change_encoding))
JSON = Mutators((), (json_changed, json_changed, json_changed, json_changed, json_text, change_word))
YAML = Mutators((), (yaml_changed, yaml_changed, yaml_changed, yaml_text, yaml_text, change_word, change_lines))
