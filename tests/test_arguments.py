"""Options that a factory cannot be called with are told by name, with what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posegen.arguments import check_arguments
from posegen.errors import ConfigError


def factory(annotations: str | Path, images: int = 3, share: float | None = None, sizes: tuple[int, ...] = ()) -> None:
    del annotations, images, share, sizes


def open_ended(images: int = 3, **more: Any) -> None:
    del images, more


@dataclass
class Settings:
    stride: int = 1
    stretch: bool = True


def check(options: dict[str, Any], of: Any = factory, **more: Any) -> None:
    check_arguments("benchmark mine", of, options, where="benchmark=mine", **more)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"images": 4, "share": 1, "annotations": "x"}, {"images": np.int64(4), "share": None}, {"share": 0.5},
        {"annotations": Path("x")}, {"sizes": "what it holds is for the factory to judge"},
    ],
)  # fmt: skip
def test_what_fits_is_taken(options: dict[str, Any]) -> None:
    check(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": "abc"}, "benchmark mine: images is a whole number, not 'abc'"),
        ({"images": True}, "images is a whole number, not True"),
        ({"images": 2.5}, "images is a whole number, not 2.5"),
        ({"images": None}, "images is a whole number, not None"),
        ({"share": "x"}, "share is a number or null, not 'x'"),
        ({"annotations": 3}, "annotations is a text or a path, not 3"),
        ({"imges": 3}, "benchmark mine has no option 'imges'; did you mean 'images'?"),
    ],
)
def test_what_does_not_fit_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(options)
    assert said in str(refused.value) and refused.value.where == "benchmark=mine"


def test_what_is_needed_is_asked_for_with_the_command_that_gives_it() -> None:
    def command(blanks: list[str]) -> str:
        return f"mine {' '.join(blanks)}"

    with pytest.raises(ConfigError, match="benchmark mine needs annotations") as refused:
        check({"images": 3}, missing=command)
    assert refused.value.next_command == "mine annotations=PATH"
    check({"annotations": "x"}, missing=command)


def test_a_factory_that_takes_any_option_judges_unknown_ones_itself() -> None:
    check({"anything": 3}, of=open_ended)
    with pytest.raises(ConfigError, match="images is a whole number"):
        check({"images": "x", "anything": 3}, of=open_ended)
    check({"stride": 3}, of=open_ended, more=["stride"])
    with pytest.raises(ConfigError, match="no option 'anything'"):
        check({"anything": 3}, of=open_ended, more=["stride"])
    with pytest.raises(ConfigError, match="stretch is true or false, not 1"):
        check({"stretch": 1}, of=Settings)
