"""Where and how users run it: another user, a checkout that cannot be written, odd paths, few files, no HOME, a proxy.

All of these at once, for an experiment in one process (without Ray, by default) and for `posegen run` (marked slow).
Further conditions have tests of their own: shares of a machine (test_machine.py), file systems without links or locks
and clocks that are set back (below, files/test_lock.py, experiment/test_stages.py), full disks (chaos/).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from posegen.experiment.latest import make_latest
from posegen.files.atomic import write_text
from posegen.files.lock import locked

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 65534
FILES = 256  # descriptors: the limit that macOS gives
PROXY = "http://127.0.0.1:9"  # nobody is there
ODD = "mit Blank [1] (v1.0), Käse=ß"
SMALL = ("experiment=smoke", "dataset.arms=[random]", "evaluation.images=2", "evaluation.suite=[ski-like]",
         "dataset.images=16", "dataset.source_images=16", "finetune.steps=2")  # fmt: skip
ALONE = """
import sys
from posegen.config import compose
from posegen.experiment.experiment import Experiment
from posegen.experiment.in_process import InProcess
from posegen.experiment.measured import Measured
from posegen.experiment.opening import opened
from posegen.progress import Reporter
words = sys.argv[1:]
with opened("run", compose(words), InProcess("cpu"), Reporter(), words) as experiment:
    found = Measured.of(experiment, {"before": None, "random": experiment.finetune("random")})
    print("summary", found.write_summary()["run"])
"""


@pytest.fixture
def place(assets: Path) -> Iterator[Path]:
    """A folder with an odd name, of the user who will run, with a copy of the checkout that nobody may write.

    Not below pytest's own folder, which each start of pytest closes to other users.
    """
    root = Path(tempfile.mkdtemp(prefix="posegen-"))
    root.chmod(0o755)
    folder = root / ODD
    checkout = folder / "checkout"
    for name in ("platform", "conf", "jobs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    shutil.copytree(assets, folder / "cache", ignore=shutil.ignore_patterns("raw", "ray", ".*"))
    (folder / "outputs").mkdir()
    (folder / "tmp").mkdir()
    for path in (checkout, *checkout.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        for path in (folder / "cache", *(folder / "cache").rglob("*"), folder / "outputs", folder / "tmp"):
            os.chown(path, NOBODY, NOBODY)
    yield folder
    for path in checkout.rglob("*"):
        path.chmod(0o755)
    checkout.chmod(0o755)
    shutil.rmtree(root)


def run(place: Path, words: list[str], timeout: float) -> str:
    """A command under all conditions together, which ends well."""
    python = [sys.executable, *words]
    if os.geteuid() == 0:
        # Python itself may lie in root's own home: all can be read, and nothing be written but what is the user's.
        reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        python = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reads, *python]
    variables = {
        "PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", "PYTHONPATH": str(place / "checkout" / "platform"),
        "POSEGEN_CACHE": str(place / "cache"), "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1",
        "http_proxy": PROXY, "https_proxy": PROXY, "HTTP_PROXY": PROXY, "ALL_PROXY": PROXY, "all_proxy": PROXY,
        "PYTHONDONTWRITEBYTECODE": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    }  # fmt: skip
    limited = ["sh", "-c", f'ulimit -n {FILES} && cd "$0" && exec "$@"', str(place / "checkout"), *python]
    done = subprocess.run(limited, env=variables, capture_output=True, timeout=timeout, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return said


def quoted(place: Path) -> str:
    return f'run.outputs="{place / "outputs"}"'


def test_an_experiment_in_one_process_under_all_conditions_at_once(place):
    said = run(place, ["-c", ALONE, *SMALL, "run.name=odd", quoted(place)], 400)
    assert "summary odd" in said
    left = place / "outputs" / "odd"
    assert json.loads((left / "summary.json").read_text())["arms"] == ["before", "random"]
    assert (left / "finetune" / "random" / "estimator.pt").stat().st_uid == (
        NOBODY if os.geteuid() == 0 else os.getuid()
    )


@pytest.mark.slow
def test_posegen_run_under_all_conditions_at_once(place):
    said = run(place, ["-m", "posegen.cli", "run", *SMALL, "run.name=odd", quoted(place)], 600)
    assert "MPJPE (mm)" in said
    assert (place / "outputs" / "odd" / "report.html").is_file()


def test_a_file_system_without_links_and_locks(tmp_path, monkeypatch, caplog):
    """exFAT, a bucket, SMB: links are refused by EPERM, locks by ENOLCK; files are renamed into place all the same."""

    def refused(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    for name in ("symlink", "link"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(fcntl, "flock", none)
    run_dir = tmp_path / "r"
    run_dir.mkdir()
    told: list[str] = []
    with locked(run_dir, say=told.append):
        write_text(run_dir / "summary.json", "{}")
        make_latest(run_dir, tmp_path)
    assert (run_dir / "summary.json").read_text() == "{}"
    assert "has no locks" in told[0] and "does not lead to this run" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r"]
