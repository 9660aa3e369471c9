"""Settings and answers: splits, sweeps, overrides of the command line, HTTP estimators' answers, tokens, lock files."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posegen.config import compose
from posegen.engine.access_token import read_token
from posegen.engine.sweep_space import load as load_sweep
from posegen.engine.sweep_space import size
from posegen.errors import PosegenError
from posegen.estimator.http_client import HttpClient
from posegen.folders import conf_dir
from posegen.scenes.split import load_split

from ..format import Format
from ..raw import RAW
from ..texts import JSON, LINES, YAML
from ..zips import NPZ

OVERRIDES = """experiment=smoke
seed=3
run.name=tuesday
generator.hidden=64
finetune.learning_rate=1e-5
noise=gaussian
"""


def formats() -> list[Format]:
    def shipped(name: str) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            path = folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes((conf_dir() / name).read_bytes())
            return path

        return build

    def written(name: str, content: bytes) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            (folder / name).write_bytes(content)
            return folder / name

        return build

    joints = np.random.default_rng(0).normal(size=(2, 24, 3))
    archive = io.BytesIO()
    np.savez(archive, joints=joints)
    token = base64.b64encode(bytes(range(32)))
    return [
        Format("split.yaml", shipped("split/embedded.yaml"), _split, YAML, RAW, weight=0.4),
        Format("sweep.yaml", shipped("sweep/small.yaml"), _sweep, YAML, RAW, weight=0.6),
        Format("overrides.txt", written("overrides.txt", OVERRIDES.encode()), _overrides, LINES, RAW, weight=0.05),
        Format("answer.npz", written("answer.npz", archive.getvalue()), _answer("npz"), NPZ, RAW),
        Format(
            "answer.json",
            written("answer.json", json.dumps({"joints": joints.tolist()}).encode()),
            _answer("json"),
            JSON,
            RAW,
        ),
        Format("token.txt", written("token", token), read_token, LINES, RAW, weight=0.5),
    ]


def _split(path: Path) -> Any:
    split = load_split(path)
    return str(split), split.digest


def _sweep(path: Path) -> Any:
    config = load_sweep("small", path.parents[1])
    return size(config)


def _overrides(path: Path) -> Any:
    """Words of a command line; as text they have no file, so that the whole word list is named."""
    words = path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    try:
        compose(words)
    except PosegenError as error:
        error.where = error.where or "overrides"
        raise
    return len(words)


def _answer(kind: str) -> Callable[[Path], Any]:
    client = HttpClient("http://127.0.0.1:1", format=kind)
    return lambda path: client.decoded(path.read_bytes())
