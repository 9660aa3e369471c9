"""What is sent to a cluster and what is said when that fails; no cluster is needed."""

from __future__ import annotations

import json
import socket
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.job_submission import JobDetails

from posegen.engine import jobs
from posegen.engine.package import left_out, pack
from posegen.errors import ConfigError, EngineError


@contextmanager
def answering(body):
    """A server on loopback that answers all with some JSON, or 404 where there is none."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, size in {
        "platform/posegen/x.py": 10, "conf/config.yaml": 10, "jobs/experiment.py": 10, "jobs/fit_subject.py": 10,
        "platform/posegen/__pycache__/x.pyc": 10, "outputs/a/part.bin": 10, "tests/test_x.py": 10, ".env": 10,
        "cluster/compose/.env": 10, "cluster/compose/auth_token": 10, "keys/id.pem": 10, "ignored.dat": 10,
        "data/kept.txt": 10, "data/local.bin": 10, "mlflow.db": 10, ".git/HEAD": 10, "run.sh": 10,
    }.items():  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (root / ".gitignore").write_text("ignored.dat\n")
    (root / "data" / ".rayignore").write_text("*.bin\n")
    (root / "run.sh").chmod(0o755)
    return root


def test_the_package_has_code_and_no_results_caches_or_secrets(tree, tmp_path):
    package = pack(tree, tmp_path)
    assert set(package.files) == {
        ".gitignore", "data/.rayignore", "platform/posegen/x.py", "conf/config.yaml", "jobs/experiment.py",
        "jobs/fit_subject.py", "data/kept.txt", "run.sh",
    }  # fmt: skip
    with zipfile.ZipFile(package.archive) as archive:
        assert set(archive.namelist()) == set(package.files)
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o777 == 0o755
        assert archive.getinfo("jobs/experiment.py").external_attr >> 16 & 0o777 == 0o644


def test_the_same_files_make_the_same_bytes(tree, tmp_path):
    first = pack(tree, tmp_path).archive.read_bytes()
    (tree / "jobs" / "experiment.py").touch()
    assert pack(tree, tmp_path).archive.read_bytes() == first


def test_too_much_to_send_names_the_largest(tree, tmp_path):
    (tree / "data" / "video.mp4").write_bytes(b"0" * 3_000_000)
    with pytest.raises(
        EngineError, match=r"(?s)3\.0 MB to send, more than the limit of 2 MB.*3\.0 MB  data/video\.mp4"
    ):
        pack(tree, tmp_path, limit_mb=2)


def test_a_link_out_of_the_tree_is_not_followed(tree, tmp_path):
    (tree / "loop").symlink_to(tree)
    (tree / "gone").symlink_to(tree / "nowhere")
    assert not any(name.startswith(("loop", "gone")) for name in pack(tree, tmp_path).files)


def test_the_entrypoint_survives_the_shell(tree):
    line = jobs.entrypoint("run", ["a=1", "b=[1, 2]", "c='$(rm -rf x)'"], tree)
    import shlex

    assert shlex.split(line) == ["python", "jobs/experiment.py", "a=1", "b=[1, 2]", "c='$(rm -rf x)'"]
    assert jobs.entrypoint("fit-subject", [], tree) == "python jobs/fit_subject.py"
    with pytest.raises(ConfigError, match="did you mean 'run'") as refused:
        jobs.entrypoint("rum", [], tree)
    assert refused.value.choices == ["run", "fit-subject"]


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("head", "http://head:8265"), ("head:9000", "http://head:9000"), ("http://head:8265/", "http://head:8265"),
        ("https://ray.example", "https://ray.example"), ("http://[::1]:8265", "http://[::1]:8265"),
        ("https://ray.example/team", "https://ray.example/team"),
    ],
)  # fmt: skip
def test_addresses(typed, url):
    assert jobs.dashboard_url(typed) == url


def test_a_ray_client_address_is_explained():
    with pytest.raises(EngineError, match="dashboard's HTTP address, not to 'ray://head:10001'"):
        jobs.dashboard_url("ray://head:10001")


@pytest.mark.parametrize(
    "typed", ["http://head:82x5", "http://[::1", "http://head:99999", "head:0", "http://", "a b:1"]
)
def test_an_address_that_is_none_is_told(typed):
    with pytest.raises(EngineError, match=r"(?s)dashboard's HTTP address, not to .*http://HOST:8265"):
        jobs.dashboard_url(typed)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"two words", b"a\nb", b"x" * 5000])
def test_a_token_file_with_something_else_in_it_is_told(tmp_path, monkeypatch, content):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    (tmp_path / "token").write_bytes(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(EngineError, match="token file"):
        jobs.auth_token()


def test_the_users_own_modules_are_sent_whatever_they_are_called(tree, tmp_path):
    for name in ("my_est/core.py", "my_est/core.1/x.py", "my_est/outputs/x.py", "core.4711", "my_est/model.key"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    files = set(pack(tree, tmp_path).files)
    assert {"my_est/core.py", "my_est/core.1/x.py", "my_est/outputs/x.py"} <= files
    assert not {"core.4711", "my_est/model.key"} & files
    (tree / ".rayignore").write_text("!my_est/model.key\n")
    assert "my_est/model.key" in pack(tree, tmp_path).files


def test_a_later_rule_takes_back_what_an_earlier_one_left_out(tree, tmp_path):
    (tree / "weights").mkdir()
    for name in ("weights/spin.pt", "weights/other.pt", "data/mine.bin"):
        (tree / name).write_text("x")
    (tree / ".gitignore").write_text("*.pt\n!data/mine.bin\n!.env\nweights/\n")
    files = set(pack(tree, tmp_path).files)
    assert not {"weights/spin.pt", ".env", "data/mine.bin"} & files  # git does not decide on secrets, .rayignore wins
    (tree / ".rayignore").write_text("!/weights/spin.pt\n")
    (tree / "data" / ".rayignore").write_text("*.bin\n!mine.bin\n")
    files = set(pack(tree, tmp_path).files)
    assert {"weights/spin.pt", "data/mine.bin"} <= files
    assert not {"weights/other.pt", "data/local.bin"} & files


def test_files_that_settings_name_and_that_are_not_sent_are_told(tree):
    (tree / "weights").mkdir()
    (tree / "weights" / "spin.pt").write_text("x")
    (tree / ".gitignore").write_text("*.pt\n")
    words = ["estimator.checkpoint=weights/spin.pt"]
    with pytest.raises(EngineError, match=r"(?s)weights/spin.pt is on this machine and would not be sent.*checkpoint"):
        left_out(tree, words)
    with pytest.raises(EngineError, match="would not be sent"):
        jobs.submit("run", words, "http://127.0.0.1:1", tree)  # before any cluster is asked
    with pytest.raises(EngineError, match="would not be sent"):
        left_out(tree, ["mocap.path=../tree/weights/spin.pt"])
    (tree / ".rayignore").write_text("!weights/spin.pt\n")
    left_out(tree, [*words, "run.outputs=outputs/a", "run.name=outputs", "mocap.path=/data/x", "x=nowhere/y.pt"])
    left_out(tree, ["mocap.path=data/kept.txt", "mocap.path=platform/posegen"])


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    """Companies set http_proxy for everything; this one refuses all."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering({"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""}) as url:
        assert jobs.check_cluster(url, None) == ray.__version__
        jobs._client(url, None)  # Ray's own, with requests: it asks for the version, too
    assert "127.0.0.1" in jobs.os.environ["no_proxy"]


