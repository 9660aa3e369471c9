"""`posegen atlas`: where an estimator fails, in pictures, words and numbers. Nothing is trained."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from posegen.atlas.analysis import Atlas, as_json, build_atlas, rows_table, tails_by_source
from posegen.atlas.clusters import POOL, TARGET, mended, regressions, worst
from posegen.atlas.gather import (
    Renders,
    arm_sample,
    background_kinds,
    by_ray,
    command_of,
    measure_all,
    render_all,
    subject_names,
)
from posegen.atlas.generated import COMPARED, MOST_ROWS, POSE, ArmLooks, RealPoses, against_real
from posegen.atlas.page import write_page
from posegen.atlas.plan import AtlasPlan, plan_of
from posegen.errors import ConfigError
from posegen.files.atomic import replacing, write_json
from posegen.files.lock import locked
from posegen.progress import Reporter, duration
from posegen.tracking.report.tables import Row, align

HELP = """posegen atlas [estimator=NAME] [target=...] [key=value ...]
posegen atlas run=NAME [arm=ARM]
posegen atlas after=FILE ...

Where an estimator fails, how often and under what conditions, as one HTML file with the numbers beside it. Nothing is
trained: scenes are drawn and rendered, the error is measured on each, and those that are alike are grouped and named.

  estimator=NAME              any, also callable, http, onnx; with estimator.checkpoint=FILE
  scenes=4000                 atlas.scenes: drawn from the proposal
  target.lifted=FILE          lifted.npz of `posegen lift`: scenes of your own people and cameras as well
  target=keypoints target.keypoints=FILE   the same, lifted now
  after=FILE                  the same estimator's weights after fine-tuning: what got worse, what got better
  run=NAME                    estimator, scenes and fine-tuned weights of a run, and what its arms generated
  arm=ARM                     of the run, whose weights are compared
  atlas.groups=24             that pictures are sorted into; atlas.shown=6 of them with pictures
  atlas.output=FOLDER         where it goes

Stopped by Ctrl-C, the same command goes on where it was.

examples
  posegen atlas
  posegen atlas estimator=callable estimator.options.function=my_module:predict estimator.options.joint_set=coco17
  posegen atlas run=latest
