"""Settings of how an arm's rows are chosen among candidates."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import choice, number, share
from posegen.feedback.config import ERRORS


@dataclass(frozen=True)
class SelectionConfig:
    """How rows are chosen among candidates. What is rendered beyond the rows is counted in the run's report.

    Attributes:
        factor: candidates rendered for each row; 1 chooses nothing.
        error: which one they are ranked by; mpjpe sees which way a person faces, and to choose by that harms.
        hard_share: of the rows, those chosen for their error; the others are the first candidates.
        drop_top: share of the candidates, the very hardest, that is never chosen for its error.
        per_anchor: rank within each anchor instead of over all candidates; for arms around a target.
    """

    factor: int = number(3, low=1)
    error: str = choice("pa_mpjpe", ERRORS)
    hard_share: float = share(0.5)
    drop_top: float = share(0.1)
    per_anchor: bool = False

    @property
    def chooses(self) -> bool:
        """Whether anything is rendered to be chosen from."""
        return self.factor > 1 and self.hard_share > 0
