"""Evaluates a run, or one estimator on one data set, as a Ray job: `python jobs/evaluate.py key=value ...`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
