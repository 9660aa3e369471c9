"""`posegen export [RUN] --format hf|spin|webdataset`: a run's generated data set in the format of another project."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from posegen.commandline.options import EXPORTS
from posegen.errors import ConfigError
from posegen.experiment.run_folders import find_run, name_in, no_run, runs_in
from posegen.files.atomic import write_text, writing
from posegen.shards.columns import table
from posegen.shards.export import export_hf, export_spin
from posegen.shards.manifest import MANIFEST
from posegen.shards.reader import Shards, read_shards
from posegen.shards.schema import LABELS
from posegen.shards.webdataset import export_webdataset

WRITERS: dict[str, Callable[[Shards, Path], object]] = {
    "hf": export_hf,
    "spin": export_spin,
    "webdataset": export_webdataset,
}
# How each is read, for the card beside it.
READ_WITH = {
    "hf": 'from datasets import load_dataset\n\nrows = load_dataset("parquet", data_dir="FOLDER/data", split="train")\n'
    'rows[0]["image"], rows[0]["joints2d_px"]',
    "spin": "# in SPIN's config.py: the npz among the training files, FOLDER as the folder of its images\n"
    'import numpy as np\n\nrows = np.load("FOLDER/posegen_train.npz")\nrows["imgname"], rows["pose"], rows["S"]',
    "webdataset": 'import webdataset\n\nrows = webdataset.WebDataset("FOLDER/posegen-{000000..NNNNNN}.tar")'
    '.decode("pil").to_tuple("png", "json")',
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="posegen export",
        description="Writes the pictures and labels that a run generated in the format of another project: "
        "Hugging Face Parquet, SPIN's npz with pictures, or WebDataset's tar shards. "
        "Without a name, of the run that changed last.",
    )
    made.add_argument("run", nargs="?", metavar="RUN", help="a run, by name or directory, or a data set's directory")
    made.add_argument("--format", required=True, choices=EXPORTS, help="what is written")
    made.add_argument("--arm", default="posegen", help="whose data set (default: posegen)")
    made.add_argument("--to", type=Path, metavar="FOLDER", help="a new folder (default: RUN-ARM-FORMAT)")
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    return made


def dataset_folder(word: str | None, arm: str, outputs: Path) -> Path:
    """The folder of shards that is meant. Raises ConfigError with the arms there are."""
    for path in [Path(word), outputs / word] if word is not None else []:
        if (path / MANIFEST).is_file():
            return path
    run = _run(word, outputs)
    folder = run / "dataset" / arm
    if not (folder / MANIFEST).is_file():
        arms = sorted(path.parent.name for path in (run / "dataset").glob(f"*/{MANIFEST}"))
        following = f"posegen export {name_in(outputs, run)} --arm {arms[0]} ..." if arms else "posegen run"
        raise ConfigError(f"no data set of {arm!r} in this run", where=folder, choices=arms, next_command=following)
    return folder


def _run(word: str | None, outputs: Path) -> Path:
    """A run by name or directory, finished or not; without a word the one that changed last."""
    runs = runs_in(outputs)
    if word is None and runs:
        return max(runs, key=lambda path: path.stat().st_mtime)
    found = find_run(word, outputs) if word is not None else None
    if found is None:
        raise no_run(f"no run {word!r}" if word else "no run to export", outputs, runs)
    return found


def card(form: str, shards: Shards, folder: Path) -> str:
    """README.md of an export: what it holds, and how it is read."""
    front = 'configs:\n- config_name: default\n  data_files: "data/*.parquet"\n' if form == "hf" else ""
    head = f"---\npretty_name: PoseGen\n{front}---\n\n" if form == "hf" else ""
    read = READ_WITH[form].replace("FOLDER", folder.name).replace("NNNNNN", f"{max(len(shards.entries) - 1, 0):06d}")
    columns = table(["image", *LABELS])
    return (
        f"{head}# Rendered people\n\n{len(shards)} pictures with all labels, made by `{shards.plan.command}`.\n\n"
        f"```python\n{read}\n```\n\n{columns}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. Raises PosegenError."""
    options = parser().parse_args(argv)
    source = dataset_folder(options.run, options.arm, options.outputs)
    named = f"{source.parent.parent.name}-{source.name}" if source.parent.name == "dataset" else source.name
    target = options.to or Path(f"{named}-{options.format}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError("the folder for the export is not empty: nothing is written over", where=target,
                          next_command="posegen export ... --to ANOTHER_FOLDER")  # fmt: skip
    shards = read_shards(source)
    partial = target.with_name(f".{target.name}.part")
    with writing(target.parent):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        WRITERS[options.format](shards, partial)
        write_text(partial / "README.md", card(options.format, shards, target))
        if target.is_dir():
            target.rmdir()
        partial.replace(target)
    sys.stdout.write(f"{len(shards)} rows of {source}\nas {options.format} in {target}\n"
                     f"how it is read, and what the columns are: {target / 'README.md'}\n")  # fmt: skip
    return 0
