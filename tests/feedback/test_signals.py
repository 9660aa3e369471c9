"""Signals: regret, progress and agreement against worked cases and against training itself."""

import pytest
import torch

from posegen.body import joint_sets
from posegen.body.joint_sets import LIMBS12, SMPL24, JointSet
from posegen.errors import ConfigError
from posegen.estimator.crop import CropConvention
from posegen.estimator.weak_labels import WeakRows, reprojection_loss
from posegen.feedback import FeedbackConfig, Sample, Surroundings, build_signal, image_error_m
from posegen.feedback.agreement import compared, target_direction
from posegen.feedback.errors3d import shared_error_m
from posegen.feedback.following import by_error, by_progress, region_means
from posegen.feedback.progress import local_mean, places
from posegen.finetune.relative_adam import sizes_of
from posegen.scene import Prediction

SIZE = 8
LIMBS = [SMPL24.index(joint) for joint in LIMBS12.joints]


class Linear(torch.nn.Module):
    """Joints as a linear map of the pixels, in two layers."""

    name, joint_set, differentiable, image_size = "linear", "smpl24", True, SIZE

    def __init__(self, seed=0, joint_set="smpl24"):
        super().__init__()
        self.joint_set, self.count = joint_set, {"smpl24": 24, "limbs12": 12}[joint_set]
        self.first = torch.nn.Linear(3 * SIZE * SIZE, 20)
        self.last = torch.nn.Linear(20, 3 * self.count)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def forward(self, images):
        return Prediction(self.last(self.first(images.flatten(1))).view(-1, self.count, 3), self.joint_set)


class Said:
    """Says what it is told to."""

    name, differentiable, image_size = "said", False, SIZE

    def __init__(self, joints, joint_set="smpl24", crop=None):
        self.joints, self.joint_set, self.seen = joints, joint_set, []
        if crop is not None:
            self.crop = crop

    def __call__(self, images):
        self.seen.append(images)
        return Prediction(self.joints, self.joint_set)


def images(n=8, seed=0):
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def joints(n=8, seed=1):
    return 0.3 * torch.randn(n, 24, 3, generator=torch.Generator().manual_seed(seed))


def moved(truth, metres):
    """A prediction whose every joint but the root's is off by so much (B,) along x."""
    off = torch.zeros_like(truth)
    off[:, LIMBS, 0] = metres[:, None] * torch.tensor([1.0 if "hip" not in j else 0.0 for j in LIMBS12.joints])
    return truth + off


def signal(name, around, **options):
    return build_signal(FeedbackConfig(signal=name, **options), around)


def test_the_error_is_the_error():
    sample = Sample(Linear(), images(), joints())
    assert torch.equal(
        signal("error", Surroundings(Linear())).of(sample), image_error_m(Linear()(images()), joints(), "mpjpe")
    )


def test_regret_is_the_error_above_the_best_teachers_on_shared_joints():
    truth = joints(4)
    own = Said(moved(truth, torch.tensor([0.4, 0.4, 0.1, 0.0])))
    good = Said(moved(truth, torch.tensor([0.1, 0.4, 0.2, 0.0]))[:, LIMBS], "limbs12")
    bad = Said(moved(truth, torch.tensor([0.9, 0.2, 0.9, 0.0])))
    regret = signal("regret", Surroundings(own, (good, bad)))
    # 10 of 12 joints are moved; the hips, which are the root, are not.
    expected = torch.tensor([0.3, 0.2, -0.1, 0.0]) * 10 / 12
    torch.testing.assert_close(regret.raw(Sample(own, images(4), truth)), expected, atol=1e-5, rtol=0)
    regret.calibrate([Sample(own, images(4), truth)])
    values = regret.of(Sample(own, images(4), truth))
    assert values.mean().item() == pytest.approx(0.3) and values.std(correction=0).item() == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="blazepose"):
        signal("regret", Surroundings(own))


