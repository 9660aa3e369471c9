"""Strikes one run after another, at moments that a seed chooses, and says of each what came of it."""

from __future__ import annotations

import json
import random
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from .faults import FAULTS, Fault, usable
from .processes import below, left_after, take_over_orphans
from .record import Left, again, made, problems, read_left
from .world import Command, Tracked, World

POLL_S = 0.25
LINGER_S = 90.0  # Ray's agents notice after half a minute that their raylet is gone
Window = tuple[float, float]


@dataclass(frozen=True)
class Struck:
    """What came of one fault."""

    fault: str
    moment: str
    recovery_s: float | None  # from the strike until something was finished that had not been before
    total_s: float
    steps_again: int
    rows_again: int
    commands: int  # how often the command was typed
    wrong: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return "same results" if not self.wrong else "; ".join(self.wrong)

    def cells(self) -> tuple[str, ...]:
        recovery = "-" if self.recovery_s is None else f"{self.recovery_s:.0f}"
        return (self.fault, self.moment, recovery, f"{self.total_s:.0f}", str(self.steps_again), str(self.rows_again),
                str(self.commands), self.verdict)  # fmt: skip


COLUMNS = ("fault", "moment", "recovery s", "all s", "steps again", "rows again", "commands", "verdict")


@dataclass(frozen=True)
class Undisturbed:
    """A run to which nothing was done."""

    left: Left
    stages: Mapping[str, Window]
    seconds: float


def undisturbed(folder: Path, limit_s: float) -> Undisturbed:
    """Taken from the folder where it was made before."""
    kept, world = folder / "calm.json", World(folder)
    if not kept.is_file():
        with world:
            command = world.start()
            assert command.ended(limit_s) == 0, command.said()
            assert problems(world.run, read_left(world.run)) == []
            assert again(world.count) == (0, 0), "more was made than is needed"
            kept.write_text(json.dumps({"stages": command.stages(), "seconds": time.monotonic() - command.began}))
    told = json.loads(kept.read_text())
    return Undisturbed(read_left(world.run), told["stages"], told["seconds"])


def chosen(kills: int, seed: int, names: Sequence[str]) -> Iterator[tuple[int, Fault, random.Random]]:
    """Which faults, in turn, each with its own chance."""
    faults = [usable()[name] for name in names or usable()]
    for number in range(kills):
        yield number, faults[number % len(faults)], random.Random(f"{seed}/{number}")


def strike(number: int, fault: Fault, chance: random.Random, folder: Path, calm: Undisturbed, limit_s: float) -> Struck:
    """One run with one fault, to its end."""
    stage = chance.choice(fault.stages)
    begins, ends = calm.stages[stage]
    delay_s = chance.random() * (ends - begins)
    wrong: list[str] = []
    before = set(below())
    with fault.world(folder) as world:
        began = time.monotonic()
        command = world.start()
        struck_at, recovered_at = _struck(fault, world, command, stage, delay_s, limit_s), None
        commands = 1
        known = made(world.run)
        if struck_at is None:
            wrong.append("nothing to strike")
        else:
            fault.after(world)
        while True:
            recovered_at = _watch(world, command, known, limit_s, recovered_at)
            status = command.ended(5)
            (folder / f"said-{commands}.txt").write_text(command.said())
            if status == 0:
                break
            wrong += _ended_wrongly(fault, command, status, commands)
            if commands == 3:
                break
            world.heal()  # and at once the same command: what the last one has left is not waited for
            command, commands = world.start(), commands + 1
        wrong += problems(world.run, calm.left) if command.process.returncode == 0 else ["no end"]
        wrong += _not_closed(world)
        steps, rows = again(world.count)
        total_s = time.monotonic() - began
    wrong += [f"left: {one}" for one in left_after(before, LINGER_S)]
    recovery = None if None in (struck_at, recovered_at) else recovered_at - struck_at  # type: ignore[operator]
    moment = f"{stage} +{delay_s:.1f} s"
    return Struck(fault.name, moment, recovery, total_s, steps, rows, commands, tuple(dict.fromkeys(wrong)))


