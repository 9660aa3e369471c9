"""The wheel works outside of the checkout: it brings the configuration files and the jobs along."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_folder_of_conf_travels():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    folders = {"conf", *(str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*") if path.is_dir())}
    yaml = {f"share/posegen/{folder}": [f"{folder}/*.yaml"] for folder in folders}
    assert told == {**yaml, "share/posegen/jobs": ["jobs/*.py"]}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of an installed wheel, and an empty folder to be in."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    source, target, empty = folder / "source", folder / "target", folder / "empty"
    for name in filter(None, listed.decode().split("\0")):
        if name.startswith(("platform/", "conf/", "jobs/")) or name in ("pyproject.toml", "README.md"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=300)
    return {**os.environ, "PYTHONPATH": str(target)}, empty, target


def python(installed, code: str) -> str:
    environment, empty, target = installed
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=empty, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_composes_in_an_empty_folder(installed):
    python(
        installed,
        "import posegen, sys; from posegen.config import compose; from posegen.scenes.split import load_split;"
        "assert posegen.__file__.startswith(sys.argv[1]); compose(['experiment=smoke', 'suite=paper']); load_split()",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help"], "an experiment and its stages"),
        (["run", "--help"], "quickstart"),
        (["help", "finetune.steps"], "training steps of the estimator"),
        (["completion", "bash"], "complete -F _posegen posegen"),
        ([], "no run in outputs/ yet"),
    ],
)
def test_it_helps(installed, words, said):
    out = python(installed, f"from posegen import cli; assert cli.main({words!r}) == 0")
    assert said in out


def test_doctor_looks_at_the_machine(installed):
    out = python(installed, "from posegen import cli; assert cli.main(['doctor']) in (0, 1)")
    assert "torch" in out and "next: " in out


def test_a_job_is_packed_with_the_installed_code(installed):
    """What `posegen submit` sends from a folder that is no checkout."""
    environment, empty, _ = installed
    (empty / "mine.yaml").write_text("a: 1\n")
    python(
        installed,
        "from pathlib import Path; from posegen.engine import jobs; from posegen.engine.package import pack\n"
        "here = Path('.').resolve(); assert not jobs.is_checkout(here)\n"
        "assert jobs.entrypoint('run', ['seed=1'], here) == 'python jobs/experiment.py seed=1'\n"
        "pack(here, here, beside=jobs.installed_code())",
    )
    with zipfile.ZipFile(empty / "posegen.zip") as sent:
        names = set(sent.namelist())
        sent.extractall(empty / "node")
    assert {"mine.yaml", "jobs/experiment.py", "conf/config.yaml", "platform/posegen/cli.py"} <= names
    assert not any("__pycache__" in name for name in names)
    helped = subprocess.run(
        [sys.executable, "jobs/experiment.py", "--help"], cwd=empty / "node", capture_output=True, text=True,
        env={**environment, "PYTHONPATH": "platform"}, timeout=120, check=False,
    )  # fmt: skip
    assert helped.returncode == 0, helped.stderr
    assert "quickstart" in helped.stdout


@pytest.mark.slow
def test_an_experiment_runs_from_an_empty_folder(installed, assets):
    environment, empty, _ = installed
    variables = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    words = ["run", "experiment=smoke", "dataset.arms=[random]", "run.name=mine"]
    done = subprocess.run(
        [sys.executable, "-m", "posegen.cli", *words], cwd=empty, env=variables, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (empty / "outputs" / "mine" / "report.html").is_file()
