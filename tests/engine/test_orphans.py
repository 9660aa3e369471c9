"""A group of trainers that dies while it is started leaves nothing behind: no CPU of the job stays taken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_loops import run_here

from posegen.engine import network
from posegen.engine.orphans import Orphans
from posegen.engine.resources import require
from posegen.engine.terms import Claim, Place
from posegen.engine.train import run_training
from posegen.errors import EngineError

GAN = "toy_loops:GanLoop"
CONFIG = {"steps": 3, "batch": 4}


class Group:
    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_only_what_nobody_else_knows_of_is_ended():
    orphans, trained, left, last = Orphans(), Group(), Group(), Group()
    for group in (trained, left, last):
        orphans.before_worker_group_start(None)
        orphans.after_worker_group_start(group)
        if group is trained:
            orphans.after_worker_group_training_start(group)
    assert [group.aborted for group in (trained, left, last)] == [0, 1, 0]
    orphans.before_controller_abort()
    orphans.before_controller_abort()
    assert [group.aborted for group in (trained, left, last)] == [0, 1, 1]


class DyingBackend(network.NodeTorchConfig().backend_cls):
    """Its first trainer dies while the process group is made; with no file to mark that, each does."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        if backend_config.once is None or not backend_config.once.exists():
            if backend_config.once is not None:
                backend_config.once.touch()
            worker_group.execute(os._exit, 1)
        super().on_start(worker_group, backend_config)


@dataclass
class Dying(network.NodeTorchConfig):
    once: Path | None = None

    @property
    def backend_cls(self) -> type:
        return DyingBackend


def all_is_free() -> None:
    require([{"CPU": 1}] * 4, "the next stage", free_within_s=20)


def test_a_trainer_that_dies_in_set_up_is_replaced_and_its_place_is_free_again(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "NodeTorchConfig", lambda **given: Dying(once=tmp_path / "died", **given))
    outcome = run_training(GAN, CONFIG, Place(tmp_path, "once"))
    assert (tmp_path / "died").exists() and outcome.steps == 3
    want = run_here(CONFIG)["g"]
    assert all(torch.equal(value, want[name]) for name, value in outcome.state()["g"].items())
    all_is_free()


def test_trainers_that_always_die_in_set_up_end_the_training_and_leave_nothing(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "NodeTorchConfig", Dying)
    with pytest.raises(EngineError, match="failed to initialize"):
        run_training(GAN, CONFIG, Place(tmp_path, "always"), claim=Claim(max_failures=1))
    all_is_free()
