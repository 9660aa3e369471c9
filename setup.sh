#!/bin/sh
# Makes the virtual environment. Called by make; names what is missing at once.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

stop() { printf 'setup: %s\n  next: %s\n' "$1" "$2" >&2; exit 1; }

command -v "$PYTHON" >/dev/null 2>&1 || stop "$PYTHON is not there" "install Python 3.11 or newer, or: make PYTHON=/path/to/python3"
"$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
  || stop "$("$PYTHON" --version) will not do: Python 3.11, 3.12 or 3.13 is needed" "make PYTHON=python3.12"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null \
  || stop "this Python has no venv module" "install it (on Debian and Ubuntu the package python3-venv)"
free_kb=$(df -Pk . | awk 'NR==2 {print $4}')
[ "$free_kb" -ge 6000000 ] || stop "only $((free_kb / 1024)) MB are free here; about 6 GB are needed (more with CUDA)" "make room"

[ -x "$VENV/bin/python" ] || { echo "setup: making $VENV"; "$PYTHON" -m venv "$VENV"; }
echo "setup: installing pinned dependencies into $VENV (a few minutes the first time)"
# torch comes as pip finds it: the CUDA build on most Linux machines, the CPU build where that is what is offered.
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' \
  || stop "pip could not install the dependencies (see above)" "check the network and the disk, then make setup"
