"""The report's part on the target: what it looks like, what was lifted, whom the estimator fails on, before and after.

Nothing here needs 3-D truth: errors are of reprojection on the target's own pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posegen.errors import DataError
from posegen.files.pictures import read_rgb
from posegen.tracking.report.cells import change_cell
from posegen.tracking.report.findings import Estimate
from posegen.tracking.report.page import PagePicture, page_picture
from posegen.tracking.report.run_directory import Missing, RunDirectory
from posegen.tracking.report.style import arm_look

ENOUGH = 20  # people held out from which on a change is judged


def target_values(run: RunDirectory) -> dict[str, Any]:
    """What the template shows of the target; `target` is empty without one."""
    told: Mapping[str, Any] = run.summary.get("target") or {}
    if not told:
        return {"target": None}
    reprojection: Mapping[str, Any] = told.get("reprojection") or {}
    return {
        "target": {
            "facts": _facts(told),
            "left_out": sorted((told.get("left_out") or {}).items()),
            "sheet": _picture(run, "sheet.png", "people of the target with their hypotheses"),
            "failures": _picture(run, "failures.png", "people on whom the estimator reprojects worst"),
            "method": arm_look(run.method).label if run.method else "before",
            "rows": [_row(arm, reprojection[arm], run.method) for arm in run.arms if arm in reprojection],
            "held": max((cell.get("images", 0) for cell in reprojection.values()), default=0),
            "views": [_view(row) for row in told.get("by_view") or []],
            "no_pictures": not told.get("pictures"),
        }
    }


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    def spread(key: str, unit: str) -> str:
        low, middle, high = told[key]
        return f"{low:g} / {middle:g} / {high:g} {unit} (5, 50, 95 % of the people)"

    facts = [("people lifted", f"{told.get('people', 0)}, {told.get('hypotheses', 0)} hypotheses each")]
    facts += [("people held out", str(told.get("held_out", 0)))]
    facts += [("keypoints", str(told.get("joint_set", "")))]
    if "elevation_deg_5_50_95" in told:
        facts.append(("camera's elevation", spread("elevation_deg_5_50_95", "degrees")))
    if "distance_m_5_50_95" in told:
        facts.append(("camera's distance", spread("distance_m_5_50_95", "m")))
    if "reprojection_sides_median" in told:
        share = 100 * float(told["reprojection_sides_median"])
        facts.append(("keypoints met by lifting", f"to {share:.1f} % of the box (median)"))
    if "weight_of_best_mean" in told:
        facts.append(("weight of the best hypothesis", f"{100 * float(told['weight_of_best_mean']):.0f} % in the mean"))
    return facts


def _row(arm: str, cell: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    estimate, change = Estimate.of(cell), Estimate.of(cell.get("change"))
    return {
        "label": arm_look(arm).label,
        "method": arm == method,
        "value": "–" if estimate is None else f"{estimate.value:.2f}",
        "range": "" if estimate is None else f"[{estimate.low:.2f}, {estimate.high:.2f}]",
        # Less is better, as of joint errors; intervals of a few people are not to be trusted.
        "change": change_cell("mpjpe_mm", change, " %", judged=cell.get("images", 0) >= ENOUGH),
    }


def _view(row: Mapping[str, Any]) -> dict[str, str]:
    def number(key: str) -> str:
        value = row.get(key)
        return "–" if value is None else f"{float(value):.2f}"

    people = f"{row.get('people', 0)} ({100 * float(row.get('share', 0)):.0f} %)"
    return {
        "name": str(row["name"]).replace("-", "−"),
        "people": people,
        "before": number("before"),
        "after": number("after"),
    }


def _picture(run: RunDirectory, name: str, alt: str) -> PagePicture | Missing:
    path = run.path / "target" / name
    try:
        pixels = read_rgb(path, turned=False)
    except DataError as error:
        return Missing(f"The picture target/{name}", error.what)
    return page_picture(np.asarray(pixels), alt)
