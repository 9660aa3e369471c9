"""The wheel works outside of the checkout: it brings the configuration files along."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_of_conf_travels():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    folders = {"conf", *(str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*") if path.is_dir())}
    assert told == {f"share/posegen/{folder}": [f"{folder}/*.yaml"] for folder in folders}


def test_an_installed_wheel_composes_in_an_empty_folder(tmp_path):
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    source, target, empty = tmp_path / "source", tmp_path / "target", tmp_path / "empty"
    for name in filter(None, listed.decode().split("\0")):
        if name.startswith(("platform/", "conf/")) or name in ("pyproject.toml", "README.md"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    code = (
        "import posegen, sys; from posegen.config import compose; from posegen.scenes.split import load_split;"
        "assert posegen.__file__.startswith(sys.argv[1]); compose(['experiment=smoke', 'suite=paper']); load_split()"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=empty, env=environment, check=True, timeout=300)
    helped = subprocess.run(
        [sys.executable, "-m", "posegen.cli", "run", "--help"], cwd=empty, env=environment, capture_output=True,
        text=True, check=True, timeout=300,
    )  # fmt: skip
    assert "experiment" in helped.stdout and "quickstart" in helped.stdout
