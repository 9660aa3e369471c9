"""Nothing that a run starts on one machine can be reached from another one, or be entered by another user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import toy_loops

from listeners import listeners, of_family, open_to_others
from posegen.engine import rendezvous
from posegen.engine.terms import Claim, Place
from posegen.engine.train import run_training


class ListeningLoop(toy_loops.GanLoop):
    """Notes on which addresses its trainer listens in the middle of the training."""

    def step(self):
        done = super().step()
        if self.step_index == 2:
            import torch.distributed as dist

            kind = type(dist.distributed_c10d._get_default_store().underlying_store).__name__
            rows = [f"{one.address} {one.port}" for one in listeners([os.getpid()])]
            Path(self.config["note"], str(self.rank)).write_text("\n".join([kind, *rows]))
        return done


@pytest.mark.parametrize(("workers", "store"), [(1, "HashStore"), (2, "FileStore")])
def test_no_trainer_listens_to_other_machines(ray_cluster, tmp_path, workers, store):
    config = {"steps": 3, "batch": 4, "note": str(tmp_path)}
    outcome = run_training("test_doors:ListeningLoop", config, Place(tmp_path, "doors"), claim=Claim(workers))
    assert outcome.world_size == workers
    for rank in range(workers):
        kind, *rows = (tmp_path / str(rank)).read_text().splitlines()
        assert kind == store
        assert rows and {row.split()[0] for row in rows} == {"127.0.0.1"}  # gloo's own, and the Ray worker's


def test_every_process_of_a_cluster_that_a_run_starts_is_on_loopback(ray_cluster):
    found = listeners(of_family(os.getpid()))
    commands = " ".join(one.command for one in found)
    assert "gcs_server" in commands and "raylet" in commands and "dashboard" in commands
    assert open_to_others(found) == []


def test_trainers_on_several_machines_meet_at_one_address_only():
    meeting = rendezvous.open_server(20.0, "127.0.0.1")
    try:
        mine = [one for one in listeners([os.getpid()]) if one.port == meeting.port]
        assert [one.address for one in mine] == ["127.0.0.1"]
        first = rendezvous.store_of(meeting, 2, 20.0)
        first.set("word", "from the first")
        rendezvous._open.clear()  # as in another process, which opened nothing
        assert rendezvous.store_of(meeting, 2, 20.0).get("word") == b"from the first"
    finally:
        rendezvous.close()


def test_trainers_on_one_machine_meet_in_a_folder_of_this_user_alone(tmp_path):
    meeting = rendezvous.open_file(str(tmp_path))
    folder = Path(meeting.file).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    rendezvous.store_of(meeting, 2, 20.0).set("word", "from the first")
    assert rendezvous.store_of(meeting, 2, 20.0).get("word") == b"from the first"
    rendezvous.close()
    assert not folder.exists()


def test_other_users_cannot_enter_rays_session(ray_cluster):
    import ray

    session = Path(ray._private.worker._global_node.get_session_dir_path())
    outer = session.parent.parent
    assert stat.S_IMODE(outer.stat().st_mode) == 0o700 and outer.stat().st_uid == os.getuid()
    for process in of_family(os.getpid()):  # whatever else Ray keeps below /tmp/ray
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        assert b"/tmp/ray/" not in command


def test_the_drivers_core_writes_no_errors_between_our_lines(ray_cluster):
    """Ray's C++ part of this process is told to log what is fatal alone, its other processes are not."""
    import ray

    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    drivers = list(logs.glob(f"python-core-driver-*_{os.getpid()}.log"))
    assert drivers and all(" I " not in log.read_text() for log in drivers)
    assert " I " in (logs / "raylet.out").read_text()
    assert "RAY_BACKEND_LOG_LEVEL" not in os.environ
