"""Hypotheses over time."""

from __future__ import annotations

import numpy as np
import torch

from posegen.target.lift.sequence import chain_log_weights, chains


def test_marginals_are_those_of_all_paths() -> None:
    generator = torch.Generator().manual_seed(0)
    log_weight = torch.randn(3, 2, generator=generator)
    places = 0.1 * torch.randn(3, 2, 4, 3, generator=generator)
    gaps = torch.tensor([1, 2])
    paths = torch.zeros(2, 2, 2)
    for a in range(2):
        for b in range(2):
            for c in range(2):
                steps = ((places[0, a] - places[1, b]), (places[1, b] - places[2, c]))
                moves = [(s.norm(dim=-1).mean() / 0.06) ** 2 for s in steps]
                paths[a, b, c] = (
                    log_weight[0, a] + log_weight[1, b] + log_weight[2, c] - 0.5 * moves[0] / 1 - 0.5 * moves[1] / 2
                )
    p = paths.exp() / paths.exp().sum()
    expected = torch.stack([p.sum((1, 2)), p.sum((0, 2)), p.sum((0, 1))])
    torch.testing.assert_close(chain_log_weights(log_weight, places, gaps).exp(), expected, atol=1e-5, rtol=1e-4)


def test_a_doubtful_frame_follows_its_neighbours() -> None:
    places = torch.zeros(3, 2, 5, 3)
    places[:, 1] = 0.5  # the second state is somewhere else, alike in all frames
    log_weight = torch.tensor([[0.0, -6.0], [-0.4, 0.0], [0.0, -6.0]])
    marginal = chain_log_weights(log_weight, places, torch.tensor([1, 1])).exp()
    assert marginal[1, 0] > 0.99


def test_runs_end_at_gaps_and_leave_single_frames_out() -> None:
    names = ["a", "a", "b", "a", "a", "", ""]
    frames = np.array([2, 1, 1, 40, 42, 3, 4])
    assert chains(names, frames) == [([1, 0], [1]), ([3, 4], [2])]
