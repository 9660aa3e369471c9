"""Where the trainers of one training find each other, with no door for anybody else.

torch's own meeting point, which Ray would use (MASTER_ADDR, env://), is a key-value server that listens on every
interface of the first trainer's machine and asks nobody who they are. Here it is

- one trainer: a table in its own memory;
- trainers on one machine: a file in a folder that only this user can enter;
- trainers on several machines: that server, but on the one address by which Ray knows the first trainer's node.

The last one still asks for no password: see docs/explanation/security.md.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from posegen.engine.private_ray import session_folder

_open: list[Any] = []  # what this process, the first trainer, holds open for the others


@dataclass(frozen=True)
class Meeting:
    """How the trainers of one group find each other. All empty: there is one trainer.

    Args:
        file: for trainers on one machine.
        host, port: of the first trainer's server, for trainers on several.
    """

    file: str = ""
    host: str = ""
    port: int = 0


def node_here() -> str:
    """The id of the node that this trainer is on."""
    import ray

    return ray.get_runtime_context().get_node_id()


def node_address() -> str:
    """The address by which Ray knows the node that this process is on."""
    import ray

    here = node_here()
    return next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here)


def open_file(session: str | None = None) -> Meeting:
    """Runs in the first trainer: a folder of its own (mode 0700) in Ray's session folder, which goes with it."""
    folder = tempfile.mkdtemp(prefix="meeting-", dir=session or session_folder())
    _open.append(folder)
    return Meeting(file=f"{folder}/store")


def open_server(timeout_s: float, address: str | None = None) -> Meeting:
    """Runs in the first trainer: the server on a socket that is bound to one address.

    Args:
        address: default: the node's.
    """
    from torch.distributed import TCPStore

    host = address or node_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.bind((host, 0))
    listening.listen(1024)
    port = listening.getsockname()[1]
    # The store takes the socket over and closes it.
    store = TCPStore(
        host, port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout_s),
        master_listen_fd=listening.detach(),
    )  # fmt: skip
    _open.append(store)
    return Meeting(host=host, port=port)


def store_of(meeting: Meeting, world_size: int, timeout_s: float) -> Any:
    """The trainers' common store. The first trainer's is the server that it opened."""
    import torch.distributed as dist

    timeout = timedelta(seconds=timeout_s)
    if meeting.file:
        store: Any = dist.FileStore(meeting.file, world_size)
    elif meeting.host:
        served = next((one for one in _open if isinstance(one, dist.TCPStore) and one.port == meeting.port), None)
        store = served or dist.TCPStore(
            meeting.host, meeting.port, is_master=False, wait_for_workers=False, timeout=timeout
        )
    else:
        store = dist.HashStore()
    store.set_timeout(timeout)
    return store


def join(meeting: Meeting, backend: str, rank: int, world_size: int, timeout_s: float) -> None:
    """Runs in each trainer: makes torch's process group."""
    import torch.distributed as dist

    dist.init_process_group(
        backend, store=store_of(meeting, world_size, timeout_s), rank=rank, world_size=world_size,
        timeout=timedelta(seconds=timeout_s),
    )  # fmt: skip


def close() -> None:
    """Runs in each trainer at the end: what it held open for the others."""
    for one in _open:
        if isinstance(one, str):
            shutil.rmtree(one, ignore_errors=True)
    _open.clear()
