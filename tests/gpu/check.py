"""Everything that a machine with a card should show, in one command: tests, speed of the renderer, of the adversarial
loop and of a whole run, and a training in the time that is left.

    python tests/gpu/check.py --out DIR [--budget-s 420] [--only tests render ...] [--train "COMMAND"]
    python tests/gpu/check.py --out DIR --device cpu --tiny      # tries the script itself, without a card

Each part is a process of its own with its own limit of time, the most important first; what a part has measured until
its limit is kept. DIR gets results.json, log.txt (all that was printed) and profile.txt (the slowest kernels). A short
table comes last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CARD_TESTS = (
    "tests/gpu",
    "tests/renderer/test_renderer_devices.py",
    "tests/adversarial/test_loop_devices.py",
    "tests/estimator/test_estimator_devices.py",
)
LEAST_S = 15.0  # a part is not begun with less than this left
MARK = "RESULT "  # a part prints lines of this and JSON: each is merged into its results


@dataclass(frozen=True)
class Part:
    """One process.

    Args:
        limit_s: at most this long; less where the budget ends before.
        command: its arguments after `python`.
    """

    name: str
    limit_s: float
    command: Sequence[str]


def parts(arguments: argparse.Namespace) -> list[Part]:
    """The parts, most important first."""
    shared = ["--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    marker = "gpu" if arguments.device == "cuda" else "not gpu and not slow and not hosts"
    tests = CARD_TESTS if not arguments.tiny else ("tests/test_pretend_cuda.py",)
    profile = str(arguments.out / "profile.txt")
    return [
        Part("tests", 150, ["-m", "pytest", "-m", marker, "-q", "-s", "-p", "no:cacheprovider", "--timeout", "120",
                            "--durations", "8", *tests]),
        Part("render", 110, [str(HERE / "render_part.py"), *shared, "--profile", profile]),
        Part("loop", 100, [str(HERE / "loop_part.py"), *shared]),
        Part("run", 150, [str(HERE / "run_part.py"), *shared, "--summary", str(arguments.out / "run_summary.json")]),
    ]  # fmt: skip


def results_of(text: str) -> dict[str, Any]:
    """The lines that a part marked, merged; the last word of a key counts. A line cut off by the limit is left out."""
    merged: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith(MARK):
            try:
                merged.update(json.loads(line.removeprefix(MARK)))
            except json.JSONDecodeError:
                continue
    return merged


def run_part(part: Part, limit_s: float, log: Path) -> dict[str, Any]:
    """Runs a part within a limit; its output goes to the log and to standard output."""
    paths = [ROOT / "platform", ROOT / "tests", ROOT / "tests" / "speed"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
    }
    begun = time.monotonic()
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        file.write(f"\n== {part.name}: at most {limit_s:.0f} s\n")
        file.flush()
        start = file.tell()
        process = subprocess.Popen(
            [sys.executable, *part.command], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            state = "done" if process.wait(limit_s) == 0 else f"exit {process.returncode}"
        except subprocess.TimeoutExpired:
            state = "out of time"
            _end_group(process)
        file.seek(start)
        text = file.read()
    seconds = time.monotonic() - begun
    print(text, flush=True)
    tail = [line for line in text.splitlines() if line.strip() and not line.startswith(MARK)][-1:]
    return {"state": state, "seconds": round(seconds, 1), "last_line": "".join(tail)[:200], **results_of(text)}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a part and what it started: its process group, first politely."""
    import signal

    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def trained(command: str, limit_s: float, arguments: argparse.Namespace, log: Path) -> dict[str, Any]:
    """The command line given by --train, told its limit (s) and its folder by its environment."""
    folder = arguments.out / "train"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"TRAIN_OUT": str(folder), "TRAIN_LIMIT_S": f"{max(1.0, limit_s - 10):.0f}"}
    code = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1], shell=True))"
    return run_part(Part("train", limit_s, ["-c", code, command]), limit_s, log)


def table(results: dict[str, Any]) -> str:
    """A line a part, and a line a figure that is a number or a short text."""
    lines = [f"{results['device_name']}, torch {results['torch']}"]
    for name, found in results["parts"].items():
        lines.append(f"{name:8s} {found['state']:12s} {found['seconds']:6.1f} s  {found['last_line'][:90]}")
        skipped = {"state", "seconds", "last_line"}
        for key, value in found.items():
            if key in skipped or isinstance(value, dict | list):
                continue
            lines.append(f"    {key:44s} {value:.4g}" if isinstance(value, float) else f"    {key:44s} {value}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--budget-s", type=float, default=420.0)
    parser.add_argument("--only", nargs="+", default=[], help="names of parts: tests render loop run")
    parser.add_argument("--train", help="a command for what is left of the time; it gets TRAIN_OUT and TRAIN_LIMIT_S")
    parser.add_argument("--wait-for-pid", type=int, help="begin when this process has ended (at most 150 s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU can do in seconds")
    arguments = parser.parse_args(words)
    end = time.monotonic() + arguments.budget_s
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = parts(arguments)
    if unknown := sorted(set(arguments.only) - {part.name for part in chosen}):
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(part.name for part in chosen)}")
    if arguments.wait_for_pid:
        waited_for(arguments.wait_for_pid)
    log = arguments.out / "log.txt"
    log.unlink(missing_ok=True)
    results: dict[str, Any] = {**machine(arguments.device), "parts": {}}

    def save() -> None:
        (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")

    for part in chosen:
        if arguments.only and part.name not in arguments.only:
            continue
        left = end - time.monotonic()
        if left < LEAST_S:
            results["parts"][part.name] = {"state": "not begun", "seconds": 0.0, "last_line": "the budget was spent"}
        else:
            results["parts"][part.name] = run_part(part, min(part.limit_s, left), log)
        save()
    if arguments.train and (left := end - time.monotonic()) >= LEAST_S:
        results["parts"]["train"] = trained(arguments.train, left, arguments, log)
    save()
    print(table(results), flush=True)
    return 0 if all(found["state"] == "done" for found in results["parts"].values()) else 1


def waited_for(process: int, limit_s: float = 150.0) -> None:
    """Waits until a process has ended: what it compiles is needed, and would disturb what is timed."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        try:
            os.kill(process, 0)
            ended = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (OSError, IndexError):
            ended = True
        if ended:
            break
        time.sleep(0.2)
    print(f"waited {time.monotonic() - begun:.0f} s for process {process}", flush=True)


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on, found by another process, so that this one holds no memory of the card."""
    code = (
        "import json, platform, torch\n"
        "cuda = torch.cuda.is_available()\n"
        "print(json.dumps({'torch': torch.__version__, 'python': platform.python_version(), 'cuda_is_there': cuda,\n"
        " 'device_name': torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()}))"
    )
    found = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    if device == "cuda" and not found["cuda_is_there"]:
        raise SystemExit("gpu-check: torch finds no card here\n  next: python tests/gpu/check.py --device cpu --tiny")
    return found


if __name__ == "__main__":
    sys.exit(main())
