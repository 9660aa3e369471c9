"""One line of the doctor's report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK, INFO, WARNING, ERROR = "ok", "info", "warning", "error"
MARKS = {OK: "ok", INFO: "--", WARNING: "??", ERROR: "!!"}


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not well.

    Args:
        section: heading; name: what was looked at; state: ok, info (absent but not needed), warning or error.
        detail: version, size or place; hint: what to do.
    """

    section: str
    name: str
    state: str
    detail: str
    hint: str = ""

    def lines(self) -> list[str]:
        shown = [f"  {MARKS[self.state]}  {self.name:<24} {self.detail}".rstrip()]
        return shown + [f"        {line}" for line in self.hint.splitlines()]


def exit_status(findings: Sequence[Finding]) -> int:
    """1 when anything that is needed is wrong, else 0."""
    return int(any(finding.state == ERROR for finding in findings))


def report(findings: Sequence[Finding]) -> str:
    """All findings under their headings, in the order of their first appearance."""
    lines: list[str] = []
    for section in dict.fromkeys(finding.section for finding in findings):
        lines.append(section)
        for finding in findings:
            if finding.section == section:
                lines.extend(finding.lines())
    counts = {state: sum(finding.state == state for finding in findings) for state in MARKS}
    lines.append(
        f"{counts[OK]} ok, {counts[INFO]} not there and not needed, {counts[WARNING]} warnings, {counts[ERROR]} errors"
    )
    return "\n".join(lines)
