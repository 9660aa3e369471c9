"""`posegen evaluate` on a data set: configuration to JSON, with a registered estimator of known error."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields

import pytest
import torch
from tiny_datasets import Sequential, agora_table, make_3dpw, make_ski, off_by_30, write_bodies

from posegen import estimator as estimators
from posegen.benchmarks import protocol
from posegen.benchmarks.command import main
from posegen.benchmarks.embedded.stand_ins import EMBEDDED_OTHERS, EMBEDDED_TESTS
from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.readers.frames import FrameOptions
from posegen.body.joint_sets import H36M17
from posegen.config import compose, conf_dir
from posegen.errors import ConfigError


@pytest.fixture
def known(monkeypatch):
    """Puts an estimator of known answers in the place of hmr_small; it takes any option."""
    holder: dict = {}
    monkeypatch.setitem(estimators.REGISTRY._factories, "hmr_small", lambda **options: holder["estimator"])
    return holder


EMBEDDED = (*EMBEDDED_TESTS, *EMBEDDED_OTHERS)


def files() -> list[str]:
    return sorted(path.stem for path in (conf_dir() / "benchmark").glob("*.yaml"))


@pytest.mark.parametrize("name", files())
def test_every_yaml_names_only_options_that_exist(name):
    config = compose([f"+benchmark={name}"]).benchmark
    assert config["name"] == name and name in protocol.names()
    parameters = inspect.signature(protocol.REGISTRY.get(name)).parameters
    valid = {"name", *parameters}
    if name not in EMBEDDED:
        valid |= {field.name for field in fields(FrameOptions)}
        if name == "agora":
            valid |= {"predictions"}
        if name.startswith("h36m"):
            valid -= {"options"}
    assert set(config) <= valid
    for key, value in config.items():
        default = parameters[key].default if key in parameters else inspect.Parameter.empty
        if default is not inspect.Parameter.empty and name not in EMBEDDED:
            assert value == default or str(value) == str(default), key


def test_ski_from_the_command_line_to_json(tmp_path, known, monkeypatch, capsys):
    truth = make_ski(tmp_path / "ski")
    known["estimator"] = Sequential(truth, "h36m17", off_by_30(H36M17.index("left_ankle")))
    monkeypatch.setattr("posegen.assets.ensure", lambda *a, **k: None)
    argv = ["benchmark=ski_poseptz", f"benchmark.annotations={tmp_path / 'ski'}", f"run.outputs={tmp_path / 'out'}"]
    assert main([*argv, "--json", str(tmp_path / "x" / "out.json")]) == 0
    summary = json.loads((tmp_path / "x" / "out.json").read_text())
    assert summary["metrics"]["mpjpe_mm"] == pytest.approx(30 / 14, abs=1e-3)
    assert summary["intervals"]["mpjpe_mm"]["low"] == pytest.approx(30 / 14, abs=1e-3)
    assert summary["intervals"]["mpjpe_mm"]["over"] == "image"  # of one sequence there is but one group
    assert summary["counted"] == {"used": 6, "missing": 0, "damaged": 0, "failed": 0}
    assert summary["per_joint_mm"]["left_ankle"] == pytest.approx(30, abs=1e-3)
    assert BenchmarkResult.load(summary["file"]).metrics == pytest.approx(summary["metrics"])
    printed = capsys.readouterr().out
    assert "ski_poseptz: joints 14 of h36m17" in printed and "MPJPE" in printed and "out.json" in printed


def test_spin_itself_runs_on_3dpw(tmp_path):
    """The issue's command with random weights: every part is real, only the data and the body are tiny."""
    bodies = write_bodies(tmp_path / "smpl")
    make_3dpw(tmp_path / "3dpw", bodies)
    argv = [
        "estimator=spin",
        "estimator.random=true",
        f"body.path={bodies}",
        "benchmark=3dpw",
        f"benchmark.annotations={tmp_path / '3dpw' / 'sequenceFiles'}",
        f"benchmark.images={tmp_path / '3dpw'}",
        f"run.outputs={tmp_path / 'out'}",
        f"--json={tmp_path / 'out.json'}",
    ]
    torch.manual_seed(0)
    assert main(argv) == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["estimator"] == "spin" and "regressed from the mesh" in summary["protocol"]
    assert set(summary["metrics"]) >= {"mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pck_150", "auc", "acceleration_mm"}
    assert 0 < summary["metrics"]["pa_mpjpe_mm"] < summary["metrics"]["mpjpe_mm"] < 3000


def test_agoras_prediction_files(tmp_path, capsys):
    import pickle

    import pandas as pd

    table = agora_table(1)
    (tmp_path / "gt").mkdir()
    pd.DataFrame(table).to_pickle(tmp_path / "gt" / "t.pkl")
    person = {"joints": table["gt_joints_2d"][0][0][:24], "allSmplJoints3d": table["gt_joints_3d"][0][0]}
    (tmp_path / "ag_validationset_0_00001_personId_0.pkl").write_bytes(pickle.dumps(person))
    argv = ["benchmark=agora", f"benchmark.annotations={tmp_path / 'gt'}", f"benchmark.predictions={tmp_path}"]
    assert main([*argv, f"run.outputs={tmp_path / 'out'}"]) == 0
    assert "F1" in (printed := capsys.readouterr().out) and "0.67" in printed


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(ConfigError, match="did you mean '3dpw'"):
        main(["benchmark=3dpww"])
    with pytest.raises(ConfigError, match="needs annotations"):
        main(["benchmark=ski_poseptz"])
    with pytest.raises(ConfigError, match="--json needs a file"):
        main(["benchmark=ski_poseptz", "--json"])


def test_help_lists_the_benchmarks(capsys):
    assert main(["--help"]) == 0
    assert "mpi_inf_3dhp" in capsys.readouterr().out
