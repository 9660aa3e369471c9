"""A PostgreSQL of its own for a test: Debian's, on a port of loopback, with a password, never as root."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = "apt-get install --no-install-recommends postgresql"


class NoPostgresError(RuntimeError):
    """There is no PostgreSQL here."""


def program(name: str) -> str:
    """A program of PostgreSQL. NoPostgresError says how to get it."""
    places = [shutil.which(name), *sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)]
    found = next((str(place) for place in places if place is not None), None)
    if found is None:
        raise NoPostgresError(f"{name} is not installed: {NEEDED}")
    return found


@dataclass
class Postgres:
    """A database server that can be stopped and started."""

    data: Path
    port: int
    password: str
    user: str | None  # of the operating system, who runs it

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://posegen:{self.password}@127.0.0.1:{self.port}/postgres"

    def _run(self, *command: str) -> None:
        output = subprocess.run(
            command, check=False, user=self.user, cwd=self.data.parent, capture_output=True, text=True
        )
        if output.returncode:
            raise RuntimeError(f"{command[0]}: {output.stdout}{output.stderr}")

    def make(self) -> None:
        secret = self.data.parent / "password"
        secret.write_text(self.password)
        if self.user is not None:
            shutil.chown(secret, self.user)
        self._run(
            program("initdb"), "--no-sync", "--auth", "scram-sha-256", "--username", "posegen", "--pwfile", str(secret),
            "--encoding", "UTF8", "--locale", "C", str(self.data),
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"fsync = off\nport = {self.port}\nlisten_addresses = '127.0.0.1'\n")
            file.write(f"unix_socket_directories = '{self.data}'\n")

    def start(self) -> None:
        log = self.data / "log"
        # Its output must not hold the test's pipes open.
        command = [program("pg_ctl"), "--wait", "--pgdata", str(self.data), "--log", str(log), "start"]
        subprocess.run(command, user=self.user, cwd=self.data.parent, stdout=subprocess.DEVNULL, check=True)

    def stop(self) -> None:
        self._run(program("pg_ctl"), "--wait", "--pgdata", str(self.data), "--mode", "immediate", "stop")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with an empty database; all of it is gone afterwards."""
    user = "postgres" if os.geteuid() == 0 else None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="posegen-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    server = Postgres(folder / "data", port, secrets.token_hex(8), user)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").is_file():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
