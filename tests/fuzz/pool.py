"""Runs cases in child processes of limited memory and time: forked from one that has imported everything, some hundreds
of cases each, so that a case costs its reader's time and little more.

A child says in a pipe what it begins and how it ended. Who says nothing for too long is killed; who dies, or is killed,
leaves the case that it had begun as what came out of it, and another child goes on with the rest.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .format import Case, Format, Step, applied
from .judge import Outcome, judged

SECONDS, WAIT_SECONDS = 10.0, 40.0  # of the processor; and of waiting, on a pipe or on a busy machine
MEMORY_BYTES = 1_500_000_000  # beyond what the imports take
BATCH = 400


@dataclass(frozen=True)
class Trial:
    """A case, perhaps with fewer changes or other bytes than its own."""

    case: Case
    steps: Sequence[Step] | None = None
    content: bytes | None = None

    def bytes_of(self, form: Format) -> bytes:
        if self.content is not None:
            return self.content
        return applied(form, self.case.steps(form) if self.steps is None else self.steps)


@dataclass(frozen=True)
class Ended:
    """How a trial ended, how long it took (s of the processor), and the file."""

    trial: Trial
    outcome: Outcome
    seconds: float
    content: bytes | None  # of wrong outcomes


def run(
    formats: Mapping[str, Format], trials: Sequence[Trial], workers: int = 1, seconds: float = SECONDS
) -> Iterator[Ended]:
    """All trials, in batches; results come as they end."""
    prepare([formats[name] for name in dict.fromkeys(trial.case.format for trial in trials)])
    with tempfile.TemporaryDirectory(prefix="posegen-fuzz-", dir=_quick()) as scratch:
        waiting = [list(trials[i : i + BATCH]) for i in range(0, len(trials), BATCH)]
        children: list[_Child] = []
        try:
            while waiting or children:
                while waiting and len(children) < workers:
                    children.append(_Child(formats, waiting.pop(0), Path(scratch), seconds))
                ready, _, _ = select.select([child.pipe for child in children], [], [], 0.5)
                for child in list(children):
                    if child.pipe in ready:
                        yield from child.listen()
                    child.watch()
                    if child.alive:
                        continue
                    children.remove(child)
                    yield from child.last_words()
                    if child.left:
                        waiting.insert(0, child.left)
        finally:
            for child in children:
                child.kill()


def prepare(formats: Sequence[Format]) -> None:
    """Builds the samples that are not built yet, in a child: writers of videos and tables start threads, and a process
    with threads must not be forked again."""
    missing = [form for form in formats if not form.made]
    if not missing:
        return
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                pickle.dump([form.sample for form in missing], file)
                file.flush()
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError("the samples cannot be built: see above")
        file.seek(0)
        for form, sample in zip(missing, pickle.load(file), strict=True):
            form.made.append(sample)


def _quick() -> str | None:
    """A folder in memory, where there is one: files are written for every case."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class _Child:
    """One forked process, and what is known of it."""

    def __init__(self, formats: Mapping[str, Format], trials: list[Trial], scratch: Path, most_s: float) -> None:
        self.formats, self.left, self.most_s = formats, list(trials), most_s
        self.folder = Path(tempfile.mkdtemp(dir=scratch))
        self.alive, self.begun, self._text = True, 0.0, b""
        self._cpu, self._hung = 0.0, ""
        self.pipe, write = os.pipe()
        gc.collect()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.pipe)
                _work(formats, trials, self.folder, write, most_s)
                status = 0
            finally:
                os._exit(status)
        os.close(write)

    def listen(self) -> Iterator[Ended]:
        data = os.read(self.pipe, 1 << 16)
        if not data:
            self._bury()
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if told == "begin":
                self.begun, self._cpu = time.monotonic(), self._used()
                continue
            outcome = Outcome(*told[:3])
            yield self._ended(outcome, told[3])
            self.begun = 0.0

    def _ended(self, outcome: Outcome, seconds: float) -> Ended:
        trial = self.left.pop(0)
        content = None
        if not outcome.right:
            content = trial.bytes_of(self.formats[trial.case.format])
        return Ended(trial, outcome, seconds, content)

    def watch(self) -> None:
        """Ends a child that takes too long over one case."""
        if not self.begun or not self.alive:
            return
        used, waited = self._used() - self._cpu, time.monotonic() - self.begun
        if used > self.most_s + 1 or waited > WAIT_SECONDS:
            self._hung = f"ended after {used:.1f} s of the processor, {waited:.0f} s in all"
            self.kill()

    def _used(self) -> float:
        """Seconds of the processor that the child has used."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return self._cpu
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._bury()

    def _bury(self) -> None:
        if not self.alive:
            return
        self.alive = False
        _, self.status = os.waitpid(self.pid, 0)
        os.close(self.pipe)
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_words(self) -> Iterator[Ended]:
        """The case that the child died of, if it did."""
        if not self.left:
            return
        if self._hung:
            yield self._ended(Outcome("hang", "", self._hung), self.most_s)
        elif self.begun or os.WIFSIGNALED(self.status):
            code = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else os.WEXITSTATUS(self.status)
            when = "" if self.begun else " while the file was made"
            yield self._ended(Outcome("crash", f"signal {code}{when}", "the interpreter died"), 0.0)


def _work(formats: Mapping[str, Format], trials: Sequence[Trial], folder: Path, write: int, most_s: float) -> None:
    """The child's life: limits, then one case after the other."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    limit = _address_space() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    say: Callable[[object], int] = lambda value: os.write(write, json.dumps(value).encode() + b"\n")  # noqa: E731
    placed: dict[str, Path] = {}
    os.chdir(folder)
    for number, trial in enumerate(trials):
        form = formats[trial.case.format]
        content = trial.bytes_of(form)
        if form.fresh or form.name not in placed:
            if form.name in placed:
                shutil.rmtree(placed[form.name].parents[form.sample.changed.count("/")], ignore_errors=True)
            placed[form.name] = form.sample.place(folder / f"{number}")
        path = placed[form.name]
        path.write_bytes(content)
        say("begin")
        start = time.process_time()
        outcome = judged(form, path)
        seconds = time.process_time() - start
        if seconds > most_s:
            outcome = Outcome("hang", outcome.where, f"{seconds:.1f} s; {outcome.kind}: {outcome.text}")
        text = outcome.text.replace(str(folder), "FOLDER")
        say((outcome.kind, outcome.where.replace(str(folder), "FOLDER"), text[:2000], round(seconds, 4)))


def _address_space() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize:"):
            return int(line.split()[1]) * 1024
    return 0
