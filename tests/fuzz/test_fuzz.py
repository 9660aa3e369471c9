"""Some hundred damaged files of every format end right; and the fuzzer sees what it is there to see.

It forks, so it runs in a process of its own: this one may hold a Ray cluster's threads.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fuzz.format import Case, applied
from fuzz.formats import all_formats
from fuzz.known import format_of

ROOT = Path(__file__).resolve().parents[2]
CASES, SEED = 400, 7


def run(module: str, *words: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT / "platform"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, words)], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def test_damaged_files_of_every_format_are_loaded_or_refused(tmp_path):
    done = run("tests.fuzz", "--cases", CASES, "--seed", SEED, "--save", tmp_path, "--workers", 1)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    rows = re.findall(r"^(\S+) +(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+)", done.stdout, re.M)
    counted = {name: tuple(map(int, numbers)) for name, *numbers, _ in rows}
    cases, loaded, refused, wrong = counted.pop("all")
    assert cases >= 300 and wrong == 0 and loaded > 50 and refused > 100
    slow = {name for name, form in all_formats().items() if form.weight < 0.1}  # only in long runs
    assert set(counted) == set(all_formats()) - slow
    assert all(loaded > 0 for _, loaded, _, _ in counted.values()), "the valid file of each is loaded"
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_is_seen_and_told_apart():
    done = run("tests.fuzz.toys")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kinds = {name.split("/")[0]: kind for name, (kind, *_) in told.items() if name.endswith("/0")}
    assert kinds == {
        "grumbling": "loaded", "good": "loaded", "refused": "refused", "died": "crash", "slow": "hang",
        "greedy": "memory", "hidden": "memory", "nameless": "nameless", "nan": "nan", "misshapen": "shape",
    }  # fmt: skip
    assert told["grumbling/1"][0] == "raw" and "KeyError" in told["grumbling/1"][1]
    assert told["nan/0"][1] == "b" and "signal 11" in told["died/0"][1]
    assert told["smallest"] == [40]  # of 64 changed bytes the one that matters


def test_files_that_once_broke_a_reader_end_right(tmp_path):
    for archive in sorted((Path(__file__).parent / "data").glob("*.tar.xz")):  # known.tar.xz, and what it found itself
        with tarfile.open(archive) as packed:
            packed.extractall(tmp_path, filter="data")
    done = run("tests.fuzz", "--files", tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert f"{len(names)} files, 0 wrong" in done.stdout
    refused = re.findall(r"^refused .*?  (\S+)  \[", done.stdout, re.M)
    # A history keeps the lines that are whole, a sequence its other person; most others are refused.
    assert len(refused) >= len(names) - 10


@pytest.mark.parametrize("name", ["amass.npz", "emdb.pkl", "coco.json", "motion.bvh", "picture.png"])
def test_a_case_is_the_same_file_each_time_and_cases_differ(name):
    form = all_formats()[name]
    twice = [[applied(form, Case(name, 3, number).steps(form)) for number in range(30)] for _ in range(2)]
    assert twice[0] == twice[1] and twice[0][0] == form.sample.content
    assert len(set(twice[0])) > 20
    assert applied(form, Case(name, 4, 5).steps(form)) != twice[0][5]


def test_names_of_files_lead_to_their_formats():
    formats = all_formats()
    assert format_of("spin_3dpw__npz_memory_x-1.npz", formats) == "spin_3dpw.npz"
    assert format_of("spin__npz_nan__-1.npz", formats) == "spin.npz"
    assert format_of("shard_resumed.parquet_raw_KeyError-1.parquet", formats) == "shard_resumed.parquet"
    assert format_of("readme", formats) is None
