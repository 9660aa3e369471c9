"""A folder for Ray's sessions that only this user can enter.

Ray makes its session folders writable for everybody (mode 0777): logs, sockets, the code of jobs. So it
is given a place inside a folder of mode 0700. The place must be short as well: the path of a Unix socket has at most
107 bytes, and Ray hangs `session_<date>_<pid>/sockets/<name>` onto it, whatever the length of one's home or TMPDIR.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from posegen.errors import EngineError

SOCKET_PATH_BYTES = 107 if os.uname().sysname != "Darwin" else 103
# What Ray adds: /session_2026-11-27_00-32-59_094010_4194304/sockets/dash_MetricsHead
RAY_ADDS_BYTES = 1 + 42 + 1 + 7 + 1 + 16
CHOSEN = "RAY_TMPDIR"  # as for Ray itself


def ray_folder(name: str = "ray", environment: Mapping[str, str] = os.environ) -> Path:
    """Where a Ray that is started here keeps its sessions. EngineError where it can be neither private nor short.

    Args:
        name: of the place inside the private folder; clusters with different names share nothing.
    """
    chosen = environment.get(CHOSEN)
    if chosen:
        parent = Path(chosen).expanduser().absolute()
    else:
        parent = Path(tempfile.gettempdir())
        if _too_long(_inside(parent) / name):  # macOS and batch systems have long ones
            parent = Path("/tmp")
    place = _inside(parent) / name
    if _too_long(place):
        room = SOCKET_PATH_BYTES - RAY_ADDS_BYTES - (len(os.fsencode(place)) - len(os.fsencode(parent)))
        raise EngineError(
            f"the path is too long for Ray's sockets: at most {room} bytes, it has {len(os.fsencode(parent))}",
            where=f"{CHOSEN}={chosen}" if chosen else parent,
            next_command=f"export {CHOSEN}=/tmp   # or another short folder on a disk of this machine",
        )
    _make_private(place.parent)
    return place


def short_name(path: Path | str) -> str:
    """Eight letters that stand for a path of any length."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def _inside(parent: Path) -> Path:
    return parent / f"posegen-{os.getuid()}"


def _too_long(place: Path) -> bool:
    return len(os.fsencode(place)) + RAY_ADDS_BYTES > SOCKET_PATH_BYTES


def _make_private(folder: Path) -> None:
    """Makes the folder, or makes sure that it is a folder of ours which nobody else can enter.

    Others may write into /tmp: a link, or a folder of theirs that has our name, must not be taken.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise EngineError(
                "somebody else's file or folder is where Ray's private folder has to be",
                where=folder,
                next_command=f"export {CHOSEN}=FOLDER   # one that only you can write to, with a short path",
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
            if stat.S_IMODE(folder.lstat().st_mode) & 0o077:
                raise EngineError(
                    "this file system cannot keep other users out of a folder",
                    where=folder,
                    next_command=f"export {CHOSEN}=/tmp   # or another short folder on a disk of this machine",
                )
    except OSError as error:
        raise EngineError(
            f"Ray's private folder cannot be made: {error.strerror or error}",
            where=folder,
            next_command=f"export {CHOSEN}=FOLDER   # one that you can write to, with a short path",
        ) from error
