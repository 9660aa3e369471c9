"""Turns what Ray raises into an error that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from posegen.engine.nodes import MOUNT_HINT
from posegen.errors import EngineError, PosegenError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and everything it wraps: Ray keeps the cause under several names."""
    seen: set[int] = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        for name in ("cause", "_base_exc", "controller_failure", "__cause__"):
            inner = getattr(current, name, None)
            if isinstance(inner, BaseException):
                queue.append(inner)
        queue += list(getattr(current, "worker_failures", {}).values())


def user_error(error: BaseException | None) -> PosegenError | None:
    """The error of ours inside one of Ray's, if there is one."""
    # Ray's RayTaskError(...) is one of ours as well, but says a whole traceback; the plain one is its cause
    own = (inner for inner in _chain(error) if isinstance(inner, PosegenError))
    return next((inner for inner in own if not isinstance(getattr(inner, "cause", None), PosegenError)), None)


def _node(text: str) -> str:
    """The node that Ray names in its report on memory, and how full it was."""
    found = re.search(r"on the node \(IP: ([^,]+),.*?\) was (\S+ used / \S+ limit)", text, re.DOTALL)
    return f", node {found[1]}: {found[2]}" if found else ""


def _thrower(text: str) -> str:
    """The node of the task that raised: the innermost of Ray's tracebacks, which comes last."""
    found = re.findall(r"\bip=([^,)\s]+)", text)
    return f", node {found[-1]}" if found else ""


FULL_DISK = "No space left on device"  # the system's words, also inside Arrow's and torch's errors
UNSHARED = "Unable to set up cluster storage"  # Ray Train's words for a worker that does not see the storage


def is_lasting(error: BaseException) -> bool:
    """Whether a retry would find the same: a full object store or disk, or storage that a node does not see."""
    full = ("OutOfDiskError", "ObjectStoreFullError")
    words = (UNSHARED, FULL_DISK)
    return any(type(inner).__name__ in full or any(said in str(inner) for said in words) for inner in _chain(error))


def explain(error: BaseException, stage: str) -> PosegenError:
    """The error to show for a failed stage: ours if it was one of ours, else what Ray means by it."""
    ours = user_error(error)
    if ours is not None:
        return ours
    kinds = [type(inner).__name__ for inner in _chain(error)]
    text = "\n".join(str(inner) for inner in _chain(error))
    again = "run the same command again: it continues from the last checkpoint"

    def is_one(kind: str) -> bool:
        return kind in kinds or re.search(rf"\b{kind}\b", text) is not None

    if is_one("OutOfMemoryError") or "node running low on memory" in text:
        return EngineError(
            f"a worker of {stage} ran out of memory and was ended",
            where=f"{stage}{_node(text)}",
            next_command="lower engine.train_workers, engine.render_actors or the batch size, or end other programs on "
            f"that machine, then {again}",
        )
    if is_one("OutOfDiskError"):
        return EngineError(
            f"Ray's object store is full in {stage}, and so is the disk to which it spills",
            where=f"{stage}{_thrower(text)}",
            next_command="ray memory  # who holds it; end other programs on the cluster, raise engine.object_store_mb "
            f"or make room on that disk (df -h /tmp; Ray stops at 95 %), then {again}",
        )
    if is_one("ObjectStoreFullError"):
        return EngineError(
            f"Ray's object store is too small for {stage}",
            where=f"{stage}{_thrower(text)}",
            next_command=f"raise engine.object_store_mb or lower dataset.rows_per_block, then {again}",
        )
    if FULL_DISK in text:
        return EngineError(
            f"the disk is full in {stage}; what was finished before is kept",
            where=f"{stage}{_thrower(text)}",
            next_command=f"df -h  # make room in run.outputs and in the temporary folder, then {again}",
        )
    if UNSHARED in text:
        found = re.search(r"storage_fs_path='([^']+)'", text)
        return EngineError(
            f"a worker of {stage} cannot use the folder for checkpoints: every machine of the cluster must see it",
            where=found[1] if found else stage,
            next_command=f"{MOUNT_HINT}; or a URL for checkpoints: engine.storage",
        )
    if "WorkerGroupStartupTimeoutError" in kinds or "InsufficientClusterResourcesError" in kinds:
        return EngineError(
            f"the workers of {stage} got no place on the cluster in time",
            where=stage,
            next_command="ray status  # what is in use; lower engine.train_workers or raise engine.wait_for_nodes_s",
        )
    lines = [line for line in text.splitlines() if line.strip()]
    last = next(
        (line for line in reversed(lines) if re.search(r"Error|Exception", line) and "Error Snippet]" not in line),
        lines[-1] if lines else "",
    )
    return EngineError(
        f"{stage} failed: {last.strip() or kinds[0]}",
        where=stage,
        next_command=f"{again}; engine.verbose=true shows the workers' output",
    )
