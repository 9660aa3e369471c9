"""The fine-tuning of every arm as a Ray job: `python jobs/finetune.py key=value ...`."""

import sys

from posegen.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
