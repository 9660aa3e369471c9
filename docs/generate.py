"""Writes the generated pages of docs/reference: `python docs/generate.py`, which `make docs` does first."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def pages() -> dict[str, str]:
    """File below docs/ -> its text."""
    from posegen import cli
    from posegen.commandline.reference import commands_page, configuration_page, dataset_page

    kept = os.environ.get("POSEGEN_DATA")
    os.environ["POSEGEN_DATA"] = "FOLDER"  # a help text tells it; the page is to be the same on every machine
    try:
        made = {
            "reference/configuration.md": configuration_page(),
            "reference/commands.md": commands_page(cli.main, dict(cli.COMMANDS)),
            "reference/dataset.md": dataset_page(),
        }
        return {name: text.replace(str(Path.home()), "~") for name, text in made.items()}  # help expands `~`
    finally:
        del os.environ["POSEGEN_DATA"]
        if kept is not None:
            os.environ["POSEGEN_DATA"] = kept


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")
