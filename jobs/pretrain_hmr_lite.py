"""Trains the weights of hmr_lite: renders its source and learns in turn, for the time given, and says how good it is.

    python jobs/pretrain_hmr_lite.py                         # 4 minutes on a GPU
    python jobs/pretrain_hmr_lite.py --device cpu --minutes 50 --state state.pt      # an hour on two cores; --resume
    python jobs/pretrain_hmr_lite.py --start platform/posegen/estimator/weights/hmr_lite.npz --output better.npz
    python jobs/pretrain_hmr_lite.py --tiny --output quick.npz                       # a minute on a CPU: does it work?
    python jobs/pretrain_hmr_lite.py --sheet sheet.png       # what it would be shown with the labels drawn, no training

The source is the split's part source-wide (conf/split/embedded.yaml). It is measured on source-wide-like (other people,
bodies and backgrounds), source-like and validation while it learns; on the tests never. The figures are written beside
the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

import torch

from posegen.devices import default_device
from posegen.estimator.checkpoint import write_npz
from posegen.estimator.crop import DECLARED
from posegen.estimator.hmr_lite import SHIPPED_WEIGHTS, hmr_lite
from posegen.estimator.preprocess import to_float
from posegen.files.atomic import write_json
from posegen.machine import keep_freed_memory
from posegen.pretrain.augment import Augment
from posegen.pretrain.pictures import PictureMaker, Pictures, PictureStore
from posegen.pretrain.sheet import contact_sheet
from posegen.pretrain.training import PretrainConfig, Pretraining, errors_mm
from posegen.progress import Reporter, duration
from posegen.scenes.disjoint import prove_disjoint
from posegen.scenes.split import load_split
from posegen.seeds import derive

SOURCE = "source-wide"
WATCHED = ("source-wide-like", "source-like", "validation")
SHEET_ROWS = 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0, help="of rendering and learning")
    parser.add_argument("--device", default=None, help="cpu or cuda; the GPU if there is one")
    parser.add_argument("--batch", type=int, default=None, help="256 on a GPU, 32 on a CPU")
    parser.add_argument("--learning-rate", type=float, default=None, help="of the head: 1e-3 on a GPU, 5e-4 on a CPU")
    parser.add_argument("--trunk-rate", type=float, default=3e-4, help="of the trunk, in sizes of its channels (3e-4)")
    parser.add_argument("--capacity", type=int, default=None, help="rows kept: 100,000 on a GPU, 20,000 on a CPU")
    parser.add_argument("--watched", type=int, default=1024, help="pictures of each set that it is measured on")
    parser.add_argument("--every", type=float, default=None, help="seconds between measurements; a tenth of the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, default=None, help="weights to start from; BlazePose's if there are none")
    parser.add_argument("--output", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--state", type=Path, default=None, help="where to keep what is needed to go on")
    parser.add_argument("--resume", action="store_true", help="go on from --state, if it is there")
    parser.add_argument("--sheet", type=Path, default=None)
    parser.add_argument("--tiny", action="store_true", help="a few steps on a few pictures")
    return parser.parse_args()


def settings(given: argparse.Namespace, device: torch.device) -> tuple[PretrainConfig, int]:
    """How to train, and how many rows to keep."""
    gpu = device.type == "cuda"
    config = PretrainConfig(
        seconds=60 * given.minutes,
        batch=given.batch or (256 if gpu else 32),
        learning_rate=given.learning_rate or (1e-3 if gpu else 5e-4),
        trunk_rate=given.trunk_rate,
        average=0.998 if gpu else 0.995,
        render_share=0.4 if gpu else 0.15,  # drawing is dear on a CPU, but learning more so
        render_batch=1024 if gpu else 32,
        first_rows=20_480 if gpu else 8192,
        block=8 if gpu else 2,
        seed=given.seed,
    )
    capacity = given.capacity or (102_400 if gpu else 20_000)
    if given.tiny:
        tiny = {
            "seconds": 10.0, "batch": 8, "render_batch": 8, "first_rows": 16, "block": 2, "head_steps": 5,
            "head_batch": 8,
        }  # fmt: skip
        return PretrainConfig(**{**asdict(config), **tiny}), 64
    return config, capacity


def machine(device: torch.device) -> dict[str, object]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def begin(training: Pretraining, reporter: Reporter, head_first: bool) -> None:
    """The first pictures, and what the head learns before the trunk learns with it."""
    rows, steps = training.config.first_rows, training.config.head_steps
    with reporter.stage("the first pictures", rows) as bar:
        training.fill(lambda made: bar.update(made, rows))
    if head_first:
        with reporter.stage("the head alone", steps) as bar:
            training.head_start(lambda step: bar.update(step, steps))


def main() -> None:
    given = arguments()
    keep_freed_memory()
    started = time.monotonic()
    reporter = Reporter()
    device = torch.device(given.device) if given.device else default_device()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    config, capacity = settings(given, device)
    crop = DECLARED["hmr_lite"]
    split = load_split("embedded")
    reporter.say("\n".join(prove_disjoint(split)))
    maker = PictureMaker(split[SOURCE], crop, given.seed, device)
    if given.sheet:
        rows = maker(0, SHEET_ROWS)
        generator = torch.Generator(device).manual_seed(given.seed)
        images, labels = Augment()(to_float(rows.images), rows.labels, generator)
        reporter.say(f"sheet: {contact_sheet(images, labels, given.sheet)}")
        return
    watched_rows = 16 if given.tiny else given.watched
    watched = {}
    for name in WATCHED:
        other = PictureMaker(split[name], crop, 0, device)
        watched[name] = Pictures.cat([other(i, min(128, watched_rows)) for i in range(0, watched_rows, 128)])
    reporter.say(f"{watched_rows} pictures of each of {', '.join(WATCHED)}: {duration(time.monotonic() - started)}")
    model = hmr_lite(given.start, pretrained=given.start is not None, seed=given.seed).to(device)
    store = PictureStore(maker, capacity, first=derive(given.seed, "rows") % (1 << 40))
    training = Pretraining(model, store, config)
    if given.resume and given.state and given.state.is_file():
        training.resume(given.state)
        reporter.say(f"going on at step {training.steps}, {duration(training.seconds)} of {duration(config.seconds)}")
    begin(training, reporter, head_first=not training.steps and given.start is None)
    every = given.every or config.seconds / 10
    history: list[dict[str, object]] = []
    loss, due = float("nan"), training.seconds + every
    while training.progress < 1:
        loss = training.block()
        if training.seconds >= due or training.progress >= 1:
            due = training.seconds + every
            point: dict[str, object] = {
                "seconds": round(training.seconds, 1),
                "rendering": round(training.rendering, 1),
                "step": training.steps,
                "pictures": store.made,
                "loss": round(loss, 4),
            }
            point |= {name: errors_mm(training.averaged, rows) for name, rows in watched.items()}
            history.append(point)
            reporter.say(json.dumps(point))
            write_npz(training.averaged.state_dict(), given.output)  # what there is so far, should it be cut short
            if given.state:
                training.save(given.state)
    path = write_npz(training.averaged.state_dict(), given.output)
    shipped = hmr_lite(checkpoint=path).to(device)
    figures = {
        "estimator": "hmr_lite",
        "weights_mb": round(path.stat().st_size / 1e6, 2),
        "errors": {name: errors_mm(shipped, rows) for name, rows in watched.items()},
        "watched_pictures": watched_rows,
        "steps": training.steps,
        "samples": training.steps * config.batch,
        "pictures": store.made,
        "seconds": round(training.seconds, 1),
        "seconds_rendering": round(training.rendering, 1),
        "seconds_in_all": round(time.monotonic() - started, 1),
        "machine": machine(device),
        "settings": asdict(config)
        | {"capacity": capacity, "start": given.start.name if given.start else "BlazePose full"},
        "split": f"{split.name} v{split.version} {split.digest}",
        "history": history,
    }
    record = path.with_suffix(".json")
    write_json(record, figures)
    reporter.say(json.dumps({key: figures[key] for key in ("errors", "weights_mb", "steps", "pictures", "seconds")}))
    reporter.say(f"weights: {path}; figures: {record}")


if __name__ == "__main__":
    main()
