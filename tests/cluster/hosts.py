"""Several hosts on one machine: network namespaces with their own address, home, /tmp, /dev/shm and processes.

A host dies whole when its first process is killed. Nothing of the machine's own network is touched: the switch between
the hosts is a namespace too, and no packet leaves it. Needs Linux, root, iproute2 (ip) and util-linux (unshare,
nsenter, setpriv).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from chaos.processes import wait_for

TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount")
HEAD = "10.77.0.1"
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent  # not resolved: the virtual environment's own

# Every host has a folder of its own at /mnt/host, whose parts lie over the machine's. Debian's installer gives a host
# the address 127.0.1.1 in its own /etc/hosts: whoever asks for the address of the host's name gets loopback.
INIT = """
set -e
mount --make-rprivate /
mount --bind {folder} /mnt
mkdir -p /mnt/home /mnt/tmp /mnt/shared
mount -t tmpfs -o size=1500m posegen /dev/shm
hostname {name}
printf '127.0.0.1 localhost\\n127.0.1.1 {name}\\n' > /mnt/hosts
: > /mnt/resolv.conf
mount --bind /mnt/hosts /etc/hosts
mount --bind /mnt/resolv.conf /etc/resolv.conf
[ -z "{shared}" ] || mount --bind {shared} /mnt/shared
mount --bind /mnt/tmp /tmp
while :; do sleep 1000 & wait; done
"""


def missing() -> list[str]:
    """What this machine lacks for it."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    hidden = [path for path in (ROOT, BIN) if path.parts[1] in ("tmp", "mnt")]
    return lacking + [f"{path} outside /tmp and /mnt" for path in hidden] + ([] if os.geteuid() == 0 else ["root"])


class Host:
    """One host: `run` and `start` put processes on it."""

    def __init__(self, number: int, folder: Path, namespace: str, shared: Path | None) -> None:
        self.name, self.address, self.namespace = f"host{number}", f"10.77.0.{number}", namespace
        self.folder = folder / self.name  # what is /mnt on the host
        self.folder.mkdir(parents=True)
        script = INIT.format(folder=self.folder, name=self.name, shared=shared or "")
        line = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", namespace]  # ends with the tests, however
        line += ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        with open(folder / f"{self.name}.log", "w") as log:
            self.init = subprocess.Popen(
                [*line, "--mount-proc", "sh", "-c", script], stdout=log, stderr=log, start_new_session=True
            )
        self.processes: list[subprocess.Popen] = []

    def first_process(self) -> int:
        """The id, on the machine, of the host's process 1."""
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        return int(children[0])

    def up(self) -> bool:
        return self.init.poll() is None and (self.folder / "resolv.conf").is_file()

    def line(self, words: Sequence[str], variables: dict[str, str]) -> list[str]:
        own = {"HOME": "/mnt/home", "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        settings = [f"{key}={value}" for key, value in (own | variables).items()]
        inside = ["nsenter", "--target", str(self.first_process()), "--mount", "--uts", "--net", "--pid"]
        return [*inside, "env", "-i", *settings, *words]

    def start(self, words: Sequence[str], log: str, **variables: str) -> subprocess.Popen:
        """A process on the host; what it says goes to the file `log`."""
        with open(self.folder / log, "w") as out:
            process = subprocess.Popen(
                self.line(words, variables), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                cwd="/", start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, words: Sequence[str], timeout: float = 120, cwd: Path | str = "/", **variables: str):
        """A process on the host, waited for: (exit status, what it said)."""
        words = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *words]
        done = subprocess.run(
            self.line(words, variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, timeout=timeout, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def die(self) -> None:
        """As if its power were cut: every process on it is killed."""
        if self.init.poll() is None:
            try:
                os.kill(self.first_process(), signal.SIGKILL)
            except (IndexError, ProcessLookupError, FileNotFoundError):
                self.init.kill()
        self.init.wait(timeout=20)
        for process in self.processes:
            process.wait(timeout=20)


class Hosts:
    """Hosts 1 to `count` and the switch between them.

    Args:
        folder: for what is the hosts' own.
        count: of hosts.
        shared: a folder that all of them see at /mnt/shared; None: each has its own there.
    """

    def __init__(self, folder: Path, count: int, shared: Path | None = None) -> None:
        self.folder, self.count, self.shared = folder, count, shared
        self.prefix = f"pg{os.getpid()}"
        self.hosts: list[Host] = []

    def __getitem__(self, number: int) -> Host:
        return self.hosts[number - 1]

    def __enter__(self) -> Hosts:
        switch = f"{self.prefix}-0"
        try:
            _ip(f"netns add {switch}")
            _ip(f"-n {switch} link add bridge type bridge")
            _ip(f"-n {switch} link set bridge up")
            for number in range(1, self.count + 1):
                name = f"{self.prefix}-{number}"
                _ip(f"netns add {name}")
                _ip(f"-n {name} link set lo up")
                _ip(f"-n {name} link add net0 type veth peer name port{number} netns {switch}")
                _ip(f"-n {switch} link set port{number} master bridge up")
                _ip(f"-n {name} address add 10.77.0.{number}/24 dev net0")
                _ip(f"-n {name} link set net0 up")
                _ip(f"-n {name} route add default via 10.77.0.254")  # nobody is there
                self.hosts.append(Host(number, self.folder, name, self.shared))
            wait_for(lambda: all(host.up() for host in self.hosts), 30, "hosts to be up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.die()
        for number in range(self.count + 1):
            subprocess.run(["ip", "netns", "delete", f"{self.prefix}-{number}"], check=False, capture_output=True)


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def start_ray(host: Host, token: str, **options: str | int) -> subprocess.Popen:
    """A node of a Ray cluster as on KubeRay: a head offers no CPU, and its dashboard answers other hosts."""
    line = ["ray", "start", "--block", "--disable-usage-stats", f"--node-ip-address={host.address}"]
    if host.address == HEAD:
        line += ["--head", "--port=6379", "--num-cpus=0", "--dashboard-host=0.0.0.0"]
    else:
        line += [f"--address={HEAD}:6379"]
    line += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return host.start(
        line, "ray.log", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token, RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1",
    )  # fmt: skip
