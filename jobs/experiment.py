"""The whole experiment as a Ray job: `python jobs/experiment.py key=value ...`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
