"""All of Ray's private interfaces that are used here: a new version of Ray is looked through in this file alone.

Each says why the public ones do not do, and what happens where this Ray lacks it. What safety or right numbers hang on
is an error that names the versions; what is comfort is gone without. `ray_data_logging.yaml` names one more, the class
of a log's handler; without it importing ray.data fails. tests/engine/test_private_ray.py finds all of them in the Ray
that is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from posegen.errors import EngineError

INSTALL = "pip install 'ray[default,data,train,tune]>=2.60,<2.61'"


def _private(module: str, name: str, purpose: str) -> Any:
    """A private thing of Ray's. EngineError where this version has none of the name."""
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise unknown(f"{module}.{name}", purpose) from error
    return found


def unknown(name: str, purpose: str) -> EngineError:
    """The error of a Ray that posegen was not written for."""
    import ray

    return EngineError(
        f"this Ray ({ray.__version__}) has no {name}, by which posegen {purpose}", where=ray.__file__,
        next_command=INSTALL,
    )  # fmt: skip


def reread_token() -> None:
    """Makes Ray see the authentication's mode and token that the environment holds now.

    Why: it reads them once, when it is imported, which may have been before. Missing: an error, as a cluster would be
    open to all.
    """
    _private("ray._raylet", "Config.initialize", "makes it read its token")("")
    _private("ray._raylet", "AuthenticationTokenLoader.instance", "makes it read its token")().reset_cache()


def keep_to_loopback() -> None:
    """Ray's own servers listen on 127.0.0.1 only.

    Why: it reads RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER once, when it is imported, which may have been before. Missing: an
    error, as its ports would be open to the network.
    """
    _private("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", "keeps it to this machine")
    constants: Any = import_module("ray._private.ray_constants")
    constants.ENABLE_RAY_CLUSTER = False


def dashboard_url() -> str | None:
    """host:port of the dashboard, None without one.

    Why: only ray.init's own answer tells it in public, and here others may have called that. Missing: an error.
    """
    return _private("ray._private.worker", "get_dashboard_url", "finds the dashboard")()


def find_local_address() -> str | None:
    """host:port of the cluster that runs on this machine, None if none does.

    Why: ray.init(address="auto") would connect at once, with twenty seconds of retries. Missing: an error.
    """
    return _private("ray._private.services", "find_bootstrap_address", "finds a cluster on this machine")(None) or None


def version_in(reply: bytes) -> str | None:
    """The Ray version that a head node's answer to CheckAlive tells; None if it does not.

    Why: ray.init tells of another version after long retries only. Missing: None, and ray.init finds it out.
    """
    try:
        messages = import_module("ray.core.generated.gcs_service_pb2")
        return messages.CheckAliveReply.FromString(reply).ray_version or None
    except (ImportError, AttributeError):
        return None


def session_folder() -> str:
    """Ray's folder of this session on this node: private, and gone with it.

    Why: a runtime context tells the session's name and not where it is. Missing: an error.
    """
    node = _private("ray._private.worker", "_global_node", "finds the session's folder")
    return node.get_session_dir_path()


def free_by_node() -> list[dict[str, float]]:
    """What is free on each node.

    Why: ray.available_resources adds all nodes up, and a bundle has to fit one. Missing: an error.
    """
    found = _private("ray._private.state", "available_resources_per_node", "sees what is free on each node")
    return list(found().values())


def ignore_patterns(lines: Sequence[str]) -> tuple[Any, ...]:
    """Lines of a .gitignore as patterns with `regex` and `include`.

    Why: Ray's own copy of pathspec leaves out what plain `ray job submit` does. Missing: an error, as secrets are left
    out by these patterns.
    """
    spec = _private("ray._private.thirdparty.pathspec", "PathSpec", "leaves files out of a job's package")
    return tuple(spec.from_lines("gitwildmatch", lines).patterns)


def controller_callback() -> type:
    """The base of what Ray Train's controller calls when a run begins and ends.

    Why: the public callbacks see reports, not the controller, whose `abort` ends a run of another thread, and at whose
    end what it forgot is given back (posegen.engine.orphans). Missing: an
    error when a training begins.
    """
    return _private("ray.train.v2._internal.execution.callback", "ControllerCallback", "ends other threads' runs")


def group_callback() -> type:
    """The base of what Ray Train's controller calls when a group of trainers begins and ends.

    Why: the public callbacks do not see the group, which keeps its CPUs where a trainer dies while it is started
    (posegen.engine.orphans). Missing: an error when a training begins.
    """
    return _private("ray.train.v2._internal.execution.callback", "WorkerGroupCallback", "gives back what trainers held")


