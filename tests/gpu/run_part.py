"""A whole run on the card: Ray, one trainer that has a GPU, renderers that share it, cut to two minutes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import report

NEEDED = ("ray", "mlflow", "hydra")
# `experiment=full` with fewer steps and pictures; the arms, stages and sizes of a batch are its own.
CUT = (
    "experiment=full", "adversarial.steps=60", "adversarial.warmup_steps=10", "adversarial.calibration_images=64",
    "dataset.images=2048", "dataset.source_images=1024", "finetune.steps=80", "evaluation.images=16",
)  # fmt: skip
TINY = ("experiment=smoke", "image_size=64")
# The trainer and two renderers share the one card.
SHARED = ("engine.gpus_per_trainer=0.5", "engine.gpus_per_renderer=0.25", "engine.render_actors=2")


def run(words: tuple[str, ...], outputs: Path, limit_s: float) -> tuple[str, float]:
    """The state and wall seconds of one `posegen run`, whose output is printed."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "posegen.cli", "run", *words, f"outputs={outputs}"]
    try:
        code = subprocess.run(
            command, timeout=limit_s, env=os.environ | {"RAY_DEDUP_LOGS": "1"}, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return "out of time", time.monotonic() - begun
    return ("done" if code == 0 else f"exit {code}"), time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--summary", type=Path, required=True, help="where its summary.json is copied to")
    parser.add_argument("--limit-s", type=float, default=140.0)
    arguments = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        report(run_state=f"not tried: {', '.join(missing)} was not carried here (make gpu-wheels, and carry .whl2)")
        return 1
    on_card = SHARED if arguments.device == "cuda" else ()
    words = (*(TINY if arguments.tiny else CUT), *on_card)
    outputs = Path(tempfile.mkdtemp(prefix="posegen-run-"))
    state, seconds = run(words, outputs, arguments.limit_s)
    report(run_state=state, run_s=round(seconds, 1), run_words=" ".join(words))
    for summary in sorted(outputs.glob("*/summary.json")):
        shutil.copyfile(summary, arguments.summary)
        found = json.loads(summary.read_text())
        report(run_seconds_of_stages=found["timings_s"], run_gpus=found["machine"]["gpus"])
    return 0 if state == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
