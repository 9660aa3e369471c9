"""What a leaf needs: few packages; and what is said where one is missing."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from posegen import cli, extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTED = [
    "torch>=2.6",
    "posegen[data]; extra == 'run'",
    "ray[default,data]<2.61,>=2.60; extra == 'run'",
    "scikit-learn>=1.6; extra == 'assets'",
]
# What torch and numpy bring along; dill where it is there.
OF_TORCH = {"torch", "torchgen", "numpy", "tqdm", "typing_extensions", "packaging", "sympy", "mpmath", "dill"}
LOADED = """
import importlib, json, sys
base = set(sys.modules)
{code}
files = {{name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in base}}
found = {{name.split(".")[0] for name, file in files.items() if "site-packages" in file}}
print(json.dumps(sorted(found)))
"""


def loaded_by(code: str) -> set[str]:
    """Third-party modules that a piece of code loads in an interpreter of its own, less what torch brings."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {name for name in json.loads(done.stdout.splitlines()[-1]) if not name.startswith("_")}
    return found - OF_TORCH


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("posegen.benchmarks.measure.metrics", set()),
        ("posegen.benchmarks.measure.statistics", set()),
        ("posegen.benchmarks.measure.evaluate", set()),
        ("posegen.renderer.field.artifact", {"filelock", "threadpoolctl"}),
        ("posegen.renderer.anerf.renderer", set()),
        ("posegen.estimator.spin", {"smplx", "filelock", "threadpoolctl"}),
        ("posegen.noise", set()),
        ("posegen.feedback.objectives", set()),
        ("posegen.generator.generator", {"smplx", "PIL"}),
    ],
)
def test_leaves_load_few_packages(module, allowed):
    assert loaded_by(f"importlib.import_module({module!r})") <= allowed


@pytest.mark.usefixtures("assets")
def test_rendering_a_person_needs_the_core_alone():
    core = {line.split(">")[0].split("[")[0] for line in PROJECT["dependencies"]} | {"PIL", "yaml", "hydra"}
    code = (
        "import torch, posegen\n"
        "camera = posegen.look_at_camera(torch.tensor([0.5]), elevation_rad=0.1, distance_m=3.0, size_px=32)\n"
        "z, light = torch.zeros, posegen.Light.default(1)\n"
        "scene = posegen.Scene(z(1, 24, 3), z(1, 10), z(1, 3), camera, z(1).long(), light, z(1).long() - 1)\n"
        "posegen.load_renderer()(scene)"
    )
    assert loaded_by(code) <= core | {"threadpoolctl"}


def test_extras_hold_what_the_core_does_not():
    optional = PROJECT["optional-dependencies"]
    assert {"assets", "data", "run", "fit", "s3", "docs", "dev"} == set(optional)
    core = {line.split(">")[0] for line in PROJECT["dependencies"]}
    assert not core & {"ray", "mlflow", "pyarrow", "matplotlib", "pandas"}
    assert "posegen[assets,data]" in optional["run"]


def test_a_missing_package_is_told_with_its_extra(monkeypatch, capsys):
    monkeypatch.setattr(extras, "requires", lambda name: LISTED)
    assert extras.extra_of("ray") == "run"
    assert extras.extra_of("sklearn") == "assets"
    assert extras.extra_of("torch") is None

    def lacking(argv):
        raise ModuleNotFoundError("No module named 'ray'", name="ray.data")

    monkeypatch.setitem(cli.COMMANDS, "run", lacking)
    assert cli.main(["run"]) == 2
    assert "next: pip install 'posegen[run]'" in capsys.readouterr().err


def test_any_other_missing_module_stays_an_error(monkeypatch):
    def lacking(argv):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")

    monkeypatch.setitem(cli.COMMANDS, "run", lacking)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["run"])
