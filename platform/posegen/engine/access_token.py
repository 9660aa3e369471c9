"""The token that every call to a Ray of ours must bring: made once for a user, readable by that user alone.

Looked for as Ray does, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token, then ours in the cache. Where the
cache's file system cannot keep a file to one user (exFAT, a mounted bucket), ours is in this machine's private folder.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from pathlib import Path

from posegen.errors import DataError, EngineError
from posegen.files.atomic import write_text
from posegen.files.lock import locked

logger = logging.getLogger(__name__)

NAME = "auth_token"
MOST_BYTES = 4096


def token_path() -> Path:
    """Where the token of clusters started by posegen is kept, or would be."""
    first = _in_cache()
    if first.is_file() and _private(first):
        return first
    second = _on_this_machine()
    return second if second.is_file() else first


def home_token() -> Path | None:
    """~/.ray/auth_token, made by `ray get-auth-token`; None where it is not, or the user has no home."""
    try:
        path = Path.home() / ".ray" / NAME
    except RuntimeError:  # a user id without an account
        return None
    return path if path.is_file() else None


def read_token(path: Path, where: object | None = None) -> str | None:
    """The token in a file; None if the file is empty. EngineError if there is no such file or no token in it."""
    wrong = ""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("ascii").strip()
        if len(text) > MOST_BYTES or not all("!" <= letter <= "~" for letter in text):
            wrong = "the token file holds something else than one word"
    except FileNotFoundError:
        wrong = "the token file does not exist"
    except (OSError, UnicodeDecodeError) as error:
        wrong = f"the token file cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
    if wrong:
        raise EngineError(
            wrong, where=where or path, next_command="set RAY_AUTH_TOKEN_PATH to the cluster's token file"
        )
    return text or None


def set_token() -> None:
    """Gives Ray a token that only this user can read. A mode, token or token file chosen by the user is left alone.

    Ray itself would write one to ~/.ray/auth_token, readable as the umask says.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"].lower() != "token":
        return
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or home_token():
        return
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(_made())


def _in_cache() -> Path:
    from posegen.assets import cache_dir

    return cache_dir() / "ray" / NAME


def _on_this_machine() -> Path:
    from posegen.engine.private_folder import ray_folder

    return ray_folder().parent / NAME


def _made() -> Path:
    path = _in_cache()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            _make(path)
        if _private(path):
            return path
    except (OSError, DataError) as error:
        reason = error.what if isinstance(error, DataError) else error.strerror or error
        raise EngineError(
            f"the token of Ray clusters cannot be written: {reason}",
            where=path,
            next_command="export POSEGEN_CACHE=FOLDER   # one that you can write to",
        ) from error
    logger.info("%s cannot be kept to one user: the token is on this machine's own disk instead", path)
    path.unlink(missing_ok=True)
    second = _on_this_machine()
    if not second.is_file():
        _make(second)
    return second


def _private(path: Path) -> bool:
    """Whether nobody else can read it, after having tried to make it so."""
    if path.stat().st_mode & 0o077:
        try:
            path.chmod(0o600)
        except OSError as error:
            logger.debug("%s: %s", path, error)
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def _make(path: Path) -> None:
    """Of several that come here together one makes it, and all use its token."""
    with locked(path.parent, wait=True, what="folder of the token"):
        if not path.is_file():
            write_text(path, secrets.token_hex(32), mode=0o600)
