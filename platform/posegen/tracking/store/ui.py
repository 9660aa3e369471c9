"""`posegen ui`: MLflow's pages over the store of the runs, on this machine only unless there is authentication."""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import quote

from posegen.errors import ConfigError, PosegenError
from posegen.files.secrets import masked_text
from posegen.proxies import open_url, spare_loopback
from posegen.tracking.store.mlflow_store import Tracker, TrackingError, quiet_environment, store_uri
from posegen.tracking.store.shown import experiment_name

_SECRETS = ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD")
EVERY_S = 10.0  # between words while MLflow starts
Say = Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """A user interface that answers."""

    url: str
    process: subprocess.Popen[bytes]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. Unknown names count as reachable from outside."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to start with authentication; refuses to open the store to others without it.

    Raises:
        ConfigError: the host is reachable from outside and basic authentication is not configured.
    """
    if is_loopback(host):
        return False
    missing = [name for name in _SECRETS if not environment.get(name)]
    installed = importlib.util.find_spec("flask_wtf") is not None
    if missing or not installed:
        lacks = ["mlflow[auth] is not installed"] * (not installed) + [f"{name} is not set" for name in missing]
        raise ConfigError(
            f"{host} can be reached from other machines and authentication is not configured: {'; '.join(lacks)}",
            where="posegen ui --host",
            choices=["127.0.0.1", "localhost"],
            next_command="pip install 'mlflow[auth]' && export " + " ".join(f"{name}=..." for name in _SECRETS),
        )
    return True


def free_port(host: str, wished: int) -> int:
    """The wished port where it is free, else any that is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wished, 0):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError(f"cannot listen on {host}", where="posegen ui --host", choices=["127.0.0.1"])


def _quiet(line: str) -> None:
    del line


@contextmanager
def serve(
    uri: str,
    outputs: Path,
    host: str = "127.0.0.1",
    port: int = 5000,
    allowed_hosts: Sequence[str] = (),
    say: Say = _quiet,
) -> Iterator[Server]:
    """The user interface as a child process; it and its workers are ended on the way out, whatever happens.

    Args:
        allowed_hosts: names, with or without port, under which browsers reach it, beside this machine's own.
        say: is given a line every ten seconds while it starts.

    Raises:
        TrackingError: it did not come up; with the last lines it wrote.
    """
    if not 0 <= port < 65536:
        raise ConfigError(f"{port} is no port: a number between 0 and 65535", where="posegen ui --port")
    authenticated = check_host(host)
    port = free_port(host, port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--app-name", "basic-auth"] if authenticated else []
    command += ["--allowed-hosts", ",".join(_hosts(host, port, allowed_hosts))] if allowed_hosts else []
    environment = {**os.environ, **quiet_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # may hold a password: everybody can read a process' arguments
    environment.pop("MLFLOW_TRACKING_URI", None)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with tempfile.TemporaryFile() as output:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the server and its workers in order.
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=outputs, start_new_session=True
        )
        try:
            _wait_until_healthy(url, process, say)
            yield Server(url, process)
        except _NotUp as reason:
            output.seek(0)
            tail = output.read().decode(errors="replace").strip().splitlines()[-8:]
            raise TrackingError(
                f"the user interface did not start: {reason}", where=masked_text("\n    ".join([uri, *tail]))
            ) from None
        finally:
            stop(process)


def _hosts(host: str, port: int, more: Sequence[str]) -> list[str]:
    """What MLflow may find in a request's Host line; all others could be pages that rebind their name to this address.

    Raises:
        ConfigError: a wildcard for all names, which takes this protection away.
    """
    names = [name.strip() for word in more for name in word.split(",") if name.strip()]
    if any(not name.strip("*.:") for name in names):
        raise ConfigError(
            "every name would be let in, also that of a page that has rebound its own to this machine",
            where="posegen ui --allowed-hosts",
            choices=["NAME", "NAME:PORT", "*.example.org"],
        )
    own = [f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1", "[::1]"]
    each = [*own, *(name for name in names)]
    return list(dict.fromkeys(text for name in each for text in (name, f"{name}:{port}")))


class _NotUp(Exception):
    """The server ended, or did not answer in time."""


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], say: Say) -> None:
    """For as long as the process lives: MLflow's first start takes minutes on a busy machine."""
    began = time.monotonic()
    next_word = began + EVERY_S
    while True:
        if process.poll() is not None:
            raise _NotUp(f"it ended with status {process.returncode}")
        try:
            with open_url(f"{url}/health", 2) as answer:
                if answer.status == 200:
                    return
        except (http.client.HTTPException, OSError):
            now = time.monotonic()
            if now >= next_word:
                say(f"MLflow is starting, for {now - began:.0f} s now (Ctrl-C ends it)")
                next_word = now + EVERY_S
            time.sleep(0.2)


