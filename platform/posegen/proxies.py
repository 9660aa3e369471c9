"""No proxy for this machine itself: companies set http_proxy for all addresses, and Ray and MLflow live on loopback."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from collections.abc import MutableMapping
from typing import Any

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")
_NAMES = ("no_proxy", "NO_PROXY")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


def spare_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds loopback to no_proxy, in both spellings: for libraries and child processes that read it."""
    listed = [word.strip() for name in _NAMES for word in environment.get(name, "").split(",") if word.strip()]
    if "*" in listed or not any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return
    text = ",".join(dict.fromkeys([*listed, *LOCAL_HOSTS]))
    for name in _NAMES:
        environment[name] = text


def opener(url: str) -> urllib.request.OpenerDirector:
    """urllib's opener for an address: through the environment's proxy, except to this machine."""
    host = urllib.parse.urlsplit(url).hostname
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if host in LOCAL_HOSTS else []))


def open_url(request: urllib.request.Request | str, timeout: float) -> Any:
    """urllib.request.urlopen without a proxy to this machine."""
    url = request if isinstance(request, str) else request.full_url
    return opener(url).open(request, timeout=timeout)
