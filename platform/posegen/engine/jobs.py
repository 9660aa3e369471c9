"""Sends a command to a Ray cluster as a job, follows its log and says how to stop it.

The HTTP side of the cluster (the dashboard's port, 8265) is used, so the submitting machine needs no open Ray port.
The token is read as Ray reads it: RAY_AUTH_TOKEN, then RAY_AUTH_TOKEN_PATH, then ~/.ray/auth_token, then posegen's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shlex
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.config import compose
from posegen.engine.access_token import home_token, read_token, token_path
from posegen.engine.environment import harmless, refuse_passwords
from posegen.engine.package import DEFAULT_LIMIT_MB, left_out, pack
from posegen.errors import ConfigError, EngineError, PosegenError, closest
from posegen.files.secrets import has_password, is_secret_name, masked_text
from posegen.folders import conf_dir, jobs_dir, package_dir
from posegen.progress import duration
from posegen.proxies import open_url, spare_loopback

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
FILES = {"run": "experiment"}  # commands whose file in jobs/ is called otherwise
WITH_RESULTS = ("run", "generate", "finetune", "evaluate", "sweep")
_NOT_IN_HOSTS = set(" \t\r\n\"'<>\\^`{|},;@")
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A submitted job: where it is, how it stands, and the commands that follow, stop and describe it."""

    id: str
    status: str
    address: str
    message: str = ""

    @property
    def stop_command(self) -> str:
        return f"posegen submit --stop {self.id} --address {self.address}"

    @property
    def follow_command(self) -> str:
        return f"posegen submit --follow {self.id} --address {self.address}"


