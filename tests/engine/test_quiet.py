"""What Ray says for nobody is left out; all else on standard error comes, in order, also after an error."""

import logging
import os

import pytest

from posegen.engine.quiet import LEVEL_IS_TOLD, UNASKED, _held_back, quieten


def test_one_line_of_ray_is_left_out_and_nothing_else(capfd):
    with pytest.raises(ValueError, match="of the block"):
        said_and_failed(capfd)
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "[2026 F 7] a death is told\nlater\n"


def said_and_failed(capfd):
    with _held_back(LEVEL_IS_TOLD):
        os.write(2, b"[2026 I 7] logging.cc:303: " + LEVEL_IS_TOLD + b" RAY_BACKEND_LOG_LEVEL to 3\n")
        os.write(2, b"[2026 F 7] a death is told\n")
        assert capfd.readouterr().err == ""
        raise ValueError("of the block")


def test_a_failure_that_nobody_asked_for_goes_to_our_log_and_others_stay(caplog, monkeypatch):
    from ray._private import worker

    told = []
    monkeypatch.setattr(worker.logger, "filters", [])
    monkeypatch.setattr(worker.logger, "handlers", [logging.Handler()])
    worker.logger.handlers[0].emit = lambda record: told.append(record.getMessage())
    with caplog.at_level(logging.INFO, "posegen.engine.quiet"):
        quieten(verbose=False)
        worker._unhandled_error_handler(KeyError("dataset_0"))
        worker.logger.error("the cluster is gone")
    assert told == ["the cluster is gone"]
    (kept,) = [record.getMessage() for record in caplog.records if record.name == "posegen.engine.quiet"]
    assert kept.startswith(UNASKED) and "dataset_0" in kept
