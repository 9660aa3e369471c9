"""The failure atlas of an estimator as a Ray job: `python jobs/atlas.py key=value ...`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["atlas", *sys.argv[1:]]))