def trainer_that_calls_first(*callbacks: Any) -> Any:
    """TorchTrainer, with callbacks that are called before Ray's own.

    Why: those of a RunConfig come last, and an error in one of Ray's (the set-up of the process group) keeps them from
    being called. Missing: an error when a training begins.
    """
    trainer: Any = import_module("ray.train.torch").TorchTrainer
    _private("ray.train.v2.torch.torch_trainer", "TorchTrainer._create_default_callbacks", "sees a group begin")

    class Trainer(trainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            return [*callbacks, *super()._create_default_callbacks()]

    return Trainer


def torch_backend() -> type:
    """What sets up the trainers of a group for torch.

    Why: the public TorchConfig says nothing of the address that trainers meet at, and Ray's way of meeting asks for no
    password (posegen.engine.rendezvous). Missing, here and below: an error when a training begins.
    """
    return _private("ray.train.torch.config", "_TorchBackend", "sets up its trainers")


def tell_worker() -> None:
    """Puts rank, world size and the like into a trainer's environment, as Ray's own set-up does."""
    _private("ray.train.torch.config", "_set_torch_distributed_env_vars", "tells trainers their ranks")()


def leave_group(process_group: bool) -> None:
    """Ends a trainer's part of the process group, as Ray's own set-up does."""
    _private("ray.train.torch.config", "_shutdown_torch", "ends its trainers")(process_group)


def hand_down(variables: Iterable[str]) -> None:
    """Ray Train hands these environment variables down to its processes.

    Why: it hands down a fixed set. Missing: an error, see posegen.engine.tune.
    """
    known = _private("ray.train.v2._internal.constants", "ENV_VARS_TO_PROPAGATE", "tells trainings their cluster")
    known.update(variables)


@contextmanager
def around_connecting(wrapped: Callable[[Callable[..., Any]], Callable[..., Any]] | None) -> Iterator[None]:
    """While this is entered, `wrapped(connect)` is what joins this process to a cluster; None changes nothing.

    Why: the level of what Ray's C++ part logs of this process is told once, then; the same variable, set earlier, would
    silence the node's own processes too. Missing: its words stand between ours.
    """
    driver: Any = import_module("ray._private.worker")
    inner = getattr(driver, "connect", None)
    if inner is None or wrapped is None:
        yield
        return
    driver.connect = wrapped(inner)
    try:
        yield
    finally:
        driver.connect = inner


@contextmanager
def workers_started_by(script: Path) -> Iterator[Path]:
    """While this is entered, a raylet that is started runs this script for each worker; gives Ray's own in its place.

    Why: the script's name is no setting. Missing: an error, where forked workers were asked for.
    """
    own = _private("ray._private.ray_constants", "SETUP_WORKER_FILENAME", "forks its workers")
    folder = Path(_private("ray._private.node", "__file__", "forks its workers")).parent / "workers"
    _private(
        "ray._private.worker", "connect", "forks its workers"
    )  # `around_connecting` goes without, and nobody would fork
    constants: Any = import_module("ray._private.ray_constants")
    constants.SETUP_WORKER_FILENAME = str(script)  # joined onto Ray's own folder: an absolute path stays itself
    try:
        yield folder / own
    finally:
        constants.SETUP_WORKER_FILENAME = own


@contextmanager
def undrawn() -> Iterator[None]:
    """While this is entered, Ray's modules are imported without a draw from its generator of ids.

    Why: forks of a process that has drawn once draw the same ids as each other, and two placement groups of one id are
    one. Ray draws an id for each of its actor classes. Missing: an error, where forked workers were asked for.
    """
    known = _private("ray.actor", "ActorClassID", "forks its workers")

    class Ids:
        @staticmethod
        def from_random() -> Any:
            return known(os.urandom(known.size()))

    module: Any = import_module("ray.actor")
    module.ActorClassID = Ids
    try:
        yield
    finally:
        module.ActorClassID = known


def draw_id() -> bytes:
    """An id from the generator from which this process's placement groups and tasks have theirs.

    Why: nothing in public draws without a cluster. Missing: an error, where forked workers were asked for.
    """
    return _private("ray", "ActorClassID.from_random", "forks its workers")().binary()


def set_variables(variables: Mapping[str, str]) -> None:
    """Sets a runtime environment's variables in this process.

    Why: a worker that was forked does what Ray's own script does before it. Missing: an error in the worker's log.
    """
    _private("ray._private.utils", "update_envs", "forks its workers")(variables)


def raylet_messages_to(log: Callable[..., None]) -> None:
    """What a raylet says of its workers goes to `log(message, ...)`.

    Why: Ray prints it in the middle of progress bars. Missing: it goes on doing so.
    """
    driver: Any = import_module("ray._private.worker")
    if hasattr(driver, "print_to_stdstream"):
        driver.print_to_stdstream = log


def native_tensors() -> Any:
    """The value of DataContext.arrow_fixed_shape_tensor_format that makes tensors Arrow's own fixed-shape type.

    Why: documented nowhere; Ray's own tensor type would have to be copied to be read by others. Missing: an error.
    """
    return _private("ray.data.extensions", "FixedShapeTensorFormat.ARROW_NATIVE", "keeps tensors in Arrow's own type")
