"""A Ray cluster of several raylets on one machine, for trying and for tests.

    python cluster/local/cluster.py start --nodes 2 --cpus 1
    python cluster/local/cluster.py status
    python cluster/local/cluster.py stop

Every port is bound to 127.0.0.1 and every call needs the token in STATE/auth_token (mode 600). Ray's own files are in a
folder of mode 700 under the temporary folder (or RAY_TMPDIR).
`stop` ends the processes that `start` began, by their ids, and no other Ray on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from posegen.engine.private_folder import ray_folder, short_name
from posegen.errors import PosegenError
from posegen.proxies import open_url, spare_loopback

STATE = Path(os.environ.get("POSEGEN_LOCAL_CLUSTER", Path.home() / ".cache" / "posegen" / "local-cluster"))
PORTS_A_NODE = 200  # 100 for workers, then those of the node's own services
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": Ray binds its ports to 127.0.0.1 only, see join.py
SERVICES = (
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
)


class ClusterError(SystemExit):
    """Told on standard error, exit status 1."""


def write_token(state: Path) -> Path:
    """A fresh token that only this user can read."""
    path = state / "auth_token"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(32))
    return path


def node_environment(token: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_API_SERVER_ADDRESS")}
    spare_loopback(kept)
    return kept | {
        # jobs run `python`: the one that runs this script, whether or not its environment is activated
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        LOOPBACK: "0",
    }


def ray_start(given: argparse.Namespace, node: int) -> list[str]:
    """The `ray start` line of one node; node 0 is the head. Each node has its own range of ports."""
    first = given.worker_ports + PORTS_A_NODE * node
    here = Path(__file__).parent
    ray = [sys.executable, str(here / "join.py")] if node else [str(Path(sys.executable).with_name("ray"))]
    line = [
        *ray, "start", "--block", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", f"--num-cpus={given.cpus}", f"--num-gpus={given.gpus if node else 0}",
        f"--object-store-memory={given.object_store_mb * 1_000_000}",
        f"--min-worker-port={first}", f"--max-worker-port={first + 99}",
        # Each its own: in one folder a second node would unpack a job's code again while the job imports it.
        # Not in STATE: the paths of sockets must be short, whatever the length of one's home.
        f"--temp-dir={ray_folder(f'{short_name(given.state)}-{node}')}",
    ]  # fmt: skip
    line += [
        f"--{name}={first + 100 + index}" for index, name in enumerate(SERVICES) if node == 0 or "client" not in name
    ]
    if given.resources:
        line.append(f"--resources={given.resources}")
    if node > 0:
        return [*line, f"--address=127.0.0.1:{given.port}"]
    return [
        *line, "--head", f"--port={given.port}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={given.dashboard_port}",
    ]  # fmt: skip


def check_free(ports: list[int]) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise ClusterError(
                    f"port {port} is taken; stop what uses it, or choose --port, --dashboard-port, --worker-ports"
                ) from None


def nodes_alive(dashboard_port: int, token: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{dashboard_port}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with open_url(request, 5) as answer:
            summary = json.load(answer)["data"]["summary"]
    except (OSError, ValueError, KeyError):
        return 0
    return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in summary)


def remember(state: Path, processes: list[subprocess.Popen]) -> None:
    """Pid and start time of each process: a pid that was given to another process later is not ours."""
    rows = [{"pid": p.pid, "started": psutil.Process(p.pid).create_time()} for p in processes]
    (state / "processes.json").write_text(json.dumps(rows))


def remembered(state: Path) -> list[psutil.Process]:
    path = state / "processes.json"
    found = []
    for row in json.loads(path.read_text()) if path.exists() else []:
        try:
            process = psutil.Process(row["pid"])
            if process.create_time() == row["started"]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def start(given: argparse.Namespace) -> None:
    given.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    given.state.chmod(0o700)
    if remembered(given.state):
        raise ClusterError(f"a cluster of {given.state} is running; stop it with: {again('stop', given)}")
    check_free([given.port, given.dashboard_port, *(given.worker_ports + PORTS_A_NODE * n for n in range(given.nodes))])
    token = write_token(given.state)
    processes: list[subprocess.Popen] = []
    deadline = time.monotonic() + given.timeout
    try:
        for node in range(given.nodes):
            with (given.state / f"node-{node}.log").open("w") as output:
                processes.append(
                    subprocess.Popen(
                        ray_start(given, node), env=node_environment(token), stdout=output, stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL, start_new_session=True,
                    )
                )  # fmt: skip
            remember(given.state, processes)
            if node == 0 or node == given.nodes - 1:  # workers join a head that answers, and then all at once
                await_nodes(given, processes, token.read_text(), node + 1, deadline)
    except BaseException:
        stop(given)
        raise
    sys.stdout.write(
        f"{given.nodes} nodes are up, dashboard http://127.0.0.1:{given.dashboard_port}\n"
        f"  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token} {LOOPBACK}=0\n"
        f"  posegen submit run experiment=smoke --address http://127.0.0.1:{given.dashboard_port}\n"
        f"  {again('stop', given)}\n"
    )


def await_nodes(given: argparse.Namespace, processes: list, token: str, count: int, deadline: float) -> None:
    while nodes_alive(given.dashboard_port, token) < count:
        for index, process in enumerate(processes):
            if process.poll() is not None:
                output = (given.state / f"node-{index}.log").read_text()[-2000:]
                raise ClusterError(f"node {index} ended with status {process.returncode}:\n{output}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{count} nodes were not up in {given.timeout} s; see {given.state}/node-*.log")
        time.sleep(0.3)


def stop(given: argparse.Namespace) -> None:
    """Ends the started processes and all their descendants: first politely, after 10 s not."""
    roots = remembered(given.state)
    family = set(roots)
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            family.update(root.children(recursive=True))
    send(signal.SIGTERM, list(reversed(roots)))  # workers before the head
    _, alive = psutil.wait_procs(family, timeout=10)
    send(signal.SIGKILL, alive)
    psutil.wait_procs(alive, timeout=5)
    for name in ("processes.json", "auth_token"):
        (given.state / name).unlink(missing_ok=True)
    sys.stdout.write(f"stopped {len(family)} processes\n" if family else "nothing to stop\n")


def send(sign: signal.Signals, processes: list[psutil.Process]) -> None:
    """To those that still live: any of them may end by itself at any time, as its parent does."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(sign)


