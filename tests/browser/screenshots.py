"""Pictures of the pages for docs/images: `python tests/browser/screenshots.py`.

Without `--report FILE` or `--atlas FILE` the pages are those of the tests; `--out FOLDER` takes the pictures.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from chromium import chromium, show

from conftest import make_pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="a run's report.html")
    parser.add_argument("--atlas", type=Path, help="an atlas.html")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where pictures go")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as driver:
        asked = {name: page for name, page in (("report", given.report), ("atlas", given.atlas)) if page}
        pages = asked or make_pages(Path(folder))
        for name, page in pages.items():
            for suffix, width, scheme in (("", 1280, "light"), ("-dark", 1280, "dark"), ("-phone", 390, "light")):
                show(driver, page, width, scheme)
                file = given.out / f"{name}{suffix}.png"
                driver.save_screenshot(str(file))
                sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