def stop(process: subprocess.Popen[bytes], patience_s: float = 8.0) -> None:
    """Ends a child and all of its own children: asked first, then made to."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
    process.wait()


def pages(url: str, tracker: Tracker) -> list[tuple[str, str]]:
    """Links worth opening: all runs, the last experiment, its arms compared."""
    base = url.rstrip("/")
    # Without the query the pages open on chat traces, which there are none of.
    view = "?workflowType=machine_learning"
    links = [("all runs", f"{base}/#/experiments/{tracker.experiment_id}/runs{view}")]
    found = tracker.client.search_runs(
        [tracker.experiment_id],
        "tags.`posegen.kind` = 'experiment'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not found:
        return links
    last = tracker.attach(found[0].info.run_id)
    links.append(
        (f"last run, {found[0].info.run_name}", f"{base}/#/experiments/{tracker.experiment_id}/runs/{last.id}{view}")
    )
    arms = [child.id for child in tracker.children(last) if "/arm/" in child.key]
    if len(arms) > 1:
        runs, experiments = (quote(json.dumps(ids, separators=(",", ":"))) for ids in (arms, [tracker.experiment_id]))
        links.append(("its arms compared", f"{base}/#/compare-runs?runs={runs}&experiments={experiments}&{view[1:]}"))
    return links


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="posegen ui", description="Opens MLflow over the runs. Ctrl-C ends it.")
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    made.add_argument("--host", default="127.0.0.1", help="others than this machine's own need authentication")
    made.add_argument(
        "--allowed-hosts", action="append", default=[], metavar="NAME", help="further names by which browsers reach it"
    )
    made.add_argument(
        "--experiment", default=experiment_name(),
        help="of MLflow (default: MLFLOW_EXPERIMENT_NAME, else posegen)",
    )  # fmt: skip
    made.add_argument("--uri", help="another MLflow store (default: MLFLOW_TRACKING_URI, else that of the outputs)")
    made.add_argument("--port", type=int, default=5000, help="taken if it is free, else another (default: 5000)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C or a termination signal. The exit status: 0, or 2 with the reason on standard error."""
    options = parser().parse_args(argv)
    uri = options.uri or store_uri(options.outputs)
    spare_loopback()
    try:
        check_host(options.host)
        if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
            raise ConfigError("there is no run to show yet", where=masked_text(uri), next_command="posegen run")
        tracker = Tracker(options.outputs, options.experiment, options.uri)
        if uri.startswith(("http://", "https://")):  # a server is there already
            _say(pages(uri, tracker))
            return 0
        with (
            _interrupted_by(signal.SIGTERM),
            serve(uri, options.outputs, options.host, options.port, options.allowed_hosts, _progress) as server,
        ):
            _say([*pages(server.url, tracker), ("to end", "Ctrl-C")])
            server.process.wait()
    except KeyboardInterrupt:
        return 0
    except PosegenError as error:
        sys.stderr.write(f"posegen ui: {masked_text(str(error))}\n")
        return 2
    sys.stderr.write(f"posegen ui: the server ended by itself with status {server.process.returncode}\n")
    return 1


def _progress(line: str) -> None:
    sys.stderr.write(f"posegen ui: {line}\n")
    sys.stderr.flush()


def _say(lines: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    sys.stdout.write("".join(f"{name.ljust(width)}  {text}\n" for name, text in lines))
    sys.stdout.flush()


@contextmanager
def _interrupted_by(sign: signal.Signals) -> Iterator[None]:
    """Treats another signal as Ctrl-C, so that the child is ended then, too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(sign, interrupt)
    try:
        yield
    finally:
        signal.signal(sign, before)
