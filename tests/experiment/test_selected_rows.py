"""An arm that selects, from its candidates to its rows."""

from pathlib import Path

import numpy as np
import pytest

from posegen.arms.selection import select
from posegen.config import compose
from posegen.experiment.experiment import Experiment
from posegen.experiment.in_process import InProcess
from posegen.shards import read_shards

COLUMNS = ["row_id", "joints3d_cam_m", "error_at_birth_mm"]


@pytest.mark.usefixtures("assets")
def test_candidates_are_ranked_by_the_error_that_is_asked_for(tmp_path: Path):
    tables, chosen = {}, {}
    for kind in ("mpjpe", "pa_mpjpe"):
        words = [f"dataset.selection.error={kind}", f"run.outputs={tmp_path}", f"run.name={kind}"]
        config = compose(["experiment=smoke", "dataset.arms=[mined_random]", "dataset.images=12", *words])
        folder = Experiment(config, InProcess("cpu")).dataset("mined_random")
        run = folder.parents[1]
        tables[kind] = read_shards(str(run / "candidates" / "mined_random")).table(COLUMNS).sort_by("row_id")
        errors = tables[kind]["error_at_birth_mm"].to_numpy()
        chosen[kind] = np.load(run / "candidates" / "mined_random" / "chosen_ids.npy")
        assert chosen[kind].tolist() == select(errors, 12, config.dataset.selection).ids.tolist()
        rows = read_shards(str(folder)).table(COLUMNS).sort_by("row_id")
        picked = tables["mpjpe"].take(chosen[kind])  # the rows carry MPJPE, whatever they were ranked by
        assert all(rows[name].to_pylist() == picked[name].to_pylist() for name in COLUMNS[1:])
    assert tables["mpjpe"]["joints3d_cam_m"].to_pylist() == tables["pa_mpjpe"]["joints3d_cam_m"].to_pylist()
    assert chosen["mpjpe"].tolist() != chosen["pa_mpjpe"].tolist()
    assert np.median(tables["pa_mpjpe"]["error_at_birth_mm"]) < np.median(tables["mpjpe"]["error_at_birth_mm"])
