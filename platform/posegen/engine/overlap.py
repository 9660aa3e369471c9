"""A generator's training, the rendering of its rows and the fine-tuning on them, all at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from posegen.engine.online import Online
from posegen.engine.side_by_side import SideBySide, what_of
from posegen.engine.versions import VersionBoard
from posegen.experiment.rendering import Rendering

Result = TypeVar("Result")
STOP_S = 30.0  # for a training that is told to stop


class Overlap:
    """What the three share: the board of versions, the renderers, and an end that comes to all of them.

    Args:
        rendering: how rows are rendered; see posegen.engine.online.Online.
        max_age: see there.
        on_row: told of each row of metrics of the fine-tuning: by the first, all three have what they need.
    """

    def __init__(self, rendering: Rendering, max_age: int, on_row: Callable[[object], None] = lambda row: None) -> None:
        self.board = VersionBoard()
        self.together = SideBySide()
        self.online = Online(rendering, self.board, max_age)
        self.on_row = on_row

    def run(self, train: Callable[[], object], finetune: Callable[[], Result]) -> Result:
        """Fine-tunes in this thread while another trains. Returns when both have ended.

        If the training fails the fine-tuning ends at once, with the training's error: it would go on with a generator
        that is half trained. If the fine-tuning fails or is interrupted, the training stops at its last checkpoint.
        """
        errors: list[BaseException] = []

        def training() -> None:
            try:
                train()
                self.board.end()
            except BaseException as error:
                errors.append(error)
                if not self.together.stopping.is_set():
                    self.board.fail(what_of(error))

        thread = threading.Thread(target=training, name="posegen-overlap", daemon=True)
        self.online = self.online.started()
        thread.start()
        try:
            result = finetune()
            while thread.is_alive():  # with a timeout, so that Ctrl-C is seen
                thread.join(0.2)
        except BaseException as error:
            if errors and not isinstance(error, KeyboardInterrupt):
                raise errors[0] from error
            self._stop(thread)
            raise
        finally:
            self.online.close()
        if errors:
            raise errors[0]
        return result

    def counts(self) -> dict[str, int]:
        """What the board has seen: versions published, rows used, rows that were too old and rendered again."""
        events = self.board.events()
        return {
            "versions": sum(event.kind == "published" for event in events),
            "rows_used": sum(event.rows for event in events if event.kind == "taken"),
            "rows_dropped": sum(event.rows for event in events if event.kind == "dropped"),
        }

    def _stop(self, thread: threading.Thread) -> None:
        for _ in range(int(STOP_S / 0.5)):
            self.together.stop()
            thread.join(0.5)
            if not thread.is_alive():
                return
