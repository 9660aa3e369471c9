"""Fitting a subject's articulated field as a Ray job: `python jobs/fit_subject.py key=value ...`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit-subject", *sys.argv[1:]]))
