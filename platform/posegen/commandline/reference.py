"""The generated pages of the reference: every key, every command, every column. `make docs` writes them anew."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

from posegen.commandline.choices import choices_of, groups
from posegen.commandline.key_help import limits, recipes
from posegen.config.keys import Key, parts

MADE = "<!-- Made by docs/generate.py from the program itself; change the comments there, then `make docs`. -->\n\n"


def configuration_page() -> str:
    """Every key with type, default, meaning and the recipes that set it, and every group's options."""
    lines = [
        f"{MADE}# Configuration\n",
        "A setting is `key=value` behind any command that takes the configuration; a group is `group=option`, "
        "one of the files of `conf/`. `posegen help KEY` tells the same in the terminal, and `posegen completion` makes "
        "the shell complete them. `null` is none. Bounds are checked before anything starts.\n",
        "## Groups\n",
    ]
    for name in groups():
        lines += [f"### {name}=\n", "| option | what it is |", "|---|---|"]
        lines += [f"| `{option}` | {_cell(said)} |" for option, said in choices_of(name)] + [""]
    lines.append("## Keys\n")
    for part in parts():
        lines += [f"### {part.name or 'At the top'}\n", part.meaning.replace("\n", "\n\n") + "\n"]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|", *map(_row, part.keys), ""]
    return "\n".join(lines)


def _row(key: Key) -> str:
    kind = limits(key) + (f": {', '.join(key.choices)}" if key.choices else "")
    said = key.meaning + "".join(f"; `{recipe}`: {value}" for recipe, value in recipes(key.name))
    return f"| `{key.name}` | {kind} | `{key.default}` | {_cell(said)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ") or "-"


def commands_page(run: Callable[[list[str]], int], commands: dict[str, object]) -> str:
    """The help of every command, as it is printed."""
    lines = [f"{MADE}# Commands\n", "```text", _printed(run, ["--help"]).rstrip(), "```\n"]
    for name in commands:
        if name == "help":
            continue
        lines += [f"## posegen {name}\n", "```text", _printed(run, [name, "--help"]).rstrip(), "```\n"]
    return "\n".join(lines)


def _printed(run: Callable[[list[str]], int], argv: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit), _as_wide_as(100):
        run(argv)
    return out.getvalue()


@contextlib.contextmanager
def _as_wide_as(columns: int) -> Iterator[None]:
    """argparse folds its help at the terminal's width, which a page has not."""
    import os

    kept = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        if kept is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = kept


def dataset_page() -> str:
    """The columns of a generated data set."""
    from posegen.shards.columns import table

    return (
        f"{MADE}# The generated data set\n\n"
        "`outputs/RUN/dataset/ARM/part-FIRST-LAST.parquet`, a row a picture, with `_manifest.json`: what the set is to "
        "hold, what it holds, sizes and SHA-256 of all parts, and the command that makes it.\n\n"
        "Frames: the world has y up, metres; a person at rest faces +z. The camera is OpenCV's. Array columns are Arrow's "
        "fixed-shape tensors; images are uint8, or PNG or JPEG bytes.\n\n"
        f"{table()}\n\n"
        "How it is read with posegen, torch, Ray or Hugging Face, and how it is exported: "
        "[use the data in your own training](../how-to/use-the-data.md).\n"
    )