def status(given: argparse.Namespace) -> None:
    token = given.state / "auth_token"
    alive = nodes_alive(given.dashboard_port, token.read_text()) if token.exists() else 0
    sys.stdout.write(f"{alive} nodes alive, {len(remembered(given.state))} started by this script\n")
    if not alive:
        raise ClusterError(f"not running; start it with: {again('start', given)}")


def again(action: str, given: argparse.Namespace) -> str:
    return f"python cluster/local/cluster.py {action}" + ("" if given.state == STATE else f" --state {given.state}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["start", "status", "stop"])
    parser.add_argument("--nodes", type=int, default=2, help="raylets, the head among them")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs that each node offers")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that each node but the head offers")
    parser.add_argument("--resources", default="", help="further resources of each node, as JSON")
    parser.add_argument("--object-store-mb", type=int, default=256, help="object store of each node")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--dashboard-port", type=int, default=8265)
    parser.add_argument("--worker-ports", type=int, default=21000, help=f"first of {PORTS_A_NODE} ports a node")
    parser.add_argument("--state", type=Path, default=STATE, help="where the token, pids and logs are kept")
    parser.add_argument("--timeout", type=float, default=120, help="seconds to wait for the nodes")
    given = parser.parse_args()
    given.state = given.state.resolve()
    try:
        {"start": start, "status": status, "stop": stop}[given.action](given)
    except PosegenError as error:
        raise ClusterError(str(error)) from None


if __name__ == "__main__":
    main()
