"""The examples of CONTRIBUTING.md run, one after the other, in an interpreter of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = ("An estimator", "A benchmark", "A feedback", "A noise", "An arm", "A renderer")


@pytest.mark.usefixtures("assets")
def test_every_example_runs(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.M)
    assert sections == list(KINDS)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) == len(KINDS)
    assert all("assert " in block for block in blocks)
    script = tmp_path / "examples.py"
    script.write_text("\n\n".join(blocks) + "\nprint('all ran')\n")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all ran"
