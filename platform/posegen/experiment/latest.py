"""outputs/latest: a link to the newest run, a convenience that fails no run."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)


def make_latest(run: Path, outputs: Path) -> None:
    """Points outputs/latest at a run, where the file system has links."""
    outputs = Path(os.path.abspath(outputs.expanduser()))
    link = outputs / "latest"
    temporary = outputs / f".latest.{os.getpid()}"
    try:
        temporary.symlink_to(os.path.relpath(run, outputs), target_is_directory=True)
        os.replace(temporary, link)
    except OSError as error:
        logger.warning("%s does not lead to this run (%s); it is in %s", link, error.strerror, run)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
