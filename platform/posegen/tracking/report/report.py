"""The report of a run: one HTML file that holds everything, opens anywhere and asks nothing of the network.

    build_report(Path("outputs/latest"))

A part that the run did not leave behind is named with its reason, and the report is built all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posegen.arms.registry import in_order
from posegen.benchmarks.measure.trainings import few_trainings
from posegen.files.secrets import masked
from posegen.progress import duration
from posegen.tracking.report import plots
from posegen.tracking.report.breakdowns import breakdown
from posegen.tracking.report.cells import change_cell
from posegen.tracking.report.findings import (
    METRIC_NAMES,
    Estimate,
    Rivalry,
    average_change,
    finding_sentence,
    kept_sentence,
    number_word,
    rival_sentence,
    rivalries,
    unmoved_sentence,
)
from posegen.tracking.report.gallery import FIXED_SHARE, Gallery
from posegen.tracking.report.page import PagePlot, page_picture, page_plot, render
from posegen.tracking.report.pictures import PREDICTION, TRUTH, Colour, Skeleton, overlay
from posegen.tracking.report.run_directory import Missing, RunDirectory
from posegen.tracking.report.scalars import curve_keys, names_of, scalar_name
from posegen.tracking.report.split_page import listed, split_table
from posegen.tracking.report.style import arm_look
from posegen.tracking.report.target_page import target_values
from posegen.tracking.store.names import flatten

TILES_PER_GROUP = 9
SAMPLES_PER_ARM = 14
MOST_CLIPS = 40  # rows of a benchmark's table by clip


def build_report(run_dir: Path, name: str = "report.html") -> Path:
    """Writes `<run_dir>/report.html` and returns its path."""
    run = RunDirectory(run_dir)
    rivals = rivalries(run)
    summary = run.summary
    values = {
        "name": run.name,
        "finding": finding_sentence(run),
        "rivalry": rival_sentence(run, rivals),
        "unmoved": unmoved_sentence(run),
        "kept": kept_sentence(run),
        "byline": _byline(summary),
        "problems": [run.summary_problem] if run.summary_problem else [],
        "tuned": run.method is not None,
        "method_label": arm_look(run.method).label if run.method else "generated",
        "arm_rows": [(arm_look(arm).label, arm_look(arm).meaning or "–") for arm in run.arms],
        "results_title": _results_title(run),
        **_results(run, rivals),
        "breakdown": breakdown(run),
        **target_values(run),
        "budget": _budget(run),
        **_gallery(run),
        **_generated(run),
        **_curves(run),
        **_facts(run),
        "commands": _commands(run),
        "atlas": (run.path / "atlas" / "atlas.html").is_file(),
        "config": run.config_text or _yaml(masked(run.config)),
        "damaged": run.damaged,
    }
    return render("report.html", run.path / name, **values)


def _budget(run: RunDirectory) -> list[tuple[str, list[str]]]:
    """Of each arm: images trained on, images rendered only to choose from, steps, the step whose weights were kept."""
    told: Mapping[str, Mapping[str, int]] = run.summary.get("budget") or {}

    def numbers(budget: Mapping[str, int]) -> list[str]:
        steps = int(budget.get("steps", 0))
        given = (int(budget.get("images", 0)), int(budget.get("rendered_to_choose", 0)), steps)
        return [f"{number:,}" for number in (*given, int(budget.get("kept_step", steps)))]

    return [(arm_look(arm).label, numbers(told[arm])) for arm in run.arms if arm in told]


def _byline(summary: Mapping[str, Any]) -> str:
    parts = [str(summary.get("experiment", "")), f"seed {summary['seed']}" if "seed" in summary else ""]
    parts += [str(summary.get("created", ""))[:16].replace("T", " "), str(summary.get("git_commit") or "")[:10]]
    return " · ".join(part for part in parts if part)


def _results_title(run: RunDirectory) -> str:
    benchmarks = len(run.summary.get("benchmarks") or {})
    return f"{number_word(benchmarks).capitalize()} benchmarks, {number_word(len(run.arms))} arms"


def _value_cell(by_arm: Mapping[str, Any], arm: str, metric: str) -> dict[str, Any]:
    value = Estimate.of(by_arm.get("arms", {}).get(arm, {}).get(metric))
    difference = Estimate.of(by_arm.get("difference", {}).get(arm, {}).get(metric)) if arm != "before" else None
    return {
        "value": None if value is None else f"{value.value:.1f}",
        "range": "" if value is None else f"[{value.low:.1f}, {value.high:.1f}]",
        "change": change_cell(metric, difference),
    }


def _results(run: RunDirectory, rivals: list[Rivalry]) -> dict[str, Any]:
    benchmarks: Mapping[str, Any] = run.summary.get("benchmarks") or {}
    metrics = list(run.summary.get("metrics") or METRIC_NAMES)

    def labelled(arm: str) -> dict[str, Any]:
        return {"label": arm_look(arm).label, "method": arm == run.method}

    headline = [
        {
            **labelled(arm),
            "cells": [_value_cell(by_arm, arm, "mpjpe_mm") for by_arm in benchmarks.values()],
            "average": change_cell("mpjpe_mm", average_change(run.summary, arm), " %") if arm != "before" else None,
        }
        for arm in run.arms
    ]
    tables = [
        {
            "name": name,
            "images": by_arm.get("images", "?"),
            "protocol": by_arm.get("protocol", ""),
            "rows": [
                {**labelled(arm), "cells": [_value_cell(by_arm, arm, metric) for metric in metrics]} for arm in run.arms
            ],
            "clips": _clips(by_arm.get("clips") or {}, run.arms),
        }
        for name, by_arm in benchmarks.items()
    ]
    return {
        "headline": headline if benchmarks else [],
        "headline_missing": Missing("The table", "summary.json names no benchmark (the evaluation has not ended)"),
        "benchmark_names": list(benchmarks),
        "benchmarks": tables,
        "metric_names": [METRIC_NAMES.get(metric, metric) for metric in metrics],
        "result_plots": _result_plots(run, benchmarks),
        "arm_labels": [arm_look(arm).label for arm in run.arms],
        "watched_names": list(run.summary.get("watched") or {}),
        "watched": [
            {
                **labelled(arm),
                "cells": [_value_cell(cells, arm, "mpjpe_mm") for cells in (run.summary.get("watched") or {}).values()],
            }
            for arm in run.arms
        ],
        "rivals": [
            {
                "label": arm_look(rival.baseline).label,
                "change": change_cell("mpjpe_mm", rival.difference, " %", judged=False),
                "verdict": few_trainings(1),
            }
            for rival in rivals
        ],
        "protocols": [
            (n, by_arm.get("protocol", "").removeprefix(f"{n}: "))
            for n, by_arm in [*benchmarks.items(), *(run.summary.get("watched") or {}).items()]
        ],
    }


def _clips(clips: Mapping[str, Mapping[str, float]], arms: list[str]) -> list[tuple[str, int, list[str]]]:
    """Clip, number of images, MPJPE by arm; the worst first."""
    return [
        (clip, int(row.get("images", 0)), [f"{row[arm]:.1f}" if arm in row else "–" for arm in arms])
        for clip, row in list(clips.items())[:MOST_CLIPS]
    ]


def _result_plots(run: RunDirectory, benchmarks: Mapping[str, Any]) -> list[PagePlot]:
    if not benchmarks:
        return []
    values = {
        name: {
            arm: cells["mpjpe_mm"]
            for arm, cells in by_arm.get("arms", {}).items()
            if Estimate.of(cells.get("mpjpe_mm")) is not None
        }
        for name, by_arm in benchmarks.items()
    }
    made = [
        page_plot(
            plots.benchmark_dots(values, run.arms),
            "benchmarks",
            "MPJPE of each arm. The intervals are of each arm alone and wide, since images differ in hardness; "
            "the changes in the table are of the same images and much narrower.",
        )
    ]
    average = {
        arm: cells["relative_mpjpe"]
        for arm, cells in run.summary.get("average", {}).items()
        if arm != "before" and Estimate.of(cells.get("relative_mpjpe")) is not None
    }
    if average:
        figure = plots.relative_change(average, [arm for arm in run.arms if arm != "before"])
        made.append(
            page_plot(figure, "average", "The mean of the benchmarks' relative changes, paired on the same images.")
        )
    return made


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _gallery(run: RunDirectory) -> dict[str, Any]:
    colours = {"truth_colour": _css(TRUTH), "prediction_colour": _css(PREDICTION)}
    colours["fixed_percent"] = f"{100 * FIXED_SHARE:.0f}"
    gallery = run.gallery
    if isinstance(gallery, Missing):
        return {"gallery_missing": gallery, "gallery": [], **colours}
    fixed, failed = gallery.most_fixed(), gallery.not_fixed()
    if run.method is None:
        tiles = [_pair(gallery, i) for i in failed[: 2 * TILES_PER_GROUP]]
        return {"gallery_missing": None, "gallery": [{"title": "The largest errors", "tiles": tiles}], **colours}
    groups = [
        {
            "title": f"Fixed: {len(fixed)} of {len(gallery)}, the largest gains first",
            "tiles": [_pair(gallery, i) for i in fixed[:TILES_PER_GROUP]],
        },
        {
            "title": f"Not fixed: {len(failed)} of {len(gallery)}, the largest remaining errors first",
            "tiles": [_pair(gallery, i) for i in failed[:TILES_PER_GROUP]],
        },
    ]
    return {"gallery_missing": None, "gallery": groups, **colours}


def _pair(gallery: Gallery, index: int) -> dict[str, Any]:
    before, after = gallery.error_before_mm[index], gallery.error_after_mm[index]
    name = str(gallery.benchmark[index])
    return {
        "before": page_picture(gallery.picture(index, "before"), f"{name}: prediction before, error {before:.0f} mm"),
        "after": page_picture(gallery.picture(index, "after"), f"{name}: prediction after, error {after:.0f} mm"),
        "caption": f"{name} · {before:.0f} mm → {after:.0f} mm",
        "caption_before": f"{name} · {before:.0f} mm",
    }


def _generated(run: RunDirectory) -> dict[str, Any]:
    births = run.births()
    plot = None
    if births:
        caption = "How hard the images of each arm were for the source estimator when they were made."
        plot = page_plot(plots.error_at_birth(births), "birth", caption)
    groups = []
    for arm in run.generated_arms:
        title = arm_look(arm).label
        samples = run.samples(arm, SAMPLES_PER_ARM)
        if isinstance(samples, Missing):
            groups.append({"title": title, "missing": samples, "tiles": []})
            continue
        tiles = []
        for i in range(len(samples)):
            error = samples.error_at_birth_mm[i]
            said = f"{error:.0f} mm" if np.isfinite(error) else "not measured"
            azimuth, elevation = (round(float(np.degrees(a[i]))) for a in (samples.azimuth_rad, samples.elevation_rad))
            view = f"az {azimuth:+d}° el {elevation:+d}°".replace("-", "−")
            image = overlay(samples.images[i], [Skeleton(samples.joints2d_px[i], TRUTH)], scale=2)
            alt = f"row {samples.row_id[i]} of {title}, error at birth {said}"
            tiles.append({"picture": page_picture(image, alt), "error": said, "view": view})
        groups.append({"title": title, "missing": None, "tiles": tiles})
    return {"births": plot, "generated": groups}


def _curves(run: RunDirectory) -> dict[str, Any]:
    items: list[PagePlot | Missing] = []
    generate, finetune = run.histories("generate"), run.histories("finetune")
    for stage, title, histories in (
        ("generate", "Adversarial training of the generator.", generate),
        ("finetune", "Fine-tuning, an arm a line; all arms take the same number of images and steps.", finetune),
    ):
        keys = curve_keys(histories, plausibility=False)
        if keys:
            items.append(page_plot(plots.curves(histories, keys, names_of(keys)), f"curves-{stage}", title))
        else:
            why = f"{stage}/<arm>/history.jsonl is absent or holds no scalar"
            items.append(Missing(f"The curves of {stage}", why, "are"))
    keys = curve_keys(generate, plausibility=True)
    meter: list[PagePlot | Missing] = [
        page_plot(
            plots.curves(generate, keys, names_of(keys)),
            "plausibility",
            "The plausibility meter over the generator's steps.",
        )
        if keys
        else Missing("The plausibility meter", "generate/<arm>/history.jsonl holds no such scalar")
    ]
    measures: Mapping[str, Mapping[str, Any]] = run.summary.get("generator") or {}
    flat = {arm: flatten(measures[arm]) for arm in in_order(measures) if isinstance(measures[arm], Mapping)}
    names = list(dict.fromkeys(name for numbers in flat.values() for name in numbers))
    return {
        "curves": items,
        "plausibility": meter,
        "generator_labels": [arm_look(arm).label for arm in flat],
        "generator_rows": [
            (scalar_name(name), [_number(numbers.get(name)) for numbers in flat.values()]) for name in names
        ],
    }


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _facts(run: RunDirectory) -> dict[str, Any]:
    summary = run.summary

    def pairs(key: str) -> list[tuple[str, str]]:
        found = summary.get(key)
        return [(name, listed(value)) for name, value in flatten(found).items()] if isinstance(found, Mapping) else []

    timings = {stage: float(s) for stage, s in (summary.get("timings_s") or {}).items() if isinstance(s, int | float)}
    plot = None
    if timings:
        figure = plots.bars(list(timings), list(timings.values()), "seconds")
        plot = page_plot(figure, "timings", f"Wall-clock time of the stages, {_total(summary, timings)} in all.")
    origin = [("seed", str(summary.get("seed", ""))), ("git commit", str(summary.get("git_commit") or "unknown"))]
    split = summary.get("split")
    return {
        "split": split_table(split) if isinstance(split, Mapping) else [],
        "split_text": _yaml(split) if isinstance(split, Mapping) else "",
        "facts": [
            ("Seed and versions", origin + pairs("versions") if summary else []),
            ("Machine", pairs("machine")),
        ],
        "timings": plot,
    }


def _total(summary: Mapping[str, Any], timings: Mapping[str, float]) -> str:
    """What a clock on the wall showed, less than the sum where arms were side by side; runs of before do not tell."""
    wall_s = summary.get("wall_s")
    return duration(wall_s if isinstance(wall_s, int | float) else sum(timings.values()))


def _commands(run: RunDirectory) -> str:
    summary = run.summary
    words = ["posegen", "run"]
    words += [f"experiment={summary['experiment']}"] if summary.get("experiment") else []
    words += [f"seed={summary['seed']}"] if "seed" in summary else []
    commit = str(summary.get("git_commit") or "")
    changed = "   # files were changed since: these changes are not in the commit" if commit.endswith("+") else ""
    lines = [f"git checkout {commit.rstrip('+')}{changed}"] if commit else []
    lines += ["make setup   # once", shlex.join(words), f"posegen compare {run.name} <another run>"]
    lines += [f"posegen atlas run={shlex.quote(run.name)}   # where it fails, before and after"]
    return "\n".join(lines)


def _yaml(config: Mapping[str, Any]) -> str:
    if not config:
        return ""
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False)
