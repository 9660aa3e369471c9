"""The user interface as a real child process: it serves the runs, to this machine only, and ends with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from listeners import listeners, open_to_others
from posegen.errors import ConfigError
from posegen.tracking.store import ui
from posegen.tracking.store.mlflow_store import Tracker
from posegen.tracking.store.shown import experiment_name, ui_command
from posegen.tracking.store.ui import check_host, free_port, is_loopback, main


def test_only_this_machine_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.4", "example.org", ""))


def test_others_are_let_in_with_authentication_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        check_host("0.0.0.0", {})
    assert "MLFLOW_FLASK_SERVER_SECRET_KEY is not set" in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    secrets = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "k", "MLFLOW_AUTH_ADMIN_PASSWORD": "p"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="mlflow\\[auth\\] is not installed"):
        check_host("0.0.0.0", secrets)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert check_host("0.0.0.0", secrets) is True
    assert check_host("127.0.0.1", {}) is False


def test_a_taken_port_is_stepped_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = free_port("127.0.0.1", port)
        assert other != port and other > 0


@pytest.mark.parametrize("port", [-1, 65536, 99999999])
def test_a_number_that_is_no_port_is_told(port: int, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=f"{port} is no port"),
        ui.serve(f"sqlite:///{tmp_path}/x.db", tmp_path, port=port),
    ):
        pass


def test_without_runs_there_is_nothing_to_serve(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--outputs", str(tmp_path)]) == 2
    assert "next: posegen run" in capsys.readouterr().err
    assert main(["--outputs", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "authentication is not configured" in capsys.readouterr().err


def test_it_is_waited_for_as_long_as_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine MLflow takes minutes; a process that ends is told at once."""
    monkeypatch.setattr(ui, "EVERY_S", 0.3)
    port = free_port("127.0.0.1", 0)
    late = f"""
import http.server, time
time.sleep(1.5)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", {port}), Health).serve_forever()
"""
    words: list[str] = []
    child = subprocess.Popen([sys.executable, "-c", late])
    try:
        ui._wait_until_healthy(f"http://127.0.0.1:{port}", child, words.append)
    finally:
        child.kill()
        child.wait()
    assert len(words) >= 2 and "MLflow is starting, for " in words[0]
    gone = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(ui._NotUp, match="status 3"):
        ui._wait_until_healthy(f"http://127.0.0.1:{free_port('127.0.0.1', 0)}", gone, words.append)


def test_further_names_are_let_in_beside_this_machines_own_and_never_all() -> None:
    hosts = ui._hosts("127.0.0.1", 5001, ["gpu01, gpu02:80", "*.example.org"])
    assert {"127.0.0.1", "127.0.0.1:5001", "localhost:5001", "gpu01", "gpu01:5001", "gpu02:80"} <= set(hosts)
    assert "*.example.org:5001" in hosts
    for word in ("*", "*:5000x,*", "*.*"):
        with pytest.raises(ConfigError, match="every name would be let in"):
            ui._hosts("127.0.0.1", 5001, [word])


def test_the_command_that_a_run_prints_shows_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert ui_command("outputs") == "posegen ui"
    assert ui_command("/data/my runs") == "posegen ui --outputs '/data/my runs'"
    assert ui_command("outputs", "mine") == "posegen ui --experiment mine"
    assert ui_command("outputs", uri="http://t:5000") == "posegen ui --uri http://t:5000"
    assert "pw" not in ui_command("outputs", uri="postgresql://u:pw@h/db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team")
    assert experiment_name() == "team" and experiment_name("mine") == "mine"
    assert ui_command("outputs") == "posegen ui --experiment team"  # also where the variable was for the run alone
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert ui_command("outputs") == "posegen ui --uri http://server:5000 --experiment team"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:pw@server:5000")
    assert ui_command("outputs") == "posegen ui --experiment team"
    assert ui.parser().parse_args([]).experiment == "team"


@pytest.mark.parametrize("sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_it_serves_pictures_and_ends_without_leaving_a_process(tmp_path: Path, sign: signal.Signals) -> None:
    run = Tracker(tmp_path).run("shown")
    run.image(np.zeros((4, 4, 3), np.uint8), "gallery/one.png")
    # Shells start background jobs with Ctrl-C ignored, and the tests may run in one.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from posegen.tracking.store.ui import main; sys.exit(main(sys.argv[1:]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, "--outputs", str(tmp_path), "--allowed-hosts", "gpu01"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        url = child.stdout.readline().split()[-1].split("/#")[0]
        assert url.startswith("http://127.0.0.1:")
        picture = f"{url}/get-artifact?path=gallery%2Fone.png&run_uuid={run.id}"
        with urllib.request.urlopen(picture, timeout=20) as answer:
            assert answer.read(8) == b"\x89PNG\r\n\x1a\n"
        asked = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
        port = url.rpartition(":")[2]
        ours, rebound = (
            urllib.request.Request(asked, headers={"Host": name}) for name in (f"gpu01:{port}", "evil.org")
        )
        with urllib.request.urlopen(ours, timeout=20) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(rebound, timeout=20)
        servers = children_of(child.pid)
        assert servers
        found = listeners(servers)
        assert found and open_to_others(found) == []
        child.send_signal(sign)
        assert child.wait(60) == 0
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in servers) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(alive(pid) for pid in servers)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def children_of(parent: int) -> list[int]:
    """All processes below one, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, level = [], [parent]
    while level:
        level = [pid for pid, above in parents.items() if above in level]
        found += level
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
