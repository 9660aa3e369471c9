"""Bars of stages that run side by side share the one live display a terminal can have."""

from __future__ import annotations

import io

from posegen.progress import LOG_EVERY_S, Reporter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_two_stages_at_once_have_a_bar_each_and_end_in_any_order():
    reporter = Reporter(Terminal())
    with reporter.stage("first", 10) as first:
        with reporter.stage("second", 4) as second:
            first.update(3, 10)
            second.update(4, 4, "2 mm")
            tasks = {task.description: (task.completed, task.fields["note"]) for task in reporter._bars.tasks}
            assert tasks == {"first": (3, ""), "second": (4, "2 mm")}
        assert [task.description for task in reporter._bars.tasks] == ["first"]
    assert reporter._bars is None
    with reporter.stage("third"):
        assert [task.description for task in reporter._bars.tasks] == ["third"]
    told = reporter.console.file.getvalue()
    assert all(f"{name:<34} done in" in told for name in ("first", "second", "third"))


def test_a_stage_that_fails_takes_its_bar_away_and_says_nothing_of_done():
    reporter = Reporter(Terminal())
    try:
        with reporter.stage("broken"):
            raise ValueError
    except ValueError:
        assert reporter._bars is None
    assert "done in" not in reporter.console.file.getvalue()


def test_a_log_says_the_time_left_from_the_speed_since_the_first_news(monkeypatch):
    """40 of 100 were there when it began (a resumed stage): only what was done since says how fast it goes."""
    now = [100.0]
    monkeypatch.setattr("posegen.progress.time.monotonic", lambda: now[0])
    log = io.StringIO()
    with Reporter(log).stage("rows", 100) as bar:
        bar.update(40, 100)
        now[0] += LOG_EVERY_S + 5
        bar.update(60, 100, "12 mm")
        now[0] += LOG_EVERY_S - 1
        bar.update(80, 100)  # too soon after the last line
        now[0] += 1
        bar.update(90)  # of how many is not known
    lines = log.getvalue().splitlines()
    assert lines[1] == "rows: 60/100, 12 mm, 40.0 s left"
    assert lines[2:-1] == ["rows: 90"]


def test_a_stage_of_several_parts_tells_the_time_left_of_the_part_at_work(monkeypatch):
    """An hour went into the first hundred; the second hundred are done at one a second."""
    now = [0.0]
    monkeypatch.setattr("posegen.progress.time.monotonic", lambda: now[0])
    log = io.StringIO()
    with Reporter(log).stage("rows", 100) as bar:
        bar.update(1, 100, "drawing")
        now[0] += 3600
        bar.update(100, 100, "drawing")
        bar.update(20, 100, "asking")
        now[0] += 20
        bar.update(40, 100, "asking")
        bar.update(10, 50, "writing")
        now[0] += 20
        bar.update(30, 50, "writing")
    assert log.getvalue().splitlines()[2:-1] == [
        "rows: 40/100, asking, 1 min 00 s left",
        "rows: 30/50, writing, 20.0 s left",
    ]
