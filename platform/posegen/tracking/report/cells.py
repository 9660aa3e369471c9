"""How a change is shown in a page: a mark, the number, its interval."""

from __future__ import annotations

from posegen.tracking.report.findings import Estimate, direction, signed

# The mark tells whether it got better; PCK that rises is a ▼ of errors too.
MARKS = {"better": "▼", "worse": "▲", "unclear": "○"}


def change_cell(metric: str, difference: Estimate | None, unit: str = "") -> dict[str, str] | None:
    """The pieces of a table cell, None where there is no number."""
    if difference is None:
        return None
    verdict = direction(metric, difference)
    return {
        "verdict": verdict,
        "mark": MARKS[verdict],
        "text": f"{signed(difference.value)}{unit}",
        "range": f"[{signed(difference.low)}, {signed(difference.high)}]",
    }
