"""What is settled on each node before a training's process group is made: that a GPU can be used, and the network.

Workers talk through the interface that has the address by which Ray knows their node.

Gloo takes the address that the host's own name resolves to. Debian and Ubuntu write 127.0.1.1 for it into /etc/hosts,
and then workers on two machines look for each other on loopback ("Connection refused, remote=[127.0.1.1]").
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from posegen.errors import EngineError

logger = logging.getLogger(__name__)

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"


def interface_of(address: str, interfaces: Mapping[str, list[Any]]) -> str | None:
    """The interface that has an address; None where the node is known by one that it does not have itself (NAT).

    Args:
        interfaces: as psutil.net_if_addrs gives them.
    """
    return next((name for name, own in interfaces.items() if any(one.address == address for one in own)), None)


def choose_interface() -> None:
    """Runs in each worker before its process group is made. What the node's own environment says is left alone."""
    import psutil
    import ray

    if GLOO_INTERFACE in os.environ:
        return
    here = ray.get_runtime_context().get_node_id()
    address = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here)
    name = interface_of(address, psutil.net_if_addrs())
    if name is None:
        logger.warning("no interface of this node has its address %s: gloo chooses one by itself", address)
    else:
        os.environ[GLOO_INTERFACE] = name


def lacks_cuda() -> bool:
    """Whether this worker was given a GPU and its torch cannot use one."""
    import ray
    import torch

    return bool(ray.get_gpu_ids()) and not torch.cuda.is_available()


def check_cuda() -> None:
    """EngineError in a worker that lacks CUDA: torch's own words for it come late, and name no node."""
    import ray

    from posegen.devices import torch_build

    if lacks_cuda():
        raise EngineError(
            f"a trainer was given a GPU, and the torch of its node cannot use one ({torch_build()})",
            where=f"node {ray.util.get_node_ip_address()}",
            next_command="install a CUDA build of torch on all nodes, or engine.gpus_per_trainer=0",
        )


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(choose_interface)
        if any(worker_group.execute(lacks_cuda)):
            # The training function says so. An error here, as of NCCL, would leave the workers' places taken.
            backend_config = replace(backend_config, backend="gloo")
        super().on_start(worker_group, backend_config)


@dataclass
class NodeTorchConfig(TorchConfig):
    """Ray's, with what a node needs looked at first."""

    @property
    def backend_cls(self) -> Any:
        return _Backend
