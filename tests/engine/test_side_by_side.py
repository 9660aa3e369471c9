"""Arms side by side: as many as there is room for, nobody waits for ever, one that fails takes none with it."""

from __future__ import annotations

import threading

import pytest
import torch
from toy_loops import run_here

from posegen.engine.side_by_side import SideBySide, Stopped, at_once, run_side_by_side
from posegen.engine.terms import Claim, Place, Reports
from posegen.engine.train import run_training
from posegen.errors import ConfigError, DataError, EngineError

ARM = [{"CPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}]
PATIENCE_S = 120


def test_the_number_of_arms_follows_from_what_is_free():
    asks = dict.fromkeys("abc", ARM)
    assert at_once("auto", asks, [{"CPU": 4, "GPU": 1}])[0] == 2
    assert at_once("auto", asks, [{"CPU": 64, "GPU": 1}])[0] == 2  # the GPU is the limit
    assert at_once("auto", asks, [{"CPU": 64, "GPU": 8}])[0] == 3  # never more than arms
    assert at_once("auto", asks, [{"CPU": 1}])[0] == 1  # the stage itself says what is missing
    assert at_once("auto", {"a": [{"CPU": 3.0}], "b": [{"CPU": 3.0}]}, [{"CPU": 4}, {"CPU": 2}])[0] == 1
    assert at_once("1", asks, [{"CPU": 64, "GPU": 8}])[0] == 1
    _, line = at_once("auto", asks, [{"CPU": 4, "GPU": 1}])
    assert line == (
        "arms 2 of 3 side by side: each takes at most 2 CPU, 0.5 GPU, free is 4 CPU, 1 GPU (engine.parallel_arms=auto)"
    )


def test_on_a_ray_started_here_each_core_counts_twice_where_there_is_memory(monkeypatch, tmp_path):
    from posegen.config import compose
    from posegen.engine import command
    from posegen.engine.workers import RayWorkers
    from posegen.experiment.experiment import Experiment

    monkeypatch.setattr(command, "free_resources", lambda: [{"CPU": 4.0, "GPU": 1.0}])
    monkeypatch.setattr(command, "cores", lambda: 1)
    monkeypatch.setattr(command, "memory_bytes", lambda: 16 * 2**30)
    config = compose([f"run.outputs={tmp_path}"])
    workers = RayWorkers(config)
    arms = command.Arms(Experiment(config, workers), workers)
    assert arms.room() == [{"CPU": 4.0, "GPU": 1.0}]  # joined: its nodes know what they have
    arms = command.Arms(arms.experiment, workers, started_here=True)
    assert arms.room() == [{"CPU": 2.0, "GPU": 1.0}]
    asks = arms.asks()
    assert asks["random"] == asks["posegen"] == [{"CPU": 1.0, "GPU": 0.0}] * 2
    assert at_once("auto", asks, arms.room())[0] == 1  # one core: one by one
    monkeypatch.setattr(command, "cores", lambda: 2)
    assert at_once("auto", asks, arms.room())[0] == 2  # two cores: two at once ...
    monkeypatch.setattr(command, "memory_bytes", lambda: 7 * 2**30)
    assert at_once("auto", asks, arms.room())[0] == 1  # ... where there is memory
    asked = compose([f"run.outputs={tmp_path}", "engine.cpus=3"])
    arms = command.Arms(Experiment(asked, workers), workers, started_here=True)
    assert arms.room() == [{"CPU": 3.0, "GPU": 1.0}]  # what is asked for counts as it is
    overlapped = compose([f"run.outputs={tmp_path}", "overlap=true"])
    asks = command.Arms(Experiment(overlapped, workers), workers).asks()
    assert len(asks["posegen"]) == len(asks["no_feedback"]) == 3
    assert len(asks["mocap"]) == 2


def test_arms_begin_with_the_longest_and_answer_in_the_order_asked_for(monkeypatch, tmp_path):
    from posegen.config import compose
    from posegen.engine import command
    from posegen.engine.workers import RayWorkers
    from posegen.experiment.experiment import Experiment

    config = compose([f"run.outputs={tmp_path}", "dataset.arms=[random,posegen,no_feedback]", "engine.parallel_arms=2"])
    workers = RayWorkers(config)
    experiment = Experiment(config, workers)
    monkeypatch.setattr(command, "free_resources", lambda: [{"CPU": 4.0}])
    monkeypatch.setattr(experiment, "source", lambda: None)
    begun, both = [], threading.Barrier(2, timeout=PATIENCE_S)

    def work(arm):
        begun.append(arm)
        if len(begun) <= 2:  # the third finds a free place only when one of these has ended
            both.wait()
        return arm.upper()

    done = command.Arms(experiment, workers).each(work)
    assert list(done.items()) == [("random", "RANDOM"), ("posegen", "POSEGEN"), ("no_feedback", "NO_FEEDBACK")]
    assert begun[2] == "random"  # the plainest comes last


@pytest.mark.parametrize(
    ("words", "free", "actors"),
    [
        ([], [{"CPU": 4.0}], 2),  # a trainer's processor is idle meanwhile
        ([], [{"CPU": 1.0}], 1),  # others have it
        (["engine.render_actors=2", "engine.finetune_workers=2"], [{"CPU": 8.0}], 4),
        (["engine.render_actors=2", "engine.finetune_workers=2"], [{"CPU": 2.0}, {"CPU": 1.0}], 3),
        (["engine.cpus_per_trainer=4", "engine.cpus_per_renderer=2"], [{"CPU": 8.0}], 3),
        (["engine.gpus_per_trainer=1", "engine.gpus_per_renderer=0.5"], [{"CPU": 8.0, "GPU": 2.0}], 2),
        (["engine.gpus_per_renderer=0.5"], [{"CPU": 8.0, "GPU": 2.0}], 1),  # trainers leave no GPU behind
        (["engine.finetune_workers=5"], [{"CPU": 8.0}], 4),  # a Ray started here, on a machine of four cores
        (["engine.finetune_workers=5", "engine.address=auto"], [{"CPU": 8.0}], 6),
    ],
)
def test_where_nothing_is_trained_renderers_take_the_trainers_place(monkeypatch, tmp_path, words, free, actors):
    from posegen.config import compose
    from posegen.engine import workers
    from posegen.experiment.rendering import Rendering

    monkeypatch.setattr(workers, "free_resources", lambda: free)
    monkeypatch.setattr(workers, "cores", lambda: 4)
    monkeypatch.setattr(workers.RayWorkers, "_require", lambda *asked, **patience: None)
    seen = []
    monkeypatch.setattr(workers, "render_to_disk", lambda rendering, progress: seen.append(rendering.actors) or {})
    config = compose([f"run.outputs={tmp_path}", *words])
    engine = config.engine
    rendering = Rendering(
        dict, {}, 10, actors=engine.render_actors, num_cpus=engine.cpus_per_renderer, num_gpus=engine.gpus_per_renderer
    )
    workers.RayWorkers(config).render(rendering, lambda done: None)
    workers.RayWorkers(config, check_resources=False).render(rendering, lambda done: None)  # a trial has what it has
    assert seen == [actors, engine.render_actors]


def test_more_arms_than_fit_and_a_bad_number_are_answered_at_once():
    asks = dict.fromkeys("abc", ARM)
    with pytest.raises(EngineError, match=r"3 arms side by side: asked for 6 CPU, 1.5 GPU, free is 4 CPU, 1 GPU"):
        at_once("3", asks, [{"CPU": 4, "GPU": 1}])
    with pytest.raises(ConfigError, match="parallel_arms is 'many'"):
        at_once("many", asks, [{"CPU": 4}])


def test_pieces_run_at_the_same_time_and_answer_in_order():
    meeting = threading.Barrier(2, timeout=PATIENCE_S)  # neither gets past it alone

    def piece(name):
        meeting.wait()
        return name.upper()

    work = {name: (lambda name=name: piece(name)) for name in ("b", "a", "d", "c")}
    assert list(run_side_by_side(work, 2, SideBySide()).items()) == [("b", "B"), ("a", "A"), ("d", "D"), ("c", "C")]


def test_a_piece_that_fails_is_told_at_once_and_the_others_are_finished():
    told, done = threading.Event(), []

    def fails():
        raise DataError("the shard is cut short", where="part-7")

    def works():
        assert told.wait(PATIENCE_S)
        done.append("works")

    with pytest.raises(DataError, match="cut short"):
        run_side_by_side({"bad": fails, "good": works}, 2, SideBySide(), lambda name, error: told.set())
    with pytest.raises(EngineError, match="one: the shard is cut short; two: the shard is cut short"):
        run_side_by_side({"one": fails, "good": works, "two": fails}, 1, SideBySide())
    assert done == ["works", "works"]


def test_one_stage_at_a_time_takes_resources_and_a_stopped_run_lets_none_begin():
    together = SideBySide()
    order: list[str] = []
    first_has_the_turn, second_asks = threading.Event(), threading.Event()

    def first():
        with together.turn() as turn:
            first_has_the_turn.set()
            order.append("first begins")
            assert second_asks.wait(PATIENCE_S)
            order.append("first has all it needs")
            turn.started()
            turn.started()  # a second row changes nothing

    def second():
        assert first_has_the_turn.wait(PATIENCE_S)
        second_asks.set()
        with together.turn():
            order.append("second begins")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["first begins", "first has all it needs", "second begins"]
    together.stop()
    with pytest.raises(Stopped), together.turn():
        order.append("never")
    assert len(order) == 3


def test_trainings_in_threads_give_the_weights_of_one_and_stop_ends_one_for_good(ray_cluster, tmp_path):
    together = SideBySide()
    quick = {"steps": 6, "batch": 4}
    endless = {"steps": 10**9, "batch": 4}
    at_work = threading.Event()
    errors: list[BaseException] = []

    def train(name, config, on_metrics=None):
        return run_training(
            "toy_loops:GanLoop", config, Place(tmp_path, name), claim=Claim(turn=together.turn()),
            reports=Reports(
                on_metrics, checkpoint_every=10**9, every=1, interval_s=0.2, callbacks=[together.lifeline()]
            ),
        )  # fmt: skip

    def run_endless():
        try:
            train("endless", endless, lambda row: at_work.set())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run_endless, daemon=True)
    thread.start()
    assert at_work.wait(PATIENCE_S)
    outcome = train("quick", quick)  # takes its turn while the other is at work
    assert thread.is_alive()
    want = run_here(quick)
    assert torch.equal(outcome.state()["g"]["0.weight"], want["g"]["0.weight"])
    together.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and len(errors) == 1
