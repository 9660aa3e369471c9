"""The evaluation with estimators whose error is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.protocol import Benchmark, EvalBatch, Protocol, build
from posegen.body.joint_sets import SMPL24
from posegen.errors import ConfigError, DataError
from posegen.scene import Prediction


class TinyBenchmark(Benchmark):
    """Truth drawn at random; the image's first pixels carry the item's number, so that an estimator can look it up."""

    name = "tiny"

    def __init__(self, number: int = 10, vertices: bool = True, **protocol) -> None:
        generator = torch.Generator().manual_seed(0)
        self.joints = torch.randn(number, 24, 3, generator=generator) * 0.4 + 2
        self.mesh = torch.randn(number, 40, 3, generator=generator) if vertices else None
        self.valid: Tensor | None = None
        options = {"joint_set": "smpl24", "ordered": True} | protocol
        self.protocol = Protocol(name="tiny", **options)

    def __len__(self) -> int:
        return len(self.joints)

    def batches(self, batch_size: int) -> Iterator[EvalBatch]:
        for start in range(0, len(self), batch_size):
            index = torch.arange(start, min(start + batch_size, len(self)))
            yield EvalBatch(
                images=(index / 255).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8),
                joints=self.joints[index],
                joint_set="smpl24",
                ids=[f"image{i}" for i in index.tolist()],
                groups=["a" if i < 6 else "b" for i in index.tolist()],
                vertices=None if self.mesh is None else self.mesh[index],
                valid=None if self.valid is None else self.valid[index],
                frames=index.tolist(),
                actions=["jump" if i % 2 else "run" for i in index.tolist()],
            )


class Oracle:
    """Knows the truth and spoils it."""

    name, joint_set, differentiable, image_size = "oracle", "smpl24", False, 8

    def __init__(self, benchmark: TinyBenchmark, spoil: Callable[[Tensor], Tensor] = lambda joints: joints) -> None:
        self.benchmark, self.spoil = benchmark, spoil

    def __call__(self, images: Tensor) -> Prediction:
        index = (images[:, 0, 0, 0] * 255).round().long()
        joints = self.spoil(self.benchmark.joints[index])
        root = joints[:, :1].clone()
        mesh = None if self.benchmark.mesh is None else self.spoil(self.benchmark.mesh[index]) - root
        return Prediction(joints - root, "smpl24", vertices=mesh)


def shifted_limb(joints: Tensor) -> Tensor:
    """Joint 23, or vertex 23, off by 240 mm along x."""
    return joints + torch.nn.functional.one_hot(torch.tensor(23), joints.shape[1])[:, None] * torch.tensor([0.24, 0, 0])


def test_perfect_predictions_have_no_error():
    benchmark = TinyBenchmark()
    result = evaluate(Oracle(benchmark), benchmark, batch_size=4)
    assert result.metrics["mpjpe_mm"] < 1e-3 and result.metrics["pa_mpjpe_mm"] < 1e-3
    assert result.metrics["pve_mm"] < 1e-3 and result.metrics["acceleration_mm"] < 1e-2
    assert result.metrics["pck_150"] == 100 and result.metrics["auc"] == pytest.approx(100 * 30 / 31)
    assert result.counted == {"used": 10, "missing": 0, "damaged": 0, "failed": 0}


def test_a_translation_is_removed_with_the_root():
    benchmark = TinyBenchmark()
    moved = evaluate(Oracle(benchmark, lambda x: x + 0.03), benchmark)
    assert moved.metrics["mpjpe_mm"] < 1e-3 and moved.metrics["pve_mm"] < 1e-3


def test_a_scaled_prediction_errs_but_aligns():
    benchmark = TinyBenchmark()
    scaled = evaluate(Oracle(benchmark, lambda x: x * 1.1), benchmark)
    expected = 100 * (benchmark.joints - benchmark.joints[:, :1]).norm(dim=-1).mean()
    assert scaled.metrics["mpjpe_mm"] == pytest.approx(expected.item(), rel=1e-5)
    assert scaled.metrics["pa_mpjpe_mm"] < 1e-3


def test_one_wrong_joint_shows_in_its_column_only():
    benchmark = TinyBenchmark()
    result = evaluate(Oracle(benchmark, shifted_limb), benchmark, batch_size=3)
    assert result.metrics["mpjpe_mm"] == pytest.approx(10.0, abs=1e-3)
    assert result.metrics["pve_mm"] == pytest.approx(6.0, abs=1e-3)
    assert result.metrics["pck_150"] == pytest.approx(100 * 23 / 24)
    assert result.per_joint["right_hand"] == pytest.approx(240.0, abs=1e-3)
    assert result.per_joint["left_hand"] == pytest.approx(0.0, abs=1e-3)
    assert result.per_group["a"]["images"] == 6 and result.per_group["b"]["mpjpe_mm"] == pytest.approx(10.0, abs=1e-3)
    assert set(result.per_action) == {"jump", "run"}


def test_only_the_protocols_joints_and_root_count():
    benchmark = TinyBenchmark(joints=("left_hand", "right_hand"), root=("left_hip", "right_hip"))
    result = evaluate(Oracle(benchmark, shifted_limb), benchmark)
    assert result.joint_names == ["left_hand", "right_hand"]
    assert result.metrics["mpjpe_mm"] == pytest.approx(120.0, abs=1e-3)
    assert "root left_hip+right_hip" in result.protocol and "2 of smpl24" in result.protocol


def test_joints_without_annotation_do_not_count():
    benchmark = TinyBenchmark()
    benchmark.valid = torch.ones(10, 24, dtype=torch.bool)
    benchmark.valid[:, 23] = False
    assert evaluate(Oracle(benchmark, shifted_limb), benchmark).metrics["mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)


def test_acceleration_is_measured_within_a_group():
    """Every second frame off by 12 mm: second differences of 24 mm x 2 at one of 24 joints, clips cut at their ends."""
    benchmark = TinyBenchmark()

    class Jitter(Oracle):
        def __call__(self, images: Tensor) -> Prediction:
            prediction = super().__call__(images)
            index = (images[:, 0, 0, 0] * 255).round().long()
            prediction.joints[:, 5, 2] += 0.012 * (index % 2)
            return prediction

    values = evaluate(Jitter(benchmark), benchmark, batch_size=4).per_image["acceleration_mm"]
    assert np.isnan(values[[0, 5, 6, 9]]).all()
    assert values[[1, 2, 3, 4, 7, 8]] == pytest.approx(1.0, abs=1e-2)


def test_failed_predictions_are_counted_not_averaged():
    benchmark = TinyBenchmark()

    def fail_on_third(joints: Tensor) -> Tensor:
        joints = joints.clone()
        joints[2] = torch.nan
        return joints

    result = evaluate(Oracle(benchmark, fail_on_third), benchmark)
    assert result.counted["failed"] == 1 and result.counted["used"] == 9
    assert np.isnan(result.per_image["auc"][2]) and result.metrics["pck_150"] == 100


def test_nan_annotations_name_the_image():
    benchmark = TinyBenchmark()
    benchmark.joints[7, 3] = torch.nan
    with pytest.raises(DataError, match="image7"):
        evaluate(Oracle(benchmark), benchmark)


def test_a_result_survives_a_parquet_file(tmp_path):
    benchmark = TinyBenchmark(vertices=False)
    result = evaluate(Oracle(benchmark, shifted_limb), benchmark)
    loaded = BenchmarkResult.load(result.save(tmp_path / "evaluation" / "tiny.parquet"))
    assert loaded.ids == result.ids and loaded.groups == result.groups and loaded.actions == result.actions
    assert loaded.protocol == result.protocol and loaded.counted == result.counted
    assert loaded.metrics == result.metrics and set(loaded.per_image) == set(result.per_image)
    np.testing.assert_array_equal(loaded.per_image["mpjpe_mm"], result.per_image["mpjpe_mm"])
    np.testing.assert_array_equal(loaded.joint_errors_mm, result.joint_errors_mm)
    assert loaded.per_joint == result.per_joint and np.isnan(loaded.azimuth).all()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot read"):
        BenchmarkResult.load(tmp_path / "x.parquet")


def test_progress_is_told():
    seen: list[tuple[int, int]] = []
    benchmark = TinyBenchmark()
    evaluate(Oracle(benchmark), benchmark, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_an_estimator_module_keeps_its_mode():
    benchmark = TinyBenchmark()

    class Module(torch.nn.Module, Oracle):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            Oracle.__init__(self, benchmark)
            self.dropout = torch.nn.Dropout()

        def forward(self, images: Tensor) -> Prediction:
            assert not self.training and not torch.is_grad_enabled()
            return Oracle.__call__(self, images)

    Module.__call__ = torch.nn.Module.__call__
    module = Module().train()
    module.dropout.eval()
    evaluate(module, benchmark)
    assert module.training and not module.dropout.training


def test_protocols_check_their_joints():
    with pytest.raises(ConfigError, match="tail"):
        Protocol(name="x", joint_set=SMPL24.name, joints=("tail",))
    first = Protocol(name="x", joint_set="smpl24")
    assert (
        first.digest() == Protocol(name="x", joint_set="smpl24").digest() != Protocol("x", "smpl24", stride=2).digest()
    )
    with pytest.raises(ConfigError, match="share no compared joint"):
        Protocol(name="x", joint_set="smpl24", joints=("spine1",)).compared("coco17")


def test_unknown_benchmarks_are_named_with_choices():
    with pytest.raises(ConfigError, match="valid choices"):
        build("3dwp")
