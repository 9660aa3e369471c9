"""Data sets in an estimator's crop: margin, turn, border, and the truth that turns along."""

import numpy as np
import pytest
import torch
from PIL import Image

from posegen.benchmarks.protocol import Protocol, Recropped
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameOptions, FrameRecord
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.body.joint_sets import SMPL24
from posegen.estimator.crop import CropConvention
from posegen.estimator.spin_crop import spin_crop

SIDE = 100  # px of the person's box


def lying() -> np.ndarray:
    """(1,24,3) m: the head to the right (x), so that upright is a quarter turn counter-clockwise; 1 m long."""
    joints = np.zeros((1, 24, 3), np.float32)
    for side, y in (("left", -0.1), ("right", 0.1)):
        joints[0, SMPL24.index(f"{side}_shoulder")] = (0.5, y, 0)
        joints[0, SMPL24.index(f"{side}_ankle")] = (-0.5, y, 0)
    return joints


@pytest.fixture
def benchmark_of_one(tmp_path):
    """A grey picture with a red mark where the shoulders are."""
    picture = np.full((300, 300, 3), 90, np.uint8)
    picture[140:160, 190:210] = (250, 0, 0)
    Image.fromarray(picture).save(tmp_path / "a.png")
    record = FrameRecord("a", str(tmp_path / "a.png"), (150.0, 150.0), SIDE / 200, "g", 0)
    options = FrameOptions(image_size=50, stretch=False, workers=1)
    return FrameBenchmark("own", Protocol("own", "smpl24"), [record], GivenJoints(lying()), options, tmp_path)


def only(benchmark):
    (batch,) = benchmark.batches(4)
    return batch


def middle_of_red(image):
    rows, columns = torch.nonzero(image[0] - image[1] > 0.5, as_tuple=True)
    return columns.double().mean().item() + 0.5, rows.double().mean().item() + 0.5


def test_a_margin_shows_more_at_the_estimators_size(benchmark_of_one):
    assert isinstance(benchmark_of_one, Recropped)
    wide = only(benchmark_of_one.cropped_for(CropConvention(80, margin=1.6)))
    assert wide.images.shape == (1, 3, 80, 80)
    assert middle_of_red(wide.images[0]) == pytest.approx((40 + 50 / 160 * 80, 40), abs=0.6)
    assert torch.equal(wide.joints, torch.from_numpy(lying()))
    plain = only(benchmark_of_one)  # the first one is as it was
    assert plain.images.shape == (1, 3, 50, 50) and benchmark_of_one.protocol.boxes == "ground truth"


def test_upright_turns_picture_and_truth_together(benchmark_of_one):
    crop = CropConvention(80, margin=1.6, upright=True, stretch=False)
    recropped = benchmark_of_one.cropped_for(crop)
    batch = only(recropped)
    assert batch.images.shape == (1, 3, 80, 80)
    assert middle_of_red(batch.images[0]) == pytest.approx((40, 40 - 50 / 160 * 80), abs=0.6)  # straight above
    shoulder = batch.joints[0, SMPL24.index("left_shoulder")]
    assert shoulder.tolist() == pytest.approx([-0.1, -0.5, 0], abs=1e-6)
    assert recropped.protocol.boxes == "ground truth, x 1.6 for the estimator, turned upright"


def test_outside_the_picture_the_border_goes_on_where_wanted():
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[:, -1] = 200
    black, edge = (spin_crop(picture, (20.0, 10.0), 10 / 200, 10, False, outside) for outside in ("black", "edge"))
    assert black[5].max(1).tolist() == [0, 0, 0, 0, 200, 0, 0, 0, 0, 0]
    assert edge[5].max(1).tolist() == [0, 0, 0, 0, 200, 200, 200, 200, 200, 200]
