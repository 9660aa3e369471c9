"""What Ray's C++ part says for nobody is left out; all else on standard error comes, in order, also after an error."""

import os

import pytest

from posegen.engine.quiet import LEVEL_IS_TOLD, _held_back


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
