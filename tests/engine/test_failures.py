"""What a person is told when memory, the object store or the disk runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posegen.engine.failures import explain, is_lasting
from posegen.engine.stream import render_to_disk
from posegen.engine.terms import Claim, Place
from posegen.engine.train import run_training
from posegen.errors import EngineError
from posegen.experiment.rendering import Rendering

OF_RAY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: ab12) was "
    "31.20GB used / 32.00GB limit (0.975)"
)


def failing_factory(config):
    """A renderer that fails as Ray does."""
    import ray.exceptions

    def render(ids):
        raise getattr(ray.exceptions, config["kind"])(config["message"])

    return render


class FailingLoop:
    """A training that fails as Ray does at its second step."""

    def __init__(self, config, device="cpu", wrap=None, rank=0, world_size=1):
        self.step_index, self.steps, self.kind = 0, 4, config.get("kind", "OutOfMemoryError")

    def step(self):
        import ray.exceptions

        self.step_index += 1
        if self.step_index == 2:
            raise getattr(ray.exceptions, self.kind)(OF_RAY if self.kind == "OutOfMemoryError" else "full")
        return {"loss": 1.0}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        del state


@pytest.mark.parametrize(
    ("kind", "message", "what", "where", "next_command"),
    [
        ("OutOfMemoryError", OF_RAY, "a worker of rendering ran out of memory and was ended",
         "rendering, node 10.0.0.7: 31.20GB used / 32.00GB limit", "lower engine.train_workers"),
        ("ObjectStoreFullError", "Failed to put object ab12.", "Ray's object store is too small for rendering",
         "rendering, node {here}", "raise engine.object_store_mb"),
        ("OutOfDiskError", "Local disk is full.",
         "Ray's object store is full in rendering, and so is the disk to which it spills", "rendering, node {here}",
         "raise engine.object_store_mb"),
    ],
)  # fmt: skip
def test_a_stage_of_ray_data_that_runs_out(ray_cluster, tmp_path, kind, message, what, where, next_command):
    stage = Rendering(failing_factory, {"kind": kind, "message": message}, rows=4, rows_per_block=4, folder=tmp_path)
    with pytest.raises(EngineError) as told:
        render_to_disk(stage)
    import ray

    here = ray.nodes()[0]["NodeManagerAddress"]
    assert (told.value.what, told.value.where) == (what, where.format(here=here))
    assert next_command in told.value.next_command and "the same command again" in told.value.next_command


def test_a_training_worker_that_runs_out_of_memory(ray_cluster, tmp_path):
    with pytest.raises(EngineError, match="a worker of tuned ran out of memory and was ended") as told:
        run_training("test_failures:FailingLoop", {}, Place(tmp_path, "tuned"), claim=Claim(max_failures=0))
    assert told.value.where == "tuned, node 10.0.0.7: 31.20GB used / 32.00GB limit"


def test_a_full_store_is_told_at_the_first_time_because_a_retry_finds_it_as_full(ray_cluster, tmp_path):
    with pytest.raises(EngineError, match="Ray's object store is full in tuned"):
        run_training("test_failures:FailingLoop", {"kind": "OutOfDiskError"}, Place(tmp_path, "tuned"))
    assert (tmp_path / "tuned" / "failures.jsonl").read_text().count("\n") == 1


def test_what_ray_raises_is_told_without_a_cause_too():
    import ray.exceptions

    told = explain(ray.exceptions.OutOfMemoryError(OF_RAY), "fine-tuning")
    assert "ran out of memory" in told.what and "10.0.0.7" in str(told.where)
    told = explain(RuntimeError("something else broke"), "fine-tuning")
    assert "something else broke" in told.what


PRIVATE = """
import sys, tempfile
sys.path[:0] = {paths!r}
from posegen.engine.cluster import connect
from posegen.errors import EngineError
connect("local", cpus=4, gpus=0, object_store_mb=100, environment={{"PYTHONPATH": {path!r}}})
from posegen.engine.terms import Place
from posegen.engine.train import run_training
try:
    run_training("toy_loops:GanLoop", {{"steps": 5, "batch": 8}}, Place(tempfile.mkdtemp(), "tuned"))
except EngineError as error:
    print("TOLD", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["rendering", "tuned"])
def test_rays_own_killer_of_workers_without_memory(tmp_path, assets, stage):
    """With a threshold below what any machine uses, Ray ends every worker at once: memory has run out for certain."""
    tests, platform = str(Path(__file__).parent), str(Path(__file__).parents[2] / "platform")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables |= {
        "RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100", "PYTHONPATH": platform,
    }  # fmt: skip
    if stage == "rendering":  # the first stage of an experiment, from the command line
        words = ["-m", "posegen.cli", "run", "experiment=smoke", "dataset.arms=[random]", f"run.outputs={tmp_path}"]
    else:
        words = ["-c", PRIVATE.format(paths=[tests, platform], path=os.pathsep.join([platform, tests]))]
    done = subprocess.run(
        [sys.executable, *words], env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    said = done.stdout + done.stderr
    assert f"a worker of {stage} ran out of memory and was ended" in said, said
    assert f"where: {stage}, node 127.0.0.1: " in said and "GB limit" in said
    assert "next: lower engine.train_workers" in said and "Traceback" not in said
    assert done.returncode == (2 if stage == "rendering" else 0)


def test_a_full_disk_is_told_in_whatever_words_it_comes_and_not_tried_again():
    of_arrow = RuntimeError("OSError: [Errno 28] Error writing bytes to file. Detail: No space left on device")
    told = explain(of_arrow, "fine-tuning")
    assert told.what.startswith("the disk is full in fine-tuning") and "the same command again" in told.next_command
    assert is_lasting(of_arrow)
