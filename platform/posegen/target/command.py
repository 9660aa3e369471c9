"""`posegen lift`: from the user's keypoints or pictures to people in the world with their cameras."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from posegen.config import PosegenConfig, compose, parts_of
from posegen.experiment.stages import digest_of
from posegen.progress import Reporter
from posegen.target.lifted import LIFTED, Lifted, write_lifted
from posegen.target.opinion import Opinion
from posegen.target.people import people_of
from posegen.target.readers import KINDS, read_target
from posegen.target.run_lift import lift, people_to_lift
from posegen.target.summary import summary

HELP = """usage: posegen lift target.keypoints=FILE [target.images=FOLDER] [key=value ...]

Lifts 2-D keypoints to people in the world with their cameras: several hypotheses each, with scores.

  target.keypoints=FILE     {kinds}
  target.images=FOLDER      pictures; without keypoints BlazePose finds them
  target.boxes=FILE         people in whole pictures: JSON {{"picture.jpg": [[x, y, width, height], ...]}}
  target.joint_set=NAME     of the keypoints, where the format leaves it open
  target.hypotheses=6       of each person
  target.agree_with=NAME    an estimator, such as blazepose, that speaks for hypotheses near to what it sees
  target.output=FOLDER      where lifted.npz, sheet.png and summary.json go
  mocap.path=DIR body.path=DIR   other real poses, another body

Stopped by Ctrl-C, the same command goes on where it was.
"""


def output_folder(config: PosegenConfig) -> Path:
    """Where the result goes: as told, or named by what is lifted and how, so that the same call finds the same."""
    told = config.target.output
    if told:
        return Path(told).expanduser()
    about = digest_of(parts_of(config, "target", "mocap", "body", "split"))
    return Path(config.run.outputs) / f"lift-{about}"


def lift_target(config: PosegenConfig, reporter: Reporter) -> tuple[Lifted, Path]:
    """Lifts the configuration's target; returns the result and the folder that holds it."""
    from posegen.body.model import load_body
    from posegen.scenes.world import real_poses

    settings = config.target
    folder = output_folder(config)
    target = read_target(settings)
    body = load_body(config.body.path, resolution=config.body.resolution)
    parts, opinion = folder / "parts", Opinion(config, target)
    with reporter.stage(f"lifting {len(target)} people", len(target)) as bar:

        def tell(what: str, done: int, total: int) -> None:
            bar.update(done, total, what)

        people = people_of(people_to_lift(target, settings, parts, tell), held_share=0.0)
        lifted = lift(people.target, body, real_poses(config), settings, parts, tell)
        lifted = opinion(lifted, people, body, parts, tell)
    write_lifted(lifted, folder / LIFTED)
    (folder / "summary.json").write_text(json.dumps(summary(lifted), indent=1) + "\n")
    return lifted, folder


def main(argv: list[str]) -> int:
    """The command line; returns the exit status."""
    if any(word in ("-h", "--help", "help") for word in argv):
        sys.stdout.write(HELP.format(kinds=("\n" + " " * 28).join(KINDS)))
        return 0
    from PIL import Image

    from posegen.body.model import load_body
    from posegen.target.sheet import sheet

    config = compose(argv)
    reporter = Reporter()
    lifted, folder = lift_target(config, reporter)
    body = load_body(config.body.path, resolution=config.body.resolution)
    Image.fromarray(sheet(lifted, body)).save(folder / "sheet.png")
    told = summary(lifted)
    for reason, count in lifted.left_out.items():
        reporter.say(f"left out {count}: {reason}")
    low, middle, high = told["elevation_deg_5_50_95"]
    reporter.say(
        f"{told['people']} people, {told['hypotheses']} hypotheses each; keypoints met to "
        f"{100 * told['reprojection_sides_median']:.1f} % of the box (median); cameras' elevation {low:.0f} / "
        f"{middle:.0f} / {high:.0f} degrees (5, 50, 95 %)"
    )
    reporter.say(f"wrote {folder / LIFTED}, {folder / 'sheet.png'}")
    reporter.say(f"  next: posegen run target.lifted={folder / LIFTED} dataset.arms=[random,anchors]")
    return 0
