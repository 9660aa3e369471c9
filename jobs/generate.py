"""The generators and all data sets as a Ray job: `python jobs/generate.py key=value ...`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
