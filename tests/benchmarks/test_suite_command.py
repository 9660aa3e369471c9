"""The paper's table on tiny data sets in their original layouts, with SPIN's and HybrIK's architecture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_suite import make_all

from posegen.benchmarks.measure.result import TAILS, BenchmarkResult
from posegen.benchmarks.suites import Suite, build_entry
from posegen.cli import dispatch, main
from posegen.config import compose
from posegen.errors import ConfigError
from posegen.estimator import save_checkpoint
from posegen.estimator.config import checkpoint_digest
from posegen.experiment.evaluation import Judge, evaluate_into
from posegen.experiment.gallery import make_gallery
from posegen.experiment.stages import RunFolder
from posegen.experiment.summary import write_summary
from posegen.progress import Reporter
from posegen.tracking.report.report import build_report

SETS = ("3dpw", "mpi_inf_3dhp", "ski_poseptz", "agora")
SMPL_VERTICES = 6890  # HybrIK's kinematics names single vertices of SMPL's mesh

pytestmark = pytest.mark.usefixtures("assets")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("DATASETS")
    make_all(folder, SMPL_VERTICES)
    return folder


def words(data, estimator: str, outputs) -> list[str]:
    return [
        "suite=paper", f"data={data}", f"estimator={estimator}", "estimator.random=true",
        f"estimator.body={data / 'smpl'}", f"run.outputs={outputs}", "evaluation.bootstrap=50",
    ]  # fmt: skip


def test_the_stages_of_a_run_from_evaluation_to_report(data, tmp_path):
    """Two arms of SPIN on all sets: results, table, tails, clips, gallery and page."""
    config = compose(["experiment=smoke", *words(data, "spin", tmp_path)])
    suite, run = Suite.of(config), RunFolder(tmp_path / "run")
    judge = Judge(config)
    weights = save_checkpoint(judge.for_truth_of("own")[0], tmp_path / "estimator.pt")
    reporter = Reporter()
    results: dict[str, dict[str, BenchmarkResult]] = {}
    for arm, file in (("before", None), ("posegen", weights)):
        folder = run.folder("evaluation", arm)
        with reporter.stage(arm) as bar:
            evaluate_into(folder, config, suite.measured, file, bar)
        results[arm] = {name: BenchmarkResult.load(folder / f"{name}.parquet") for name in SETS}
    assert results["before"]["3dpw"].weights == "random"
    assert results["posegen"]["3dpw"].weights == checkpoint_digest(weights)
    for name in SETS:  # the same weights, random but drawn from the seed, in another process' way
        before, after = (results[arm][name].per_image["mpjpe_mm"] for arm in ("before", "posegen"))
        np.testing.assert_allclose(before, after, rtol=1e-4)
    summary = write_summary(run, config, results)
    assert list(summary["benchmarks"]) == list(SETS)
    cells = summary["benchmarks"]["3dpw"]["arms"]["before"]
    errors = np.sort(results["before"]["3dpw"].per_image["mpjpe_mm"])
    assert cells["worst_5_mm"]["value"] == pytest.approx(errors[-1], abs=1e-3)
    assert set(TAILS) < set(summary["metrics"])
    assert set(summary["benchmarks"]["mpi_inf_3dhp"]["clips"]) == {"TS1"}
    benchmarks = [build_entry(entry, config) for entry in suite.measured]
    gallery = make_gallery(
        judge, Judge(config, weights), benchmarks, results["before"], results["posegen"],
        run.path / "evaluation" / "gallery.npz", each=2,
    )  # fmt: skip
    assert sorted(set(gallery.benchmark.tolist())) == sorted(SETS) and len(gallery) == 8
    assert np.isfinite(gallery.joints2d_truth).any(axis=(1, 2)).all()  # every set knows where its people are drawn
    page = build_report(run.path).read_text()
    for said in (*SETS, "worst 5 % (mm)", "male and female SMPL by person", "by clip, the worst before first"):
        assert said in page
    assert "is missing: the test images say nothing" not in page  # viewpoints are known


def test_one_estimator_s_table_without_generating(data, tmp_path, capsys):
    """`posegen evaluate suite=paper` with HybrIK's architecture; the same again finds the same files."""
    argv = ["evaluate", *words(data, "hybrik", tmp_path), "--json", str(tmp_path / "table.json")]
    assert main(argv) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert list(table["benchmarks"]) == list(SETS) and list(table["watched"]) == ["3dpw-train"]
    assert table["weights"] == "random" and table["files"]["agora"].endswith("hybrik-agora-random.parquet")
    stored = BenchmarkResult.load(table["files"]["ski_poseptz"])
    assert table["benchmarks"]["ski_poseptz"]["arms"]["before"]["mpjpe_mm"]["value"] == pytest.approx(
        stored.per_image["mpjpe_mm"].mean(), abs=1e-3
    )
    printed = capsys.readouterr().out
    assert "MPJPE (mm)" in printed and "worst 10 % (mm)" in printed and "3dpw-train" in printed


