"""Asks an address whether a Ray cluster answers there, within seconds and without Ray's own twenty of retries."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from posegen.engine.access_token import home_token, read_token
from posegen.engine.private_ray import find_local_address, version_in
from posegen.errors import EngineError

TIMEOUT_S = 5.0
_START = "or leave engine.address empty to start one for this run"


def find_address() -> str:
    """The address of the cluster running on this machine ("auto")."""
    address = os.environ.get("RAY_ADDRESS") or find_local_address()
    if not address or address == "auto":
        raise EngineError("no Ray cluster runs on this machine", next_command=f"ray start --head  # {_START}")
    return address


def check_alive(address: str) -> None:
    """EngineError unless a cluster of our Ray version answers at host:port and accepts our token."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(f"not a cluster address: {address!r}", choices=["host:port", "auto", "local"])
    try:
        socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
    except OSError as error:
        raise EngineError(
            f"no Ray cluster at {address}: {error.strerror or error}",
            where=address,
            next_command=f"ray start --head --port={port}  # {_START}",
        ) from error
    version = _version_at(address)
    import ray

    if version and version != ray.__version__:
        raise EngineError(
            f"the cluster at {address} runs Ray {version}, this machine has {ray.__version__}: they must be equal",
            where=address,
            next_command=f"pip install 'ray[default,data,train,tune]=={version}'  # here, or ours on all nodes",
        )


def _token() -> str | None:
    """The token Ray would send, looked for where Ray looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else home_token()
    return read_token(path) if path is not None and path.is_file() else None


def _version_at(address: str) -> str | None:
    """The Ray version that the head node at `address` says it has; None if it does not say."""
    import grpc

    token = _token()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    # as Ray's own calls: a proxy for the web is no way to a cluster
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        # CheckAliveRequest has no required field: an empty message asks for the head alone.
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            reply = call(b"", timeout=TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise EngineError(
                    f"the cluster at {address} refuses our token"
                    if token
                    else f"the cluster at {address} wants a token",
                    where=os.environ.get("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"),
                    next_command="export RAY_AUTH_TOKEN_PATH=FILE  # a copy of the head node's token, mode 600",
                ) from error
            raise EngineError(
                f"what answers at {address} is no Ray cluster ({code.name.lower()})",
                where=address,
                next_command=f"ray status --address {address}  # {_START}",
            ) from error
    return version_in(reply)