"""

PAGE, NUMBERS, ROWS = "atlas.html", "atlas.json", "rows.parquet"


def main(argv: list[str]) -> int:
    """The command line; returns the exit status. Raises PosegenError."""
    if any(word in ("-h", "--help", "help") for word in argv):
        sys.stdout.write(HELP)
        return 0
    reporter = Reporter()
    plan = plan_of(argv)
    check(plan, reporter)
    plan = with_target(plan, reporter)
    with locked(plan.folder, say=reporter.say, what="atlas", next_command="wait for it, or give atlas.output=FOLDER"):
        try:
            atlas = make_atlas(plan, reporter)
        except KeyboardInterrupt:
            reporter.say(f"stopped; what is rendered and measured is kept. To go on: {command_of(plan)}")
            raise
    tell(plan, atlas, reporter)
    return 0


def check(plan: AtlasPlan, reporter: Reporter) -> None:
    """All that can be seen to be wrong now and not after the rendering."""
    from posegen.assets import ensure
    from posegen.config.places import check_places
    from posegen.estimator.configured import build_estimator
    from posegen.target.lifted import read_lifted

    check_places(plan.config)
    ensure(progress=lambda line: reporter.say(f"assets: {line}"))
    build_estimator(plan.config)
    if plan.after is not None:
        build_estimator(plan.config, checkpoint=str(plan.after))
    if plan.config.target.lifted:
        read_lifted(plan.config.target.lifted)


def with_target(plan: AtlasPlan, reporter: Reporter) -> AtlasPlan:
    """The plan with its target lifted, where it names keypoints or pictures that are not."""
    target = plan.config.target
    if target.lifted:
        return plan
    if target.embedded:
        raise ConfigError(
            "the stand-ins' own target parts are lifted by a run", where="target=embedded",
            next_command="posegen run experiment=quickstart_target, then posegen atlas run=latest",
        )  # fmt: skip
    if not (target.keypoints or target.images):
        return plan
    from posegen.target.command import lift_target
    from posegen.target.lifted import LIFTED

    _, folder = lift_target(plan.config, reporter)
    lifted = replace(target, lifted=str((folder / LIFTED).absolute()))
    return replace(plan, config=replace(plan.config, target=lifted))


def make_atlas(plan: AtlasPlan, reporter: Reporter) -> Atlas:
    """Renders, measures, sorts, writes."""
    from posegen.estimator import trainable
    from posegen.estimator.configured import build_estimator

    started = time.monotonic()
    with _renderers(plan, reporter) as workers:
        folders = render_all(plan, workers, reporter)
    sample, before, after = measure_all(plan, folders, reporter)
    with reporter.stage("sorting and drawing"):
        seed = plan.config.seed
        atlas = build_atlas(sample, before, after, plan.settings, seed)
        arms, references, arm_folders = arms_of(plan, sample)
        facts = about(plan, atlas, time.monotonic() - started)
        write_page(atlas, facts, plan.settings, folders, plan.folder / PAGE, arms, references, arm_folders)
        numbers = as_json(atlas, {key: facts[key] for key in ("estimator", "weights", "after_label", "run", "made")})
        numbers["arms"] = {arm.arm: arm.summary() for arm in arms}
        write_json(plan.folder / NUMBERS, numbers, nan=False)
        _write_rows(atlas, plan.folder / ROWS)
    if plan.run is not None and (plan.run / "report.html").is_file():
        from posegen.tracking.report.report import build_report

        with reporter.stage("a link in the run's report"):
            build_report(plan.run)
    if not trainable(build_estimator(plan.config)):
        # What stands behind a function or an address may change unseen: its answers serve this atlas alone.
        shutil.rmtree(plan.folder / "measured", ignore_errors=True)
    return atlas


def arms_of(plan: AtlasPlan, sample: Any) -> tuple[list[ArmLooks], dict[str, dict[str, Any]], dict[str, Path]]:
    """What a run's arms generated, with what they are held against; nothing without a run."""
    from posegen.body.model import load_body
    from posegen.scenes.world import real_poses
    from posegen.shards.reader import read_shards
    from posegen.tracking.report.run_directory import RunDirectory

    if plan.run is None:
        return [], {}, {}
    folders = {arm: plan.run / "dataset" / arm for arm in RunDirectory(plan.run).generated_arms}
    folders = {arm: folder for arm, folder in folders.items() if any(folder.glob("part-*.parquet"))}
    subjects, kind_of = subject_names(plan.config), background_kinds(plan.config)
    samples = {
        arm: arm_sample(folder, arm, subjects, kind_of, MOST_ROWS, len(read_shards(folder)))
        for arm, folder in folders.items()
    }
    if not samples:
        return [], {}, {}
    body = load_body(plan.config.body.path, resolution=plan.config.body.resolution)
    real = RealPoses(real_poses(plan.config), body)
    proposed, poses = sample.take(sample.source == POOL).facts, real.facts()
    references: dict[str, dict[str, Any]] = {POOL: {name: poses[name] if name in POSE else proposed[name]
                                                    for name in COMPARED}}  # fmt: skip
    if (sample.source == TARGET).any():
        seen = sample.take(sample.source == TARGET).facts
        references[TARGET] = {name: seen[name] for name in COMPARED}
    return against_real(samples, real, references), references, folders