def auth_token() -> str | None:
    """The cluster's token, or None where authentication is switched off or no token is set."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named:
        return read_token(Path(named).expanduser(), f"RAY_AUTH_TOKEN_PATH={named}")
    path = home_token() or token_path()  # the last: of clusters that posegen starts itself
    return read_token(path) if path.is_file() else None


def dashboard_url(address: str | None) -> str:
    """The HTTP address of the cluster's dashboard, from what a user would type."""
    text = (address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS).strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
        scheme, name, port = parts.scheme, parts.hostname or "", parts.port
        bad = "" if name and not set(name) & _NOT_IN_HOSTS and port != 0 else "it names no host or port"
    except ValueError as error:  # "Port could not be cast", "Invalid IPv6 URL"
        scheme, bad = "http", str(error)
    if bad or scheme not in ("http", "https"):
        raise EngineError(
            f"jobs are sent to the dashboard's HTTP address, not to {text!r}" + (f" ({bad})" if bad else ""),
            where="--address" if address else "RAY_API_SERVER_ADDRESS",
            choices=["http://HOST:8265", "https://HOST"],
            next_command=f"posegen submit ... --address {DEFAULT_ADDRESS}",
        )
    port = port or (8265 if scheme == "http" else None)
    host = f"[{name}]" if ":" in name else name
    return f"{scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def check_cluster(url: str, token: str | None, timeout_s: float = 5.0) -> str:
    """The cluster's Ray version, after checking that it answers, lets us in, and runs our Ray. Raises EngineError."""
    import ray

    request = urllib.request.Request(f"{url}/api/version", headers=_headers(token))
    try:
        with open_url(request, timeout_s) as answer:
            version = str(json.load(answer)["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            said = "needs a token and none was sent" if token is None else "refused the token"
            raise EngineError(
                f"the cluster {said} (HTTP {error.code})",
                where=url,
                next_command="export RAY_AUTH_TOKEN_PATH=<the cluster's token file>, then submit again",
            ) from None
        raise EngineError(
            f"this is not a Ray dashboard: HTTP {error.code} for /api/version",
            where=url,
            next_command="pass --address http://HOST:8265 of the Ray head",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"this is not a Ray dashboard: {error!r}", where=url) from None
    except OSError as error:  # refused, unknown host, timed out
        reason = getattr(error, "reason", error)
        raise EngineError(
            f"no Ray cluster answers ({reason})",
            where=url,
            next_command="python cluster/local/cluster.py start, or a tunnel to the head: ray dashboard <ray-up file>",
        ) from None
    if version.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise EngineError(
            f"the cluster runs Ray {version}, this machine {ray.__version__}: jobs need the same major.minor version",
            where=url,
            next_command=f"pip install 'ray[default]=={version}' here, or rebuild the cluster's image",
        )
    return version


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """Ray lets RAY_ADDRESS override an explicit address; what the user typed is what counts here."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _client(url: str, token: str | None):
    from ray.job_submission import JobSubmissionClient

    spare_loopback()
    with _without(["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"]):
        return JobSubmissionClient(url, headers=_headers(token))


def entrypoint(command: str, overrides: Sequence[str], working_dir: Path) -> str:
    """The shell line that the cluster runs. Raises ConfigError with the jobs there are.

    Args:
        working_dir: a checkout; another folder has no jobs/ of its own, and the installed posegen's are meant.
    """
    name = FILES.get(command, command.replace("-", "_"))
    folder = working_dir / "jobs" if is_checkout(working_dir) else jobs_dir()
    jobs = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if name not in jobs:
        called = {file: command for command, file in FILES.items()}
        commands = [called.get(job, job.replace("_", "-")) for job in jobs]
        near = closest(command, commands)
        raise ConfigError(
            f"no job is called {command!r}" + (f"; did you mean {near!r}?" if near else ""),
            where=folder,
            choices=commands,
            next_command="posegen submit run experiment=... --address ...",
        )
    return shlex.join(["python", f"jobs/{name}.py", *overrides])


def is_checkout(folder: Path) -> bool:
    """Whether a folder has jobs of its own, as the repository's root has."""
    return (folder / "jobs").is_dir()


def installed_code() -> dict[str, Path]:
    """What of an installed posegen a job needs beside the working directory, at the places of a checkout."""
    return {"platform/posegen": package_dir(), "conf": conf_dir(), "jobs": jobs_dir()}


def environment(extra: Mapping[str, str], url: str, echo: Echo) -> dict[str, str]:
    """Environment variables of the job: what the code needs to run there, and no password that was not asked for."""
    passed = harmless(os.environ)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    away = urllib.parse.urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    if uri and "MLFLOW_TRACKING_URI" not in extra:
        if away and urllib.parse.urlsplit(uri).scheme in ("", "file", "sqlite"):
            echo(f"MLFLOW_TRACKING_URI={uri} is a file of this machine: not passed on, the cluster's own setting holds")
            del passed["MLFLOW_TRACKING_URI"]
        refuse_passwords({"MLFLOW_TRACKING_URI": uri})
    for name, value in extra.items():
        if is_secret_name(name) or has_password(value):
            echo(f"{name} is passed on as asked: everyone who may open the cluster's dashboard can read it")
    return {"PYTHONPATH": "platform", "RAY_USAGE_STATS_ENABLED": "0", **passed, **extra}


def submit(
    command: str,
    overrides: Sequence[str] = (),
    address: str | None = None,
    working_dir: Path | str = ".",
    env: Mapping[str, str] | None = None,
    follow: bool = True,
    limit_mb: float = DEFAULT_LIMIT_MB,
    echo: Echo = log.info,
) -> Job:
    """Runs `posegen <command> <overrides>` on a cluster.

    Args:
        command: a stage with a file in jobs/: run, generate, finetune, evaluate, sweep, ...
        overrides: key=value settings, as on the command line.
        address: HTTP address of the cluster's dashboard.
        working_dir: a checkout, whose code and configuration are packed and sent; or any folder, with which the
            installed posegen is sent.
        env: further environment variables of the job.
        follow: stream the log until the job ends; otherwise return at once.
        limit_mb: refuse to send more than this.
        echo: gets each line for the user.

    Raises:
        EngineError: no cluster, no right to enter it, another Ray version, or too much to send.
        ConfigError: no such job.
    """
    root = Path(working_dir).resolve()
    line = entrypoint(command, overrides, root)
    refuse_passwords({key: value for key, _, value in (word.partition("=") for word in overrides)})
    url, token = dashboard_url(address), auth_token()
    left_out(root, overrides)
    version = check_cluster(url, token)
    variables = environment(env or {}, url, echo)
    client = _client(url, token)
    with tempfile.TemporaryDirectory(prefix="posegen-submit-") as folder:
        beside = None if is_checkout(root) else installed_code()
        package = pack(root, Path(folder), limit_mb=limit_mb, beside=beside)
        echo(f"sending {len(package.files)} files, {package.size_mb:.1f} MB, to {url} (Ray {version})")
        job_id = client.submit_job(
            entrypoint=line, runtime_env={"working_dir": str(package.archive), "env_vars": variables}
        )
    job = Job(job_id, "PENDING", url)
    echo(f"job {job_id}: {line}")
    if command in WITH_RESULTS and not any(word.startswith("run.outputs=") for word in overrides):
        echo("no run.outputs=... is given: the results go into the job's own folder, which Ray removes some time later")
    echo(f"stop it with: {job.stop_command}")
    if not follow:
        echo(f"follow it with: {job.follow_command}")
        return _described(client, job)
    return follow_job(job_id, url, echo)


def _described(client: Any, job: Job) -> Job:
    info = client.get_job_info(job.id)
    return Job(job.id, str(getattr(info.status, "value", info.status)), job.address, info.message or "")


def follow_job(job_id: str, address: str | None, echo: Echo = log.info, patience_s: float = 60.0) -> Job:
    """Streams a job's log until it ends; a broken connection is taken up where it broke. Ctrl-C leaves the job be."""
    url, token = dashboard_url(address), auth_token()
    check_cluster(url, token)
    client = _client(url, token)
    job = _known(client, Job(job_id, "PENDING", url))
    seen = 0  # characters shown, to take up a broken stream
    last_contact = time.monotonic()
    try:
        while True:
            try:
                seen = asyncio.run(_tail(client, job_id, seen, echo))
                job = _described(client, job)
                last_contact = time.monotonic()
                if job.status in TERMINAL:
                    break
            except (OSError, RuntimeError) as error:
                if time.monotonic() - last_contact > patience_s:
                    raise EngineError(
                        f"the cluster has not answered for {patience_s:.0f} s ({error})",
                        where=url,
                        next_command=job.follow_command,
                    ) from error
            time.sleep(0.5)
    except KeyboardInterrupt:
        echo(f"\nno longer following; the job goes on. Stop it with: {job.stop_command}")
        return _described(client, job)
    reason = job.message.split(", last available logs")[0]  # the log has been shown already
    echo(f"job {job.id}: {job.status}" + (f": {reason}" if job.status == "FAILED" else ""))
    return job


async def _tail(client: Any, job_id: str, skip: int, echo: Echo) -> int:
    """Shows whole lines after the first `skip` characters; returns the characters shown in all."""
    position, pending = 0, ""
    async for chunk in client.tail_job_logs(job_id):
        start = max(skip - position, 0)
        position += len(chunk)
        *lines, pending = (pending + chunk[start:]).split("\n")
        for text in lines:
            echo(text)
    if pending:
        echo(pending)
    return max(position, skip)


def _known(client: Any, job: Job) -> Job:
    try:
        return _described(client, job)
    except RuntimeError:
        ids = [info.submission_id for info in client.list_jobs() if info.submission_id]
        raise EngineError(
            f"no job is called {job.id!r} on this cluster", where=job.address, choices=ids[-10:]
        ) from None


def job_status(job_id: str, address: str | None, echo: Echo = log.info) -> Job:
    """How a job stands, and what can be done with it."""
    url, token = dashboard_url(address), auth_token()
    check_cluster(url, token)
    job = _known(_client(url, token), Job(job_id, "PENDING", url))
    reason = job.message.split(", last available logs")[0]
    echo(f"job {job.id}: {job.status}" + (f": {reason}" if reason else ""))
    if job.status not in TERMINAL:
        echo(f"stop it with: {job.stop_command}")
    echo(f"its log: {job.follow_command}")
    return job


def stop_job(job_id: str, address: str | None, echo: Echo = log.info, wait_s: float = 20.0) -> Job:
    """Asks a job to end, and waits until it has."""
    url, token = dashboard_url(address), auth_token()
    check_cluster(url, token)
    client = _client(url, token)
    job = _known(client, Job(job_id, "RUNNING", url))
    if job.status not in TERMINAL:
        client.stop_job(job_id)
    deadline = time.monotonic() + wait_s
    while job.status not in TERMINAL and time.monotonic() < deadline:
        time.sleep(0.3)
        job = _described(client, job)
    echo(f"job {job.id}: {job.status}")
    return job


def list_jobs(address: str | None, as_json: bool = False, echo: Echo = log.info) -> list[dict[str, Any]]:
    """The cluster's submitted jobs, newest first: id, status, start (s since 1970), seconds it ran, command line."""
    url, token = dashboard_url(address), auth_token()
    check_cluster(url, token)
    found = sorted(_client(url, token).list_jobs(), key=lambda info: info.start_time or 0, reverse=True)
    jobs: list[dict[str, Any]] = [
        {
            "id": info.submission_id,
            "status": str(getattr(info.status, "value", info.status)),
            "started": (info.start_time or 0) / 1000,
            "seconds": max((info.end_time or time.time() * 1000) - (info.start_time or 0), 0) / 1000,
            "entrypoint": masked_text(info.entrypoint),
        }
        for info in found
        if info.submission_id  # the others are drivers that connected by themselves
    ]
    if as_json:
        echo(json.dumps(jobs, indent=1))
        return jobs
    for job in jobs:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job["started"]))
        echo(f"{job['id']:<30} {job['status']:<10} {began}  {duration(job['seconds']):>12}  {job['entrypoint']}")
    if not jobs:
        echo(f"no job was submitted to {url}")
    elif any(job["status"] not in TERMINAL for job in jobs):
        echo(f"follow one: posegen submit --follow JOB --address {url}")
    return jobs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="posegen submit",
        description="Run a posegen command on a Ray cluster: posegen submit run experiment=smoke --address http://127.0.0.1:8265",
    )
    parser.add_argument("command", nargs="?", help="run, generate, finetune, evaluate, sweep: a file in jobs/")
    parser.add_argument("overrides", nargs="*", help="key=value settings of the command")
    parser.add_argument("--address", help=f"HTTP address of the Ray dashboard (default {DEFAULT_ADDRESS})")
    parser.add_argument("--working-dir", default=".", help="folder to send: a checkout, or your files (default: here)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="pass a variable to the job")
    parser.add_argument("--limit-mb", type=float, default=DEFAULT_LIMIT_MB, help="refuse to send more than this")
    parser.add_argument("--no-follow", action="store_true", help="return at once instead of streaming the log")
    parser.add_argument("--follow", metavar="JOB", help="stream the log of a job submitted earlier")
    parser.add_argument("--status", metavar="JOB", help="say how a job stands")
    parser.add_argument("--stop", metavar="JOB", help="stop a job")
    parser.add_argument("--list", action="store_true", help="say which jobs there are, newest first")
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    return parser


def _env_pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals and name not in os.environ:
            raise ConfigError(f"{name} is not set in this environment", where="--env", choices=["NAME=VALUE"])
        pairs[name] = value if equals else os.environ[name]
    return pairs


def _stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    """The command line behind `posegen submit`. Returns 0 when the job succeeded, or was left running."""
    parser = _parser()
    given = parser.parse_intermixed_args(list(argv))
    try:
        if given.json and not given.list:
            parser.error("--json goes with --list")
        if given.list:
            list_jobs(given.address, given.json, _stdout)
            return 0
        if given.status:
            job = job_status(given.status, given.address, _stdout)
            return 1 if job.status in ("FAILED", "STOPPED") else 0
        if given.stop:
            return 0 if stop_job(given.stop, given.address, _stdout).status in TERMINAL else 1
        if given.follow:
            job = follow_job(given.follow, given.address, _stdout)
        elif given.command is None:
            parser.error("say what to run, as in: posegen submit run experiment=smoke")
        else:
            if given.command in ("run", "generate", "finetune"):
                compose(given.overrides)  # a mistyped key is told here and not on the cluster
            job = submit(
                given.command, given.overrides, given.address, given.working_dir, _env_pairs(given.env),
                follow=not given.no_follow, limit_mb=given.limit_mb, echo=_stdout,
            )  # fmt: skip
    except PosegenError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 1 if job.status in ("FAILED", "STOPPED") else 0