def test_random_weights_are_refused_unless_asked_for(data, tmp_path):
    without = [word for word in words(data, "spin", tmp_path) if word != "estimator.random=true"]
    place = data / "Ski-PosePTZ-CameraDataset-png"
    single = ["estimator=spin", "benchmark=ski_poseptz", f"benchmark.annotations={place}"]
    for command in (
        ["evaluate", *without],
        ["run", "experiment=smoke", *without],
        ["evaluate", *single, f"estimator.body={data / 'smpl'}"],
    ):
        with pytest.raises(ConfigError, match="spin needs a checkpoint") as error:
            dispatch(command)
        assert "estimator.random=true" in error.value.next_command


def test_an_earlier_result_is_never_overwritten_by_another(tmp_path):
    def result(error: float) -> BenchmarkResult:
        return BenchmarkResult(
            benchmark="b", protocol="p", ids=["1"], groups=["g"], per_image={"mpjpe_mm": np.array([error])},
            azimuth=np.zeros(1), elevation=np.zeros(1), metrics={"mpjpe_mm": error}, counted={"used": 1},
        )  # fmt: skip

    first = result(1.0).save_beside(tmp_path, "e-b")
    assert first.name == "e-b.parquet" and result(1.0).save_beside(tmp_path, "e-b") == first
    second = result(2.0).save_beside(tmp_path, "e-b")
    assert second.name == "e-b-2.parquet" and result(2.0).save_beside(tmp_path, "e-b") == second
    assert BenchmarkResult.load(first).metrics["mpjpe_mm"] == 1.0
    assert result(1.0).save_beside(tmp_path, "e-b") == first


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["spin", "hybrik"])
def test_a_whole_run_on_the_paper_s_suite(ray_cluster, data, tmp_path, estimator):
    argv = [
        "run", "experiment=smoke", *words(data, estimator, tmp_path), "dataset.arms=[random,posegen]",
        "adversarial.steps=2", "adversarial.calibration_images=8", "adversarial.batch=4",
        "adversarial.feedback_batch=2", "dataset.images=8", "dataset.source_images=8", "dataset.rows_per_block=8",
        "finetune.steps=2", "finetune.batch=4",
    ]  # fmt: skip
    assert main(argv) == 0
    place = (tmp_path / "latest").resolve()
    summary = json.loads((place / "summary.json").read_text())
    assert list(summary["benchmarks"]) == list(SETS) and list(summary["watched"]) == ["3dpw-train"]
    for name in SETS:
        for arm in ("before", "random", "posegen"):
            assert 0 < summary["benchmarks"][name]["arms"][arm]["mpjpe_mm"]["value"] < 5000
    page = (place / "report.html").read_text()
    assert all(name in page for name in SETS) and "one training each; needs at least 5 seeds" in page
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "posegen")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    logged = {key for run in runs for key in run.data.metrics}
    assert all(any(name in key for key in logged) for name in SETS)
