"""Connecting to Ray: a cluster started here for this run, or one that is there already.

Nothing here waits in silence: an address without a cluster, another Ray version, a missing token, too little shared
memory or too few resources are errors within seconds, with what was asked and what there is.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.assets import MAKE_ASSETS
from posegen.engine.environment import passed_to_workers
from posegen.engine.probe import check_alive, find_address
from posegen.engine.resources import describe
from posegen.errors import EngineError

logger = logging.getLogger(__name__)

MB = 2**20
# Logical CPUs of a local cluster are never fewer: rendering, training and reading each hold one, and on two cores
# they take turns. With as many logical as physical CPUs a stage could wait for one that its consumer holds.
MIN_LOCAL_CPUS = 4
MIN_OBJECT_STORE_MB = 100
DEFAULT_OBJECT_STORE_MB = 1024

# Set before Ray is imported, unless the user chose otherwise.
_DEFAULT_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",  # Ray's 60 s make every recovery a minute long
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # also how often a report is taken, see worker.ReportClock
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a configuration mean the same in a worker
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_task_oom_retries": "3",  # Ray would run a task that does not fit into memory again for ever, in silence
    "RAY_worker_register_timeout_seconds": "180",  # importing torch in many workers at once is slow on small machines
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Cluster:
    """A cluster one is connected to."""

    address: str
    nodes: int
    resources: dict[str, float]
    dashboard_url: str | None
    started_here: bool

    def __str__(self) -> str:
        kind = "started here" if self.started_here else "joined"
        return f"Ray cluster {self.address} ({kind}): {self.nodes} node(s), {describe(self.resources)}"


def set_environment() -> None:
    """Quiet defaults and token authentication, for this process and those it starts. Call before importing ray."""
    for name, value in _DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _set_token()


def token_path() -> Path:
    """Where the token of clusters started by posegen is kept."""
    from posegen.assets import cache_dir

    return cache_dir() / "ray" / "auth_token"


def _set_token() -> None:
    """Gives Ray a token that only this user can read. A mode, token or token file chosen by the user is left alone.

    Ray itself would write one to ~/.ray/auth_token, readable as the umask says.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"].lower() != "token":
        return
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    if (Path.home() / ".ray" / "auth_token").is_file():  # made by `ray get-auth-token`: clusters here use it
        return
    path = token_path()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(temporary, path)  # of two processes that come here together one wins, and both use its token
        except FileExistsError:
            logger.debug("another process made the token first")
        finally:
            os.unlink(temporary)
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _reread_token() -> None:
    """Makes Ray see the mode and token set above also where it was imported before: it reads them only once."""
    from ray import _raylet

    compiled: Any = _raylet
    compiled.Config.initialize("")
    compiled.AuthenticationTokenLoader.instance().reset_cache()


