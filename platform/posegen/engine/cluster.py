"""Connecting to Ray: a cluster started here for this run, or one that is there already.

Nothing here waits in silence: an address without a cluster, another Ray version, a missing token, too little shared
memory or too few resources are errors within seconds, with what was asked and what there is.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.assets import MAKE_ASSETS
from posegen.engine.access_token import set_token
from posegen.engine.environment import passed_to_workers
from posegen.engine.fork_server import stop_forking
from posegen.engine.private_folder import ray_folder
from posegen.engine.private_ray import dashboard_url, keep_to_loopback, reread_token
from posegen.engine.probe import check_alive, find_address
from posegen.engine.quiet import core_speaks, quieten
from posegen.engine.resources import describe
from posegen.engine.starting import first_line, start
from posegen.errors import EngineError
from posegen.machine import cores, memory_bytes
from posegen.proxies import spare_loopback

logger = logging.getLogger(__name__)

MB = 2**20
# Logical CPUs of a local cluster are never fewer: rendering, training and reading each hold one, and on two cores
# they take turns. With as many logical as physical CPUs a stage could wait for one that its consumer holds.
MIN_LOCAL_CPUS = 4
MIN_OBJECT_STORE_MB = 100
DEFAULT_OBJECT_STORE_MB = 1024
RESERVE_BYTES = 5 * 10**9  # of a large disk that stay free
SPILLING = "RAY_object_spilling_directory"  # Ray's spelling

_ELSEWHERE = ("ray://", "http://", "https://")  # addresses through which no driver can work

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
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",  # of 60: on a starved machine it takes longer to import itself
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
        if not self.started_here:
            return f"Ray cluster {self.address} (joined): {self.nodes} node(s), {describe(self.resources)}"
        places = f"{self.resources.get('CPU', 0):g} places for work on {cores()} core(s)"
        rest = describe({name: value for name, value in self.resources.items() if name != "CPU"})
        return f"Ray cluster {self.address} (started here): {places}, {rest}"


def set_environment() -> None:
    """Quiet defaults and token authentication, for this process and those it starts. Call before importing ray."""
    for name, value in _DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    spare_loopback()
    set_token()


def _address_of_environment() -> str:
    """What $RAY_ADDRESS says. Ray's guide to jobs has people set it to the dashboard's HTTP address."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address.startswith(_ELSEWHERE):
        raise EngineError(
            f"RAY_ADDRESS={address} is in the environment: it is for sending jobs, a run is not driven through it",
            where="RAY_ADDRESS",
            next_command="engine.address=local   # on this machine; on that cluster: "
            f"posegen submit run ... --address {address.replace('ray://', 'http://')}",
        )
    return address or "local"


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
    ram_mb = memory_bytes() // MB
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
        cpus: logical CPUs of a cluster started here; None: those we may use, at least MIN_LOCAL_CPUS.
        gpus: of a cluster started here; None: what Ray finds.
        object_store_mb: of a cluster started here.
        dashboard: serves it, on loopback only. Sweeps need it (its State API frees what stopped trials held).
        environment: further variables for all workers.
        verbose: passes Ray's and the workers' output on.
    """
    set_environment()
    address = address or _address_of_environment()
    if address == "local":
        # Ray reads this when it is imported: every socket of a cluster of one node is then on loopback, also those
        # that ask for no token (metrics). It would keep other nodes from joining, so it is set for no other cluster.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    reread_token()
    if address == "local" and os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0":
        keep_to_loopback()
    if ray.is_initialized():
        return _describe_cluster(started_here=False)
    quieten(verbose)
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
    folder = ray_folder()
    disks = [shutil.disk_usage(one).total for one in (folder.parent, os.environ.get(SPILLING)) if one]
    os.environ.setdefault("RAY_local_fs_capacity_threshold", f"{full_at(min(disks)):.6f}")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away
    start(
        num_cpus=cpus or max(MIN_LOCAL_CPUS, cores()),
        num_gpus=gpus,
        object_store_memory=store,
        dashboard=dashboard,
        quiet=not verbose,
        _temp_dir=str(folder),
        **common,
    )
    quieten(verbose)  # Ray sets levels again when it starts
    return _describe_cluster(started_here=True)


def full_at(disk_bytes: int) -> float:
    """The share of a disk that may be full. Ray's own 95 % would refuse a large disk with hundreds of GB free."""
    return max(0.95, 1 - RESERVE_BYTES / max(disk_bytes, RESERVE_BYTES))


def disconnect() -> None:
    """Leaves the cluster; one that was started here ends."""
    import ray

    ray.shutdown()
    stop_forking()


def _join(address: str, common: dict[str, Any]) -> Cluster:
    import ray

    if address.startswith(_ELSEWHERE):
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
        with core_speaks(only_of_death=not common["log_to_driver"]):
            ray.init(address=address, **common)
    except (ConnectionError, TimeoutError) as error:
        raise EngineError(
            f"no Ray cluster at {address}: {first_line(error)}",
            where=address,
            next_command="ray start --head  # or leave engine.address empty to start one for this run",
        ) from error
    except Exception as error:  # Ray raises bare RuntimeErrors for versions of Python that differ
        raise EngineError(f"could not join the cluster at {address}: {first_line(error)}", where=address) from error
    return _describe_cluster(started_here=False)


def _describe_cluster(started_here: bool) -> Cluster:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    context = ray.get_runtime_context()
    url = dashboard_url()
    return Cluster(
        context.gcs_address, len(alive), dict(ray.cluster_resources()), f"http://{url}" if url else None, started_here
    )