def test_the_token_comes_from_where_ray_takes_it(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    assert jobs.auth_token() is None
    own = tmp_path / "cache" / "ray" / "auth_token"
    own.parent.mkdir(parents=True)
    own.write_text("own\n")
    assert jobs.auth_token() == "own"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert jobs.auth_token() == "home"
    named = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    with pytest.raises(EngineError, match="token file does not exist"):
        jobs.auth_token()
    named.write_text("named")
    assert jobs.auth_token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert jobs.auth_token() == "given"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert jobs.auth_token() is None


def test_the_environment_of_a_job(monkeypatch):
    for name in list(jobs.os.environ):
        if name.startswith(("MLFLOW_", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "2")
    said: list[str] = []
    away = jobs.environment({"X": "1"}, "http://head:8265", said.append)
    assert away == {
        "PYTHONPATH": "platform", "RAY_USAGE_STATS_ENABLED": "0", "X": "1", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2",
    }  # fmt: skip
    assert "is a file of this machine" in said[0]
    here = jobs.environment({}, "http://127.0.0.1:8265", said.append)
    assert here["MLFLOW_TRACKING_URI"] == "sqlite:////tmp/mine.db"


def test_no_cluster_is_said_within_seconds():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with pytest.raises(EngineError, match="no Ray cluster answers"):
            jobs.check_cluster(f"http://127.0.0.1:{held.getsockname()[1]}", None)
        assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"ray_version": "2.9.3"}, r"the cluster runs Ray 2\.9\.3, this machine"),
        ({"hello": "world"}, "this is not a Ray dashboard"),
        (None, "this is not a Ray dashboard: HTTP 404"),
    ],
)
def test_another_version_or_another_server_is_said(body, message):
    with answering(body) as url, pytest.raises(EngineError, match=message):
        jobs.check_cluster(url, None)


