"""What is settled on each node before a training's process group is made: that a GPU can be used, and the network.

Workers on one machine talk through its loopback device. Those on several talk through the interface that has the
address by which Ray knows their node. Where they find each other: posegen.engine.rendezvous.

Gloo takes the address that the host's own name resolves to. Debian and Ubuntu write 127.0.1.1 for it into /etc/hosts,
and then workers on two machines look for each other on loopback ("Connection refused, remote=[127.0.1.1]").
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.torch import TorchConfig

from posegen.engine import rendezvous
from posegen.engine.private_ray import leave_group, tell_worker, torch_backend
from posegen.errors import EngineError

logger = logging.getLogger(__name__)

GLOO_INTERFACE, NCCL_INTERFACE = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
LOOPBACK = "127.0.0.1"
SHUTDOWN_S = 30.0  # of a process group; hung workers are then ended all the same


def interface_of(address: str, interfaces: Mapping[str, list[Any]]) -> str | None:
    """The interface that has an address; None where the node is known by one that it does not have itself (NAT).

    Args:
        interfaces: as psutil.net_if_addrs gives them.
    """
    return next((name for name, own in interfaces.items() if any(one.address == address for one in own)), None)


def choose_interface(one_machine: bool) -> None:
    """Runs in each worker before its process group is made. What the node's own environment says is left alone.

    Args:
        one_machine: all workers are on this one.
    """
    import psutil

    address = LOOPBACK if one_machine else rendezvous.node_address()
    name = interface_of(address, psutil.net_if_addrs())
    if name is None:
        logger.warning("no interface of this node has its address %s: gloo chooses one by itself", address)
        return
    os.environ.setdefault(GLOO_INTERFACE, name)
    os.environ.setdefault(NCCL_INTERFACE, f"={name}")  # with "=" this one only, not all whose names begin so


def lacks_cuda() -> bool:
    """Whether this worker was given a GPU and its torch cannot use one."""
    import torch

    return bool(ray.get_gpu_ids()) and not torch.cuda.is_available()


def check_cuda() -> None:
    """EngineError in a worker that lacks CUDA: torch's own words for it come late, and name no node."""
    from posegen.devices import torch_build

    if lacks_cuda():
        raise EngineError(
            f"a trainer was given a GPU, and the torch of its node cannot use one ({torch_build()})",
            where=f"node {ray.util.get_node_ip_address()}",
            next_command="install a CUDA build of torch on all nodes, or engine.gpus_per_trainer=0",
        )


class _Backend(torch_backend()):  # type: ignore[misc]
    """Ray's, less its process group: that one begins with a server that is open to everybody."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        count = len(worker_group)
        one_machine = len(set(worker_group.execute(rendezvous.node_here))) == 1
        worker_group.execute(choose_interface, one_machine)
        backend = backend_config.backend
        if any(worker_group.execute(lacks_cuda)):
            # The training function says so, in words of ours; an error here, as of NCCL, would be Ray's.
            backend = "gloo"
        timeout_s = float(backend_config.timeout_s)
        meeting = rendezvous.Meeting()
        if count > 1 and one_machine:
            meeting = worker_group.execute_single(0, rendezvous.open_file)
        elif count > 1:
            meeting = worker_group.execute_single(0, rendezvous.open_server, timeout_s)
        worker_group.execute(tell_worker)  # LOCAL_RANK and its like
        ray.get(
            [
                worker_group.execute_single_async(rank, rendezvous.join, meeting, backend, rank, count, timeout_s)
                for rank in range(count)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        try:
            ray.get(leaving, timeout=SHUTDOWN_S)
        except ray.exceptions.GetTimeoutError:
            logger.warning("the trainers' process group did not end within %.0f s", SHUTDOWN_S)


def _leave(process_group: bool) -> None:
    """Runs in each worker at the end."""
    leave_group(process_group)
    rendezvous.close()


@dataclass
class NodeTorchConfig(TorchConfig):
    """Ray's, with what a node needs looked at first."""

    @property
    def backend_cls(self) -> Any:
        return _Backend