def runtime_env(extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What workers need from the driver: its code's path and its settings, which Ray does not pass on by itself.

    No secret is among them, see posegen.engine.environment. Workers of a cluster that is started here inherit this
    process's environment without it being written down anywhere.

    Inside a submitted job the code travels with the working directory, so there the path is left to the job; and what
    the job's own runtime environment sets is left out, because Ray refuses to join if both name a variable.
    """
    variables = passed_to_workers() | {MAKE_ASSETS: "1"}
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        platform = str(Path(__file__).resolve().parents[2])
        paths = [platform, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    variables.update(extra or {})
    taken = _variables_of_job()
    return {"env_vars": {name: value for name, value in variables.items() if name not in taken}}


def _variables_of_job() -> set[str]:
    """Variables that the runtime environment of the Ray job we run in sets; none outside a job."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return set((job.get("runtime_env") or {}).get("env_vars") or {})


def object_store_bytes(asked_mb: int | None = None, shared_memory: Path = Path("/dev/shm")) -> int:
    """The object store's size, checked against shared memory and RAM: Ray would go on with a slow file instead."""
    wanted_mb = DEFAULT_OBJECT_STORE_MB if asked_mb is None else asked_mb
    if wanted_mb < MIN_OBJECT_STORE_MB:
        raise EngineError(
            f"an object store of {wanted_mb} MB is too small: Ray needs at least {MIN_OBJECT_STORE_MB} MB",
            next_command=f"set engine.object_store_mb to {MIN_OBJECT_STORE_MB} or more",
        )
    ram_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MB
    limits = {"memory": int(0.6 * ram_mb)}
    if sys.platform == "linux":
        limits["shared memory (/dev/shm)"] = (
            int(0.9 * shutil.disk_usage(shared_memory).free // MB) if shared_memory.is_dir() else 0
        )
    name, available_mb = min(limits.items(), key=lambda item: item[1])
    if asked_mb is None:
        wanted_mb = max(MIN_OBJECT_STORE_MB, min(wanted_mb, available_mb))
    if wanted_mb > available_mb:
        raise EngineError(
            f"not enough {name} for Ray's object store: {wanted_mb} MB asked, {available_mb} MB usable",
            where=shared_memory,
            next_command=f"mount -o remount,size={2 * wanted_mb}m /dev/shm  # in a container: docker run --shm-size="
            f"{2 * wanted_mb}m; or lower engine.object_store_mb",
        )
    return wanted_mb * MB


def connect(
    address: str | None = None,
    *,
    cpus: int | None = None,
    gpus: int | None = None,
    object_store_mb: int | None = None,
    dashboard: bool = True,
    environment: Mapping[str, str] | None = None,
    verbose: bool = False,
) -> Cluster:
    """Joins the cluster at `address` (or $RAY_ADDRESS, as inside a Ray job), or starts one on this machine.

    Args:
        address: "host:port" or "auto"; None or "local" starts one unless $RAY_ADDRESS is set.
        cpus: logical CPUs of a cluster started here; None: the machine's, at least MIN_LOCAL_CPUS.
        gpus: of a cluster started here; None: what Ray finds.
        object_store_mb: of a cluster started here.
        dashboard: serves it, on loopback only. Sweeps need it (its State API frees what stopped trials held).
        environment: further variables for all workers.
        verbose: passes Ray's and the workers' output on.
    """
    set_environment()
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        # Ray reads this when it is imported: every socket of a cluster of one node is then on loopback, also those
        # that ask for no token (metrics). It would keep other nodes from joining, so it is set for no other cluster.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    _reread_token()
    if ray.is_initialized():
        return _describe_cluster(started_here=False)
    _quieten(verbose)
    if not verbose:  # Ray Data sets up its own logging when it is imported
        os.environ.setdefault("RAY_DATA_LOGGING_CONFIG", str(Path(__file__).with_name("ray_data_logging.yaml")))
    common: dict[str, Any] = {
        "runtime_env": runtime_env(environment),
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
        "namespace": "posegen",
    }
    if address != "local":
        return _join(address, common)
    store = object_store_bytes(object_store_mb)
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away
    port = _free_port()
    if dashboard:
        # Ray's processes look for the State API at whichever cluster was started last on this machine, and wait 12 s at
        # the end of each training run if that is another one.
        common["runtime_env"]["env_vars"]["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
    try:
        ray.init(
            address="local",
            num_cpus=cpus or max(MIN_LOCAL_CPUS, os.cpu_count() or 1),
            num_gpus=gpus,
            object_store_memory=store,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            dashboard_port=port,
            **common,
        )
    except (RuntimeError, OSError, TimeoutError) as error:
        raise EngineError(
            f"Ray could not be started on this machine: {_first_line(error)}",
            where="the logs of Ray's latest session",
            next_command="posegen doctor",
        ) from error
    _quieten(verbose)  # Ray sets levels again when it starts
    return _describe_cluster(started_here=True)


def disconnect() -> None:
    """Leaves the cluster; one that was started here ends."""
    import ray

    ray.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _join(address: str, common: dict[str, Any]) -> Cluster:
    import ray

    if address.startswith(("ray://", "http://", "https://")):
        raise EngineError(
            f"posegen cannot drive a cluster through {address}: the driver has to run inside the cluster",
            where=address,
            next_command="posegen submit run ... --address http://HEAD:8265",
        )
    if address == "auto":
        address = find_address()
    check_alive(address)
    if "RAY_ADDRESS" not in _variables_of_job():
        common["runtime_env"]["env_vars"]["RAY_ADDRESS"] = address  # of several clusters on a machine, this one
    try:
        ray.init(address=address, **common)
    except (ConnectionError, TimeoutError) as error:
        raise EngineError(
            f"no Ray cluster at {address}: {_first_line(error)}",
            where=address,
            next_command="ray start --head  # or leave engine.address empty to start one for this run",
        ) from error
    except Exception as error:  # Ray raises bare RuntimeErrors for versions of Python that differ
        raise EngineError(f"could not join the cluster at {address}: {_first_line(error)}", where=address) from error
    return _describe_cluster(started_here=False)


def _describe_cluster(started_here: bool) -> Cluster:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    context = ray.get_runtime_context()
    url = ray._private.worker.get_dashboard_url()  # None without a dashboard
    return Cluster(
        context.gcs_address, len(alive), dict(ray.cluster_resources()), f"http://{url}" if url else None, started_here
    )


def _quieten(verbose: bool) -> None:
    """Ray's own loggers say nothing below a warning unless asked."""
    level = logging.INFO if verbose else logging.ERROR
    for name in ("ray", "ray.train", "ray.tune", "ray._private"):
        logging.getLogger(name).setLevel(level)
    if not verbose:
        _log_raylet_messages()


def _log_raylet_messages() -> None:
    """Sends what a raylet says of its workers to our log: Ray prints it in the middle of progress bars."""
    import ray._private.worker as driver

    def log(message: dict, **_: Any) -> None:
        logger.info("%s: %s", message.get("pid"), " ".join(message.get("lines", [])))

    if hasattr(driver, "print_to_stdstream"):
        driver.print_to_stdstream = log  # type: ignore[assignment]


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