def test_jobs_are_listed_newest_first_without_drivers_and_passwords(monkeypatch, capsys):
    def details(name, status, start_s, end_s, entrypoint, kind="SUBMISSION"):
        times = {"start_time": start_s * 1000, "end_time": end_s and end_s * 1000}
        return JobDetails(type=kind, submission_id=name, status=status, entrypoint=entrypoint, **times)

    found = [
        details(
            "raysubmit_old", "FAILED", 1_700_000_000, 1_700_000_090, "python jobs/sweep.py tracking.uri=http://a:b@c"
        ),
        details("raysubmit_new", "RUNNING", 1_700_000_100, None, "python jobs/experiment.py seed=1"),
        details(None, "RUNNING", 1_700_000_200, None, "", kind="DRIVER"),
    ]
    monkeypatch.setattr(jobs, "check_cluster", lambda url, token: "2")
    monkeypatch.setattr(jobs, "_client", lambda url, token: SimpleNamespace(list_jobs=lambda: found))
    assert jobs.main(["--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(job["id"], job["status"]) for job in listed] == [("raysubmit_new", "RUNNING"), ("raysubmit_old", "FAILED")]
    assert listed[1]["seconds"] == 90
    assert ":b@" not in listed[1]["entrypoint"]
    assert jobs.main(["--list"]) == 0
    new, old, hint = capsys.readouterr().out.splitlines()
    assert new.startswith("raysubmit_new") and new.endswith("python jobs/experiment.py seed=1")
    assert "1 min 30 s" in old
    assert "posegen submit --follow" in hint
    found.clear()
    assert jobs.main(["--list"]) == 0
    assert "no job was submitted" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        jobs.main(["run", "--json"])


def test_the_command_line_tells_a_usage_error(tree, capsys):
    assert jobs.main(["run", "--env", "NOT_SET_ANYWHERE", "--working-dir", str(tree)]) == 2
    assert "NOT_SET_ANYWHERE is not set" in capsys.readouterr().err


def test_this_repository_can_be_sent(tmp_path):
    package = pack(Path(__file__).parents[2], tmp_path)
    assert "conf/config.yaml" in package.files
    assert "platform/posegen/cli.py" in package.files
    for command in ("run", "generate", "finetune", "evaluate", "sweep", "fit-subject"):
        assert jobs.entrypoint(command, [], Path(__file__).parents[2]).split()[1] in package.files
    assert not [name for name in package.files if name.startswith(("tests/", "outputs/", ".venv/", ".git/"))]
