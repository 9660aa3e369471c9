"""Training far from the laptop: on an object store, growing with the cluster, interrupted, followed by MLflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from toy_loops import run_here

from posegen.engine import train
from posegen.engine.history import read_history
from posegen.engine.terms import Claim, Place, Reports
from posegen.engine.train import _follow, run_training

GAN = "toy_loops:GanLoop"
JOIN = Path(__file__).parents[2] / "cluster" / "local" / "join.py"
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" keeps a cluster on 127.0.0.1, and other nodes out


def assert_same(got, want, tolerance=0.0):
    for net in ("g", "d"):
        for name, value in want[net].items():
            torch.testing.assert_close(got[net][name], value, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_checkpoints_on_an_s3_server_resume(ray_cluster, tmp_path, monkeypatch):
    import pyarrow.fs
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        s3 = s3fs.S3FileSystem(key="k", secret="s", endpoint_url=f"http://{host}:{port}")
        s3.mkdir("posegen")
        filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(s3))
        config = {"steps": 8, "batch": 8}
        place = Place("posegen/runs", "far", tmp_path / "history.jsonl", "f", filesystem)
        reports = Reports(checkpoint_every=4)
        with pytest.raises(Exception, match="cut short"):
            run_training(GAN, {**config, "fail_at": 6}, place, reports=reports)
        outcome = run_training(GAN, config, place, reports=reports)
        assert outcome.resumed_from == 4 and outcome.steps == 8
        assert_same(outcome.state(), run_here(config))
        assert any("checkpoint_" in name for name in s3.ls("posegen/runs/far"))
    finally:
        server.stop()


@pytest.mark.slow
def test_a_run_grows_with_a_node_that_joins_and_goes_on_when_it_dies(ray_cluster, tmp_path):
    node: list[subprocess.Popen] = []

    def join():
        # On loopback a node joins by cluster/local's way alone; elsewhere what keeps Ray there must not be passed on.
        loopback = ray_cluster.address.startswith("127.")
        joining = [sys.executable, str(JOIN)] if loopback else [str(Path(sys.executable).with_name("ray"))]
        variables = {name: value for name, value in os.environ.items() if loopback or name != LOOPBACK}
        command = [
            *joining, "start", "--block", f"--address={ray_cluster.address}",
            "--num-cpus=3", "--object-store-memory=100000000", "--min-worker-port=31000", "--max-worker-port=31200",
            "--dashboard-agent-listen-port=0",
        ]  # fmt: skip
        quiet = subprocess.DEVNULL
        node.append(subprocess.Popen(command, env=variables, stdout=quiet, stderr=quiet, start_new_session=True))

    def follow(row):
        if row["step"] >= 4 and not node:
            join()
        if row["world_size"] == 2:
            grown.append(row["step"])
            if len(grown) == 6:
                os.killpg(node[0].pid, signal.SIGKILL)  # our own node, as a spot instance is taken away

    grown: list[int] = []
    config = {"steps": 150, "batch": 8, "sleep": 0.4}
    try:
        outcome = run_training(
            GAN, config, Place(tmp_path, "elastic"), claim=Claim((1, 2), cpus=3, resize_every_s=2),
            reports=Reports(follow, checkpoint_every=2, every=1),
        )  # fmt: skip
    finally:
        if node and node[0].poll() is None:
            os.killpg(node[0].pid, signal.SIGKILL)
    sizes = [row["world_size"] for row in read_history(outcome.history)]
    assert len(sizes) == 150 and sizes[0] == 1 and 2 in sizes and sizes[-1] == 1
    assert outcome.restarts >= 1
    assert_same(outcome.state(), run_here({**config, "sleep": 0}), 1e-4)


INTERRUPTED = """
import sys
from posegen.engine.cluster import connect
from posegen.engine.terms import Place, Reports
from posegen.engine.train import run_training
connect({address!r}, environment={{"PYTHONPATH": {path!r}}})
config = {{"steps": 60, "batch": 8, "sleep": 0.2}}
try:
    run_training("toy_loops:GanLoop", config, Place({storage!r}, "r", fingerprint="f"),
                 reports=Reports(checkpoint_every=2))
except KeyboardInterrupt:
    print("interrupted in good order")
    sys.exit(130)
"""


@pytest.mark.slow
def test_ctrl_c_is_safe_and_the_second_call_goes_on(ray_cluster, tmp_path):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1] / "platform"), str(here)])
    code = INTERRUPTED.format(address=ray_cluster.address, path=path, storage=str(tmp_path))
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    history = tmp_path / "r" / "history.jsonl"
    deadline = time.monotonic() + 120
    while len(read_history(history)) < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130 and "interrupted in good order" in out, out
    config = {"steps": 60, "batch": 8}
    outcome = run_training(GAN, config, Place(tmp_path, "r", fingerprint="f"), reports=Reports(checkpoint_every=20))
    assert outcome.resumed_from >= 2
    assert_same(outcome.state(), run_here(config))
    assert [row["step"] for row in read_history(history)] == list(range(1, 61))


def test_progress_gets_each_step_once(tmp_path):
    history = tmp_path / "history.jsonl"
    seen = []

    def write():
        with history.open("a") as file:
            for step in (1, 2, 3):
                file.write(f'{{"step": {step}, "loss": {step / 4}, "bad": NaN}}\n')
                file.flush()
                time.sleep(0.3)

    with _follow(history, [seen.append]):
        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
    assert [(row["step"], row["loss"]) for row in seen] == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_a_step_written_before_the_thread_that_follows_is_awake_is_no_old_one(tmp_path, monkeypatch):
    history = tmp_path / "history.jsonl"
    history.write_text('{"step": 1, "loss": 0.5}\n')
    seen, tail = [], train._tail

    def late(*given):
        time.sleep(0.3)
        tail(*given)

    monkeypatch.setattr(train, "_tail", late)
    with _follow(history, [seen.append]), history.open("a") as file:
        file.write('{"step": 2, "loss": 0.25}\n')
    assert [row["step"] for row in seen] == [2]