def _struck(
    fault: Fault, world: World, command: Command, stage: str, delay_s: float, limit_s: float
) -> float | None:  # fmt: skip
    """Waits for the moment and strikes; when that was, None where the run ended before there was anything to strike."""
    deadline = time.monotonic() + limit_s
    while not command.begun(stage):
        if not command.at_work() or time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)
    time.sleep(delay_s)
    while command.at_work() and time.monotonic() < deadline:
        if fault.strike(world, command):
            return time.monotonic()
        time.sleep(0.05)
    return None


def _watch(world: World, command: Command, known: set, limit_s: float, recovered_at: float | None) -> float | None:
    """Waits for the command's end; when something was finished that was not known."""
    deadline = time.monotonic() + limit_s
    while command.at_work() and time.monotonic() < deadline:
        if recovered_at is None and made(world.run) - known:
            recovered_at = time.monotonic()
        time.sleep(POLL_S)
    if recovered_at is None and made(world.run) - known:
        recovered_at = time.monotonic()
    return recovered_at


def _ended_wrongly(fault: Fault, command: Command, status: int | None, commands: int) -> list[str]:
    said = command.said()
    if status is None:
        return ["did not end"]
    last = said.strip().splitlines()[-3:]
    if commands > 1:
        return [f"typed again it ended with {status}: {' / '.join(last)}"]
    if not fault.ends:
        return [f"ended with {status}: {' / '.join(last)}"]
    if "Traceback" in said:
        return ["a traceback was shown"]
    return [] if any(words in said for words in fault.ends) else [f"ended without the words: {' / '.join(last)}"]


def _not_closed(world: World) -> list[str]:
    """What MLflow says of the run, all that it missed sent again."""
    from posegen.tracking.store.mlflow_store import Tracker
    from posegen.tracking.store.publish import run_key
    from posegen.tracking.store.sync_command import main as track

    uri = None
    if isinstance(world, Tracked):
        world.heal()
        uri = world.uri
        if track(["sync", str(world.run), "--outputs", str(world.outputs)]) != 0:
            return ["posegen track sync failed"]
    tracker = Tracker(world.outputs, uri=uri)
    parent = tracker.find(run_key(world.run))
    if parent is None:
        return ["no MLflow run"]
    states = {run.key.removeprefix(f"{parent.key}/"): tracker.client.get_run(run.id).info.status
              for run in [parent, *tracker.children(parent)]}  # fmt: skip
    return [f"MLflow: {name} is {status}" for name, status in states.items() if status != "FINISHED"]


def campaign(kills: int, seed: int, folder: Path, names: Sequence[str], limit_s: float) -> int:
    """All of it, with a table; the exit status is 1 where anything was wrong."""
    take_over_orphans()
    folder.mkdir(parents=True, exist_ok=True)
    calm = undisturbed(folder / "undisturbed", limit_s)
    _say(f"undisturbed: {calm.seconds:.0f} s; seed {seed}")
    results = []
    for number, fault, chance in chosen(kills, seed, names):
        try:
            struck = strike(number, fault, chance, folder / f"{number}", calm, limit_s)
        except (AssertionError, OSError, psutil.Error) as error:
            traceback.print_exc()
            struck = Struck(fault.name, "?", None, 0, 0, 0, 0, (f"the world broke: {str(error)[:200]}",))
        results.append(struck)
        _say(f"{number}: {' | '.join(struck.cells())}")
    _say("\n" + table(results))
    return int(any(struck.wrong for struck in results))


def table(results: Sequence[Struck]) -> str:
    """Markdown, in the order of the faults."""
    order = list(FAULTS)
    rows = sorted(results, key=lambda struck: order.index(struck.fault))
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(struck.cells() for struck in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
