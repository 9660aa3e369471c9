"""Checkpoint files: strict, explained, safe."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from posegen.errors import CheckpointError
from posegen.estimator.checkpoint import load_strict, read_state, write_npz, write_torch


class RunsCode:
    def __reduce__(self):
        return (print, ("ran",))


def test_state_is_found_at_the_top_and_under_known_keys(tmp_path):
    state = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    for content in (state, {"model": state, "epoch": 3}, {"model_state_dict": state}, {"state_dict": state}):
        assert read_state(write_torch(content, tmp_path / "a.pt")).keys() == state.keys()
    parallel = {f"module.{key}": value for key, value in state.items()}
    assert read_state(write_torch({"model": parallel}, tmp_path / "b.pt")).keys() == state.keys()


def test_npz_round_trip_in_half_precision(tmp_path):
    state = {"weight": torch.randn(3, 3), "bn.num_batches_tracked": torch.tensor(5)}
    back = read_state(write_npz(state, tmp_path / "w.npz"))
    assert back.keys() == {"weight"}
    assert torch.equal(back["weight"], state["weight"].half())


def test_missing_extra_and_other_shapes_are_named_and_nothing_is_loaded():
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    state = {"weight": torch.zeros(3, 2), "scale": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"1 missing keys: bias; 1 left-over keys: scale; 1 other shapes: weight"):
        load_strict(module, state, "a linear layer")
    assert torch.equal(module.weight, before)


def test_non_finite_weights_are_refused():
    state = {"weight": torch.full((2, 2), float("nan")), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="not finite in weight"):
        load_strict(nn.Linear(2, 2), state, "a linear layer")


def test_step_counters_may_be_missing():
    module = nn.BatchNorm2d(3)
    state = {key: value for key, value in module.state_dict().items() if key != "num_batches_tracked"}
    load_strict(module, {**state, "weight": torch.full((3,), 2.0)}, "batch norm")
    assert module.weight[0] == 2


def test_a_file_that_would_run_code_is_refused(tmp_path, capfd):
    path = tmp_path / "evil.pt"
    torch.save({"model": RunsCode()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        read_state(path)
    path.write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(CheckpointError):
        read_state(path)
    assert "ran" not in capfd.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_state(path)
    path = path.rename(tmp_path / "damaged.npz")
    with pytest.raises(CheckpointError):
        read_state(path)


def test_missing_file_and_file_without_tensors(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_state(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="no tensors"):
        read_state(write_torch({"epoch": 3}, tmp_path / "e.pt"))