def about(plan: AtlasPlan, atlas: Atlas, seconds: float) -> dict[str, Any]:
    """What the page tells of how it was made."""
    config = plan.config
    settings = config.estimator
    counts = {source: int((atlas.sample.source == source).sum()) for source in atlas.sources}
    pictures = " and ".join(f"{count:,} of the {source}" for source, count in counts.items())
    made = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    run = plan.run.name if plan.run else None
    estimator = settings.name
    own = settings.checkpoint
    whose = f"estimator={estimator}" + (f" estimator.checkpoint={own}" if own else "")
    following = [f"posegen run {whose}   # generates what it fails at and fine-tunes on it"]
    if plan.run is None:
        following.append(f"posegen atlas {whose} after=FILE   # the same groups after fine-tuning")
    told = [
        pictures,
        f"{config.image_size} px",
        f"{len(atlas.groups)} groups",
        f"seed {config.seed}",
        f"{made} UTC",
    ]
    return {
        "estimator": estimator,
        "weights": settings.weights(),
        "after_label": plan.after_label if plan.after else None,
        "run": run,
        "made": made,
        "byline": " · ".join(told),
        "command": command_of(plan),
        "next": "\n".join(following),
        "facts": [
            ("estimator", f"{estimator}, weights {settings.weights()}"),
            *([("compared with", plan.after_label)] if plan.after else []),
            ("pictures", pictures),
            ("pool", "real poses with joint noise, cameras from everywhere: what generators start from"),
            *([("target", "around your lifted people and their cameras")] if TARGET in atlas.sources else []),
            ("joints compared", f"{len(atlas.before.joint_names)}: {', '.join(atlas.before.joint_names)}"),
            ("groups", "k-means of joints in the trunk's frame, direction and elevation of the camera, distance, "
                       "brightness, contrast and self-occlusion"),
            ("time", duration(seconds)),
        ],
    }  # fmt: skip


def tell(plan: AtlasPlan, atlas: Atlas, reporter: Reporter) -> None:
    """The worst groups and the tail on the terminal, where the files are, what to type next."""
    groups = [*regressions(atlas.groups)[:3], *mended(atlas.groups)[:3]] if atlas.after else worst(atlas.groups, 6)
    header = ["worst first" if not atlas.after else "worse first, then better", "mean", "pictures", "error"]
    rows: list[Row] = []
    for group in groups:
        change = f" {group.change_mm.value:+.0f}" if group.change_mm else ""
        cells = [f"{100 * share:.1f} %" for share in (group.common[POOL], group.carried[POOL])]
        rows.append([(f"{group.number}. {group.name}", ""), ("", f"{group.mean_mm.value:.0f} mm{change}"),
                     *[("", cell) for cell in cells]])  # fmt: skip
    if rows:
        reporter.say("\n" + align(header, rows) + "\n")
    for source, figures in tails_by_source(atlas).items():
        for when, told in figures.items():
            reporter.say(
                f"{source}, {when}: mean {told['mean_mm']:.1f} mm, worst 10 % {told['worst_10_mm']:.1f} mm, worst 5 % "
                f"{told['worst_5_mm']:.1f} mm, over 150 mm {100 * told['over_150_mm']:.1f} %"
            )
    reporter.say(f"page     {plan.folder / PAGE}")
    reporter.say(f"numbers  {plan.folder / NUMBERS}, {ROWS}")
    words = [word for word in plan.words if word.startswith(("estimator", "target", "body"))]
    reporter.say(f"next: posegen run {' '.join(words)}".rstrip() if not plan.run else "next: posegen compare")


@contextmanager
def _renderers(plan: AtlasPlan, reporter: Reporter) -> Iterator[Renders]:
    """This process, or the cluster."""
    engine = plan.config.engine
    if not by_ray(engine):
        from posegen.experiment.in_process import InProcess

        yield InProcess()
        return
    from posegen.engine.cluster import connect, disconnect
    from posegen.engine.nodes import check_nodes
    from posegen.engine.workers import RayWorkers

    cluster = connect(engine.address, cpus=engine.cpus, object_store_mb=engine.object_store_mb, verbose=engine.verbose)
    reporter.say(str(cluster))
    try:
        if not cluster.started_here:
            check_nodes(plan.outputs.absolute(), reporter.say)
        yield RayWorkers(plan.config)
    finally:
        if cluster.started_here:
            disconnect()


def _write_rows(atlas: Atlas, file: Path) -> None:
    import pyarrow.parquet as pq

    with replacing(file) as partial:
        pq.write_table(rows_table(atlas), partial, compression="zstd")