def test_a_teacher_sees_its_own_crop():
    truth = joints(2)
    turned = truth @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    crop = CropConvention(SIZE, margin=1.25)
    teacher = Said(turned, crop=crop)
    own = Said(moved(truth, torch.full((2,), 0.12)))
    wide = images(2, 9)
    sample = Sample(own, images(2), truth, again=lambda wanted: (wide, turned) if wanted == crop else None)
    regret = signal("regret", Surroundings(own, (teacher,))).raw(sample)
    assert torch.equal(teacher.seen[0], wide)
    torch.testing.assert_close(regret, torch.full((2,), 0.12 * 10 / 20), atol=0.06, rtol=0)
    assert regret.min() > 0.01


def test_a_teacher_without_shared_joints_is_refused(monkeypatch):
    monkeypatch.setitem(joint_sets.JOINT_SETS, "spine5", JointSet("spine5", SMPL24.joints[:5], ("pelvis",)))
    spine = Prediction(joints(1)[:, :5], "spine5")
    with pytest.raises(ConfigError, match="share too few joints"):
        shared_error_m(spine, joints(1), ("limbs12",), "mpjpe")


def test_progress_is_where_the_error_fell_and_nothing_far_away():
    known = places(torch.stack([joints(1)[0], joints(1, 5)[0]]))
    fall = torch.tensor([0.2, -0.1])
    at = local_mean(known, known, fall, 0.02)
    torch.testing.assert_close(at, fall / 1.5, atol=1e-4, rtol=0)
    assert local_mean(places(joints(1, 7) * 9), known, fall, 0.02).abs().max() < 1e-6


def test_progress_compares_this_round_with_the_one_before():
    truth, shown = joints(), images()
    now, before = Said(moved(truth, torch.linspace(0, 0.2, 8))), Said(moved(truth, torch.full((8,), 0.3)))
    # The two speak in the order of the samples, so they are asked for all at once.
    progress = signal("progress", Surroundings(Linear(), earlier=before), width_mm=1.0)
    progress.around = Surroundings(now, earlier=before)
    progress.calibrate([Sample(now, shown, truth)])
    fell = (0.3 - torch.linspace(0, 0.2, 8)) * 10 / 24
    torch.testing.assert_close(progress.state["fall"], fell, atol=1e-4, rtol=0)
    values = progress.of(Sample(now, shown, truth))
    assert values.argmax() == 0 and values.argmin() == 7


def test_progress_of_the_first_round_asks_a_probe_and_leaves_the_estimator_alone():
    """Half of the samples teach the same thing, the other half are noise: the error falls on the first kind."""
    generator = torch.Generator().manual_seed(3)
    kind = torch.arange(40) % 2
    shown = torch.rand(40, 3, SIZE, SIZE, generator=generator) * 0.1
    shown[kind == 0, 0] += 1.0
    noise = torch.randn(40, 24, 3, generator=generator)
    truth = torch.where(kind[:, None, None] == 0, joints(1)[0], noise)
    estimator = Linear()
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    progress = signal("progress", Surroundings(estimator), probe_steps=30, probe_rate=0.02)
    progress.calibrate([Sample(estimator, shown, truth)])
    fall = progress.state["fall"]
    assert fall[kind == 0].mean() > 0.05 + fall[kind == 1].mean()
    assert all(torch.equal(value, before[name]) for name, value in estimator.state_dict().items())
    at = (truth + 0.02 * noise).requires_grad_()
    progress.of(Sample(estimator, shown, at)).sum().backward()
    assert at.grad.abs().max() > 0 and progress.needs_gradient is False
    again = signal("progress", Surroundings(estimator), probe_steps=30, probe_rate=0.02)
    again.calibrate([Sample(estimator, shown, truth)])
    assert torch.equal(again.state["fall"], fall)


def weak(seed=4, n=12):
    points = 0.5 * torch.randn(n, 12, 2, generator=torch.Generator().manual_seed(seed))
    return WeakRows(images(n, 20 + seed), torch.cat([points, torch.ones(n, 12, 1)], 2), "limbs12")


