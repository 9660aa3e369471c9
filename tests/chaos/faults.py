"""What is done to a run, and what may follow: it goes on by itself, or ends in good order and is typed again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from psutil import Process

from .processes import CONTROLLER, RENDERER, TRAINER, kill, named, program
from .world import Command, SmallDisk, Tracked, TwoRaylets, World

SOURCE, GENERATOR, TUNING, REPORT = "source rows", "generator posegen", "fine-tuning posegen", "report"
MEASURING = ("evaluating posegen", "what posegen still knows")

# Whoever else is on the cluster takes its store three times over, which makes Ray spill, and keeps it for a while.
TAKE_STORE = """
import sys, time
from posegen.engine.cluster import connect
connect(sys.argv[1])
import numpy as np, ray
held = []
try:
    for _ in range(100):
        held.append(ray.put(np.ones(3_000_000, np.uint8)))
finally:
    print("taken", len(held), flush=True)
    time.sleep(20)
"""


@dataclass(frozen=True)
class Fault:
    """A fault.

    Args:
        strike: does it; False where there is nothing to strike at this moment.
        stages: in which it can be done.
        world: where the run is at work.
        ends: words of which the ended command says one; empty where it has to go on by itself. A killed one says
            nothing.
        after: what is done to the world once the fault has been struck, as an operator would.
    """

    name: str
    strike: Callable[[World, Command], bool]
    stages: tuple[str, ...]
    world: type[World] = World
    ends: tuple[str, ...] = ()
    after: Callable[[World], None] = field(default=lambda world: None)


def _killing(who: str, found: Callable[..., list[Process]] = named) -> Callable[[World, Command], bool]:
    def strike(world: World, command: Command) -> bool:
        victims = found(who, world.of_ray(command))[:1]
        kill(victims)
        return bool(victims)

    return strike


def _kill_second(world: World, command: Command) -> bool:
    assert isinstance(world, TwoRaylets)
    victims = program("raylet", world.node(1))
    kill(victims)
    return bool(victims)


def _kill_head(world: World, command: Command) -> bool:
    assert isinstance(world, TwoRaylets)
    victims = world.node(0)
    kill(victims)
    return bool(victims)


def _bring_another(world: World) -> None:
    assert isinstance(world, TwoRaylets)
    world.another()


def _kill_driver(world: World, command: Command) -> bool:
    command.process.send_signal(signal.SIGKILL)
    return True


def _interrupt(world: World, command: Command) -> bool:
    command.process.send_signal(signal.SIGINT)
    return True


def _kill_server(world: World, command: Command) -> bool:
    assert isinstance(world, Tracked)
    kill(world.family())
    return True


def _fill_disk(world: World, command: Command) -> bool:
    assert isinstance(world, SmallDisk)
    world.fill()
    return True


def _take_store(world: World, command: Command) -> bool:
    assert isinstance(world, TwoRaylets)
    with open(world.folder / "store.log", "w") as log:
        subprocess.Popen(
            [sys.executable, "-c", TAKE_STORE, f"127.0.0.1:{world.base}"], env=world.environment(), stdout=log,
            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    return True


ANYWHERE = (SOURCE, GENERATOR, TUNING, *MEASURING, REPORT)
KILLED, GONE_ON = ("",), ()
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("train worker", _killing(TRAINER), (GENERATOR, TUNING)),
        Fault("render actor", _killing(RENDERER), (SOURCE, TUNING)),
        Fault("driver", _kill_driver, ANYWHERE, ends=KILLED),
        Fault("raylet of two", _kill_second, (SOURCE, GENERATOR, TUNING), TwoRaylets, after=_bring_another),
        Fault("training's controller", _killing(CONTROLLER), (GENERATOR, TUNING), ends=("run the same command again",)),
        Fault("head, own Ray", _killing("gcs_server", program), (SOURCE, GENERATOR, TUNING), ends=KILLED),
        Fault("head of two", _kill_head, (SOURCE, GENERATOR, TUNING), TwoRaylets, ends=KILLED),
        Fault("MLflow server", _kill_server, (SOURCE, GENERATOR, TUNING, *MEASURING), Tracked),
        Fault("disk full", _fill_disk, (SOURCE, GENERATOR, TUNING, *MEASURING), SmallDisk, ends=("disk is full",)),
        Fault("store taken", _take_store, (SOURCE, GENERATOR, TUNING), TwoRaylets),
        Fault("Ctrl-C", _interrupt, ANYWHERE, ends=("same command",)),
    )
}


def usable() -> dict[str, Fault]:
    """Those that this user may do here: a small disk is mounted by root alone."""
    return {name: fault for name, fault in FAULTS.items() if fault.world is not SmallDisk or os.geteuid() == 0}
