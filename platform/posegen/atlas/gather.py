"""Brings an atlas' pictures, facts and errors together: renders what is missing, measures what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.atlas.facts import Labels
from posegen.atlas.measured import Measured, measured_shard
from posegen.atlas.plan import ARM_OF, AtlasPlan
from posegen.atlas.rendering import SceneRows
from posegen.atlas.sample import KindOf, Sample, sample_of, tables_of
from posegen.config import ArmTask, PosegenConfig
from posegen.config.schema import EngineConfig
from posegen.devices import default_device
from posegen.estimator.configured import build_estimator
from posegen.experiment.rendering import Rendering
from posegen.files.secrets import masked_words
from posegen.progress import Reporter
from posegen.renderer.surroundings.backgrounds import KINDS, WHITE, Backgrounds
from posegen.scene import Estimator
from posegen.scenes.split import part_from_config


def command_of(plan: AtlasPlan) -> str:
    """What a user types to go on; secrets are masked."""
    return shlex.join(["posegen", "atlas", *masked_words(list(plan.words))])


class Renders(Protocol):
    """Who renders: a Ray cluster or this process, see posegen.experiment.work.Workers."""

    def render(self, rendering: Rendering, progress: Callable[[int], None]) -> Mapping[str, float]: ...


def by_ray(engine: EngineConfig) -> bool:
    """Whether several renderers, or those of a cluster, are at work; one alone needs no Ray."""
    return bool(engine.address) or engine.render_actors > 1


def render_all(plan: AtlasPlan, workers: Renders, reporter: Reporter) -> dict[str, Path]:
    """source -> the finished folder of its shards."""
    config, folders = plan.config, {}
    engine = config.engine
    for source, rows in plan.sources.items():
        folder = plan.scene_folder(source)
        rendering = Rendering(
            factory=SceneRows,
            config=ArmTask(config, ARM_OF[source]),
            rows=rows,
            rows_per_block=min(rows, config.dataset.rows_per_block),
            actors=engine.render_actors,
            num_cpus=engine.cpus_per_renderer,
            num_gpus=engine.gpus_per_renderer,
            folder=str(folder.absolute()),
            buffer_mb=engine.buffer_mb,
            fingerprint=plan.scene_digest(source),
            command=command_of(plan),
        )
        with reporter.stage(f"rendering {rows} scenes of the {source}", rows) as bar:
            workers.render(rendering, partial(bar.update, total=rows))
        folders[source] = folder
    return folders


def measure_all(
    plan: AtlasPlan, folders: Mapping[str, Path], reporter: Reporter
) -> tuple[Sample, Measured, Measured | None]:
    """Facts of all pictures and the errors before and, if there are such weights, after."""
    subjects, kind_of = subject_names(plan.config), background_kinds(plan.config)
    batch = plan.config.evaluation.batch
    samples: list[Sample] = []
    before: list[Measured] = []
    after: list[Measured] = []
    whose = [("before", None, before)] + ([(plan.after_label, plan.after, after)] if plan.after else [])
    total = sum(plan.sources.values())
    for label, weights, into in whose:
        build = estimator_of(plan, weights)
        place = plan.folder / "measured" / plan.measured_key(weights)
        with reporter.stage(f"errors of {plan.config.estimator.name}, {label}", total) as bar:
            done = 0
            bar.update(0, total)
            for source, folder in folders.items():
                for name, table in tables_of(folder):
                    if into is before:
                        samples.append(sample_of(table, source, subjects, kind_of))
                    file = place / f"{folder.name}-{Path(name).stem}.npz"
                    into.append(measured_shard(file, table, build, batch))
                    done += table.num_rows
                    bar.update(done, total, f"{np.mean(np.concatenate([part.mpjpe_mm for part in into])):.0f} mm")
    return Sample.joined(samples), Measured.joined(before), Measured.joined(after) if after else None


def estimator_of(plan: AtlasPlan, weights: Path | None) -> Callable[[], Estimator]:
    """Builds the estimator when it is first asked for, once."""

    @lru_cache(maxsize=1)
    def build() -> Estimator:
        made = build_estimator(plan.config, default_device(), str(weights) if weights else None)
        if isinstance(made, torch.nn.Module):
            made.eval()
        return made

    return build


def subject_names(config: PosegenConfig) -> tuple[str, ...]:
    """The people of the renderer, in the order in which scenes count them."""
    from posegen.scenes.world import build_renderer

    return tuple(str(name) for name in build_renderer(config, torch.device("cpu"))[0].subjects)


def background_kinds(config: PosegenConfig) -> KindOf:
    """What a background's seed shows."""
    part = part_from_config("pool", config.split["parts"]["pool"])
    drawer = Backgrounds(part.background.pool, config.background.photos, part.background.kinds)

    def kind_of(seeds: NDArray[np.int64]) -> Labels:
        kinds = np.array(KINDS)[drawer.kind_of(torch.from_numpy(seeds.copy())).numpy()]
        return np.where(seeds == WHITE, "white", kinds).astype(np.str_)

    return kind_of


def arm_sample(folder: Path, arm: str, subjects: Sequence[str], kind_of: KindOf, most: int, total: int) -> Sample:
    """At most `most` rows of an arm's data set of `total` rows, evenly spread."""
    every = max(1, -(-total // most))
    parts = []
    for _, table in tables_of(folder):
        part = sample_of(table, arm, subjects, kind_of)
        parts.append(part.take(part.row_id % every == 0))
    return Sample.joined(parts)
