"""Joining a cluster: what cannot work is said at once, with what was asked and what there is."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import time
from concurrent import futures
from pathlib import Path

import pytest

from posegen.engine import cluster, probe
from posegen.engine.resources import require, total_of, unplaced
from posegen.errors import EngineError


def test_bundles_are_placed_on_nodes_not_on_the_sum():
    nodes = [{"CPU": 3.0}, {"CPU": 3.0, "GPU": 1.0}]
    assert unplaced([{"CPU": 2}, {"CPU": 2}], nodes) == []
    assert unplaced([{"CPU": 2}] * 3, nodes) == [{"CPU": 2}]  # 6 CPUs in all, but no third pair on one node
    assert unplaced([{"CPU": 1, "GPU": 0.5}] * 3, nodes) == [{"CPU": 1, "GPU": 0.5}]
    assert total_of([{"CPU": 1, "GPU": 0}, {"CPU": 2}]) == {"CPU": 3}


def test_too_much_is_refused_within_seconds_with_both_numbers(ray_cluster):
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"(?s)fine-tuning.*2 CPU, 2 GPU.*the cluster has 4 CPU"):
        require([{"CPU": 1, "GPU": 1}] * 2, "fine-tuning")
    words: list[str] = []
    with pytest.raises(EngineError, match="asked for 9 CPU"):
        require([{"CPU": 1}] * 9, "rendering", wait_s=2, progress=words.append)
    assert words and "rendering asks for 9 CPU: waiting up to 2 s for nodes" in words[0]
    require([{"CPU": 1}] * 4, "rendering")
    assert time.monotonic() - began < 30


def test_an_autoscaler_is_asked_and_the_request_is_taken_back(ray_cluster, monkeypatch):
    """Ray keeps what was asked for until it is asked for something else: idle nodes would stay, and cost, for ever."""
    from ray.autoscaler import sdk

    asked: list[list] = []

    def note(bundles: list) -> None:
        asked.append(bundles)

    monkeypatch.setattr(sdk, "request_resources", note)
    require([{"CPU": 1}], "rendering", wait_s=1)
    assert asked == []  # there is room
    with pytest.raises(EngineError, match="not enough resources"):
        require([{"CPU": 1}] * 9, "rendering", wait_s=0.1)
    assert asked == [[{"CPU": 1}] * 9, []]


def test_resources_in_use_are_said_to_be_in_use(ray_cluster):
    import ray

    @ray.remote(num_cpus=3)
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()
    assert ray.get(holder.ready.remote())
    with pytest.raises(EngineError, match=r"in use: asked for 2 CPU, free 1 CPU.* of 4 CPU"):
        require([{"CPU": 1}] * 2, "fine-tuning", free_within_s=3)
    ray.kill(holder)
    require([{"CPU": 1}] * 4, "fine-tuning", free_within_s=20)


def test_no_cluster_at_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(EngineError, match=rf"(?s)no Ray cluster at 127.0.0.1:{port}.*ray start --head"):
        probe.check_alive(f"127.0.0.1:{port}")
    assert time.monotonic() - began < 30
    with pytest.raises(EngineError, match="not a cluster address"):
        probe.check_alive("somewhere")


def test_another_service_at_the_address(monkeypatch):
    monkeypatch.setattr(probe, "TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:  # listens and says nothing
        with pytest.raises(EngineError, match="no Ray cluster"):
            probe.check_alive(f"127.0.0.1:{server.getsockname()[1]}")


def test_another_ray_version_is_told_before_joining():
    import grpc
    from ray.core.generated.gcs_service_pb2 import CheckAliveReply

    class OldHead(grpc.GenericRpcHandler):
        def service(self, details):
            assert details.method == "/ray.rpc.NodeInfoGcsService/CheckAlive"
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: CheckAliveReply(ray_version="2.9.3").SerializeToString()
            )

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[OldHead()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(EngineError, match=r"(?s)runs Ray 2\.9\.3.*pip install"):
        probe.check_alive(f"127.0.0.1:{port}")
    server.stop(None)


def test_a_wrong_token_is_told_at_once_and_the_right_one_accepted(ray_cluster, monkeypatch):
    probe.check_alive(ray_cluster.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    began = time.monotonic()
    with pytest.raises(EngineError, match="refuses our token"):
        probe.check_alive(ray_cluster.address)
    assert time.monotonic() - began < 30


def test_the_dashboard_is_private(ray_cluster):
    import urllib.error
    import urllib.request

    assert ray_cluster.dashboard_url.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(ray_cluster.dashboard_url + "/api/jobs/", timeout=10)


def test_a_token_is_made_for_this_user_alone_and_a_chosen_one_is_kept(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back, also where it was not set before
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster._set_token()
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert path == tmp_path / "cache" / "ray" / "auth_token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text()
    assert len(token) == 64 and os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    path.chmod(0o644)
    cluster._set_token()
    assert path.read_text() == token and stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/mine")
    cluster._set_token()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/mine"


def test_the_object_store_is_checked_against_shared_memory(tmp_path, monkeypatch):
    usage = cluster.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda _: usage._replace(free=64 * 2**20))
    with pytest.raises(EngineError, match=r"(?s)not enough shared memory.*500 MB asked, 57 MB usable.*--shm-size"):
        cluster.object_store_bytes(500, tmp_path)
    with pytest.raises(EngineError, match=r"100 MB asked, 57 MB usable"):  # a container's default of 64 MB
        cluster.object_store_bytes(None, tmp_path)
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda _: usage._replace(free=600 * 2**20))
    assert cluster.object_store_bytes(None, tmp_path) == 540 * 2**20
    assert cluster.object_store_bytes(300, tmp_path) == 300 * 2**20
    with pytest.raises(EngineError, match="0 MB usable"):
        cluster.object_store_bytes(300, tmp_path / "missing")
    with pytest.raises(EngineError, match="too small"):
        cluster.object_store_bytes(10, tmp_path)


def test_workers_get_the_code_and_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker")
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    monkeypatch.setenv("SECRET_OF_ANOTHER_PROGRAM", "x")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    variables = cluster.runtime_env({"EXTRA": "1"})["env_vars"]
    assert variables["MLFLOW_TRACKING_URI"] == "http://tracker" and variables["EXTRA"] == "1"
    assert variables["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "0.5"
    assert "SECRET_OF_ANOTHER_PROGRAM" not in variables
    assert (Path(variables["PYTHONPATH"].split(os.pathsep)[0]) / "posegen" / "engine" / "cluster.py").is_file()
    job = {"runtime_env": {"env_vars": {"MLFLOW_TRACKING_URI": "http://of-the-job"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    variables = cluster.runtime_env()["env_vars"]
    assert "PYTHONPATH" not in variables  # a job's code travels with its working directory
    assert "MLFLOW_TRACKING_URI" not in variables  # Ray refuses a variable that the job sets too


def test_rays_processes_ask_the_state_api_of_their_own_cluster(ray_cluster):
    """With several clusters on a machine Ray would ask the youngest, and each training end 12 s later."""
    import ray
    from ray.util.state import get_actor

    @ray.remote(num_cpus=0)
    class Asker:
        def state(self):
            return get_actor(ray.get_runtime_context().get_actor_id(), timeout=10).state

    assert ray.get(Asker.remote().state.remote(), timeout=60) == "ALIVE"


@pytest.mark.slow
def test_a_submitted_job_joins_its_cluster_with_the_jobs_variables(ray_cluster):
    from ray.job_submission import JobStatus, JobSubmissionClient

    code = (  # the address is given because other clusters may run on the machine of the tests
        f"import os, ray; from posegen.engine.cluster import connect; print(connect('{ray_cluster.address}'));"
        "print('worker sees', ray.get(ray.remote(lambda: os.environ['MLFLOW_TRACKING_URI']).remote()))"
    )
    platform = str(Path(cluster.__file__).resolve().parents[2])
    variables = {"PYTHONPATH": platform, "MLFLOW_TRACKING_URI": "http://of-the-job"}
    client = JobSubmissionClient(ray_cluster.dashboard_url)
    job = client.submit_job(entrypoint=f'{sys.executable} -c "{code}"', runtime_env={"env_vars": variables})
    deadline = time.monotonic() + 180
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.5)
    logs = client.get_job_logs(job)
    assert client.get_job_status(job) == JobStatus.SUCCEEDED, logs
    assert "(joined): 1 node(s), 4 CPU" in logs and "worker sees http://of-the-job" in logs