@pytest.mark.parametrize("part", ["all", "last"])
@pytest.mark.parametrize("joint_set", ["smpl24", "limbs12"])
def test_agreement_is_the_product_of_the_gradients(part, joint_set):
    estimator, rows = Linear(joint_set=joint_set), weak()
    agreement = signal("agreement", Surroundings(estimator, weak=rows), part=part, step=1e-2)
    values = agreement.raw(Sample(estimator, images(), joints()))
    weights = compared(estimator, part)
    assert set(weights) == ({"first.weight", "first.bias", "last.weight", "last.bias"} if part == "all" else
                            {"last.weight", "last.bias"})  # fmt: skip
    loss = reprojection_loss(estimator(rows.images), rows.keypoints, LIMBS12)
    target = torch.autograd.grad(loss, list(weights.values()))
    sizes = list(sizes_of(weights).values())
    length = sum((s * g).square().sum() for s, g in zip(sizes, target, strict=True)).sqrt()
    for row in range(3):
        error = image_error_m(estimator(images()[row : row + 1]), joints()[row : row + 1]).sum()
        own = torch.autograd.grad(error, list(weights.values()))
        product = sum((s.square() * g * t).sum() for s, g, t in zip(sizes, own, target, strict=True)) / length
        assert values[row].item() == pytest.approx(product.item(), rel=0.05, abs=2e-3)


def test_a_step_on_samples_that_agree_lowers_the_targets_loss():
    estimator, rows = Linear(), weak()
    many, truth = images(64, 2), joints(64, 3)
    agreement = signal("agreement", Surroundings(estimator, weak=rows))
    order = agreement.raw(Sample(estimator, many, truth)).argsort()

    def after(chosen):
        taught = Linear()
        error = image_error_m(taught(many[chosen]), truth[chosen]).mean()
        named = dict(taught.named_parameters())
        gradients = torch.autograd.grad(error, list(named.values()))
        for parameter, size, gradient in zip(named.values(), sizes_of(named).values(), gradients, strict=True):
            parameter.data -= 1e-3 * size.square() * gradient / gradient.norm()
        return reprojection_loss(taught(rows.images), rows.keypoints, LIMBS12).item()

    assert after(order[-16:]) < after(order[:16])


def test_agreement_reaches_the_image_and_leaves_the_weights_frozen():
    estimator = Linear().requires_grad_(False)
    agreement = signal("agreement", Surroundings(estimator, weak=weak()))
    agreement.calibrate([Sample(estimator, images(), joints())])
    shown = images().requires_grad_()
    agreement.of(Sample(estimator, shown, joints())).sum().backward()
    assert shown.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in estimator.parameters())


def test_what_a_signal_needs_is_said():
    blind = Said(joints())
    with pytest.raises(ConfigError, match="has no weights"):
        signal("progress", Surroundings(blind))
    with pytest.raises(ConfigError, match="needs pictures of the target"):
        signal("agreement", Surroundings(Linear()))
    unseen = weak()
    with pytest.raises(ConfigError, match="no keypoint of its pictures is seen"):
        target_direction(Linear(), WeakRows(unseen.images, unseen.keypoints * 0, "limbs12"), "all")
    with pytest.raises(ConfigError, match="progress"):
        signal("progres", Surroundings(Linear()))


def test_weights_that_follow():
    errors = torch.tensor([1.0, 3.0, 2.0, 6.0])
    means = region_means(errors, torch.tensor([0, 0, 2, 2]), 3)
    assert means.tolist() == [2.0, 3.0, 4.0]
    assert by_error(means, 2.0).tolist() == pytest.approx([4 / 29 * 3, 9 / 29 * 3, 16 / 29 * 3])
    assert by_error(means, 0.0).tolist() == [1.0, 1.0, 1.0]
    follow = by_progress(torch.tensor([4.0, 4.0, 4.0]), torch.tensor([1.0, 4.0, 5.0]), floor=0.3)
    assert follow.tolist() == pytest.approx([3.3 / 1.3, 0.3 / 1.3, 0.3 / 1.3])
    assert by_progress(means, means).tolist() == [1.0, 1.0, 1.0]
