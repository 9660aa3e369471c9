"""The sweep as a Ray job: `python jobs/sweep.py sweep=noise_and_losses experiment=quickstart`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
