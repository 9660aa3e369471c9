"""Who listens where, read from /proc: what `ss -ltnp` would show of some processes."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

LISTEN = "0A"  # the state's number in /proc/net/tcp


class Listener(NamedTuple):
    pid: int
    address: str
    port: int
    command: str


def listeners(pids: Iterable[int]) -> list[Listener]:
    """The TCP sockets on which processes wait for connections."""
    found = []
    for pid in pids:
        inodes = _sockets(pid)
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
            rows = [row for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
        except OSError:  # it ended meanwhile
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.append(Listener(pid, _address(address), int(port, 16), command))
    return found


def of_family(root: int) -> list[int]:
    """A process and all below it."""
    above = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                above[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    family, level = [root], [root]
    while level:
        level = [pid for pid, parent in above.items() if parent in level]
        family += level
    return family


def open_to_others(found: Iterable[Listener]) -> list[Listener]:
    """Those that another machine could reach."""
    return [one for one in found if not ipaddress.ip_address(one.address).is_loopback]


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def _address(text: str) -> str:
    """The kernel writes each 32-bit word as a number of the machine's own byte order."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    whole = b"".join(words)
    if len(whole) == 4:
        return socket.inet_ntop(socket.AF_INET, whole)
    address = ipaddress.IPv6Address(whole)
    return str(address.ipv4_mapped or address)
