"""Joining a cluster: what cannot work is said at once, with what was asked and what there is."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

import pytest

from posegen.engine import access_token, cluster, probe, starting
from posegen.engine.resources import require, total_of, unplaced
from posegen.errors import DataError, EngineError


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
    access_token.set_token()
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert path == tmp_path / "cache" / "ray" / "auth_token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text()
    assert len(token) == 64 and os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    path.chmod(0o644)
    access_token.set_token()
    assert path.read_text() == token and stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/mine")
    access_token.set_token()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/mine"


@pytest.fixture
def no_token(tmp_path, monkeypatch):
    """No token anywhere; the cache is in tmp_path."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache"


def test_a_token_is_made_where_there_are_no_links(no_token, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    access_token.set_token()
    path = no_token / "ray" / "auth_token"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(path) and len(path.read_text()) == 64
    assert {one.name for one in path.parent.iterdir()} == {"auth_token", ".lock"}


def test_of_many_that_make_the_token_at_once_all_use_one(no_token):
    path = no_token / "ray" / "auth_token"
    path.parent.mkdir(parents=True)
    with futures.ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: str(access_token._made()) + path.read_text(), range(16)))
    assert len(tokens) == 1
    assert len(path.read_text()) == 64


def test_a_cache_that_cannot_be_written_is_told(no_token):
    no_token.write_text("a file")
    with pytest.raises(EngineError, match=r"(?s)token of Ray clusters cannot be written.*export POSEGEN_CACHE="):
        access_token.set_token()


def test_a_cache_of_others_is_told_in_the_same_words(no_token, monkeypatch):
    """A read-only file system; permissions would not stop the root user."""

    def refuse(*_, **__):
        raise DataError("the folder cannot be written (Read-only file system)")

    monkeypatch.setattr(access_token, "write_text", refuse)
    with pytest.raises(EngineError, match=r"(?s)token of Ray clusters.*Read-only.*export POSEGEN_CACHE="):
        access_token.set_token()


def test_where_files_cannot_be_private_the_token_is_on_this_machines_disk(no_token, monkeypatch):
    """exFAT and mounted buckets show one mode for all files, whatever chmod is told."""
    monkeypatch.setattr(access_token, "_private", lambda path: no_token not in path.parents)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        access_token.set_token()
        path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert path == Path(short, f"posegen-{os.getuid()}", "auth_token") == access_token.token_path()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not (no_token / "ray" / "auth_token").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://ray.example", "ray://head:10001"])
def test_an_address_for_jobs_in_the_environment_is_explained(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EngineError, match=r"(?s)RAY_ADDRESS=.* is in.*engine.address=local.*posegen submit run"):
        cluster.connect()


SLOW = Exception("The current node timed out during startup. This could")
TAKEN = ValueError("Failed to bind to 127.0.0.1:52987 because it's already occupied. You can use")

DASHBOARD = Exception(
    "\nThe last 20 lines of /x/dashboard.log (it contains the error message from the dashboard): \nINFO"
)


def test_an_attempt_has_a_port_that_none_before_had(monkeypatch):
    given = iter([7001, 7001, 7002])

    class Probe(contextlib.nullcontext):
        def bind(self, address):
            assert address == ("127.0.0.1", 0)

        def getsockname(self):
            return "127.0.0.1", next(given)

        def __enter__(self):
            return self

    monkeypatch.setattr(starting.socket, "socket", Probe)
    assert [starting._free_port(set()), starting._free_port({7001})] == [7001, 7002]


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([SLOW], None),
        ([DASHBOARD], None),
        ([DASHBOARD] * 3, "did not start in time, 3 times"),
        ([SLOW, TAKEN], None),
        ([SLOW] * 3, "did not start in time, 3 times"),
        ([RuntimeError("Ray processes exited\n at")], "could not be started on this machine: Ray processes exited"),
        ([OSError("AF_UNIX path length")], "could not be started on this machine: AF_UNIX"),
    ],
)
def test_a_slow_start_is_tried_again_and_then_told(monkeypatch, errors, said):
    import ray

    left, ports, waiting = [], [], list(errors)

    def init(**settings):
        assert settings["dashboard_host"] == "127.0.0.1"
        ports.append(settings["dashboard_port"])
        address = settings["runtime_env"]["env_vars"]["RAY_API_SERVER_ADDRESS"]
        assert address == f"http://127.0.0.1:{ports[-1]}"
        if waiting:
            left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
            raise waiting.pop(0)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    private = Path(tempfile.mkdtemp(dir="/tmp"))  # short: a socket's path has at most 107 characters
    settings = {"_temp_dir": str(private / "x"), "runtime_env": {"env_vars": {}}}
    if said is None:
        starting.start(quiet=True, dashboard=True, **settings)
    else:
        with pytest.raises(EngineError, match=rf"(?s){said}.*{private}/x/session_latest/logs"):
            starting.start(quiet=True, dashboard=True, **settings)
    assert waiting == [] and len(ports) == len(errors) + (said is None)
    assert len(set(ports)) == len(ports)
    for process in left:
        process.wait(10)  # what a failed attempt leaves is ended, or this raises
    private.rmdir()  # nothing is left in it, or this raises


def test_a_large_disk_may_be_fuller_than_a_small_one():
    assert cluster.full_at(50 * 10**9) == 0.95
    assert cluster.full_at(10**13) == pytest.approx(0.9995)  # 5 GB stay free
    assert cluster.full_at(0) == 0.95


def test_a_container_gets_the_places_and_the_store_of_its_share(monkeypatch):
    monkeypatch.setattr(cluster, "memory_bytes", lambda: 2**29)
    with pytest.raises(EngineError, match="not enough memory for Ray's object store: 400 MB asked, 307 MB usable"):
        cluster.object_store_bytes(400)
    one = cluster.Cluster("a:1", 1, {"CPU": 4.0}, None, True)
    monkeypatch.setattr(cluster, "cores", lambda: 2)
    assert str(one).startswith("Ray cluster a:1 (started here): 4 places for work on 2 core(s)")


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
