"""What every machine of a cluster must have, looked at before hours are spent: the results folder, and the assets.

Workers write shards and checkpoints into the run directory and read weights from it, under the path that the driver
uses. A node that comes later, brought by an autoscaler, is not seen here: its first block finds out.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posegen.errors import EngineError, PosegenError

PATIENCE_S = 120.0  # for the first process on a node; making assets takes as long as it takes
MOUNT_HINT = "mount one file system (NFS, EFS, Filestore) on all machines and name a folder of it: run.outputs=FOLDER"


def unshared(folder: Path | str, nodes: list[str]) -> EngineError:
    """The error for machines that do not see the results folder."""
    return EngineError(
        f"{', '.join(nodes)} cannot use the results folder: every machine of the cluster must see it, under one path",
        where=folder,
        next_command=MOUNT_HINT,
    )


def check_nodes(folder: Path | str, say: Callable[[str], None]) -> int:
    """EngineError unless every other node that takes work sees `folder` and has, or can make, the assets.

    Args:
        folder: of the run; it exists on this machine.
        say: is given a line while a node keeps us waiting.

    Returns:
        how many nodes were asked; one that ended meanwhile counts.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    others = [
        node for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here and any(node["Resources"].get(kind) for kind in ("CPU", "GPU"))
    ]  # fmt: skip
    if not others:
        return 0
    mark = Path(folder) / f".seen-{secrets.token_hex(4)}"
    mark.write_text(mark.name)
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(_look)
    try:
        asked = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(mark)
            ): node["NodeManagerAddress"]
            for node in others
        }
        _judge(folder, _answers(asked, say))
    finally:
        mark.unlink(missing_ok=True)
    return len(others)


def _answers(asked: dict[Any, str], say: Callable[[str], None]) -> dict[str, str | PosegenError]:
    """What each node found, by its address. One that ended meanwhile is left out: no work will go there."""
    import ray

    began, waiting = time.monotonic(), list(asked)
    answers: dict[str, str | PosegenError] = {}
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=15)
        for reference in ready:
            try:
                answers[asked[reference]] = ray.get(reference)
            except ray.exceptions.RayError as error:
                say(f"node {asked[reference]} ended while it was looked at ({type(error).__name__})")
        if waiting and not ready:
            late = ", ".join(asked[reference] for reference in waiting)
            say(f"waiting for {late} to look at the results folder and make its assets")
            if time.monotonic() - began > PATIENCE_S:
                say(f"not waiting longer for {late}")
                break
    return answers


def _judge(folder: Path | str, answers: dict[str, str | PosegenError]) -> None:
    blind = sorted(node for node, found in answers.items() if found == "unseen")
    if blind:
        raise unshared(folder, blind)
    for node, found in answers.items():
        if isinstance(found, PosegenError):
            raise type(found)(
                f"{found.what} (on {node})",
                where=found.where,
                next_command=f"{found.next_command}; or copy a filled cache folder to {node}, or use an image with it",
            )


def _look(mark: str) -> str | PosegenError:
    """Runs on each node: "seen" or "unseen", or why its assets cannot be had."""
    from posegen.assets import ensure

    try:
        path = Path(mark)
        if path.read_text() != path.name:
            return "unseen"
        own = path.with_name(f"{path.name}-{os.getpid()}")
        own.touch()
        own.unlink()
    except OSError:
        return "unseen"
    try:
        ensure()
    except PosegenError as error:
        return error
    return "seen"
