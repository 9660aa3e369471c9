"""Source rows are of the part of the split that the estimator was pre-trained on."""

from __future__ import annotations

import numpy as np
import pytest

from posegen.arms.rows import SourceRenderer
from posegen.config import compose
from posegen.scenes.split import load_split


def test_each_estimator_names_its_source_and_is_watched_on_it() -> None:
    split = load_split()
    for name, source in (("hmr_small", "source"), ("blazepose", "source"), ("hmr_lite", "source-wide")):
        config = compose([f"estimator={name}"])
        assert config.estimator.source == source and config.evaluation.watch == (f"{source}-like",)
        assert split[f"{source}-like"].clips == split[source].clips


@pytest.mark.usefixtures("assets")
def test_rows_are_of_that_source() -> None:
    small, lite = compose(["image_size=32"]), compose(["estimator=hmr_lite", "image_size=32"])
    assert SourceRenderer(small).sampler.part.name == "source"
    renderer = SourceRenderer(lite)
    assert renderer.sampler.part.name == "source-wide"
    first, again = (renderer(np.array([3, 9])) for _ in range(2))
    assert first.num_rows == 2 and first["image"].equals(again["image"])
