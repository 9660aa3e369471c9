"""Weak labels in the loop: the target's share of a batch, its loss, what is held out, exact resume."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_finetune import Tiny, rows

from posegen.body.joint_sets import LIMBS12
from posegen.config import ArmTask, compose
from posegen.config.task import TargetFiles
from posegen.errors import ConfigError, DataError
from posegen.estimator.augment import crop_jitter
from posegen.estimator.weak_labels import lifted_loss
from posegen.finetune.loop import FinetuneLoop
from posegen.finetune.target_share import following
from posegen.scene import Prediction
from posegen.target.lift.lifter import Hypotheses
from posegen.target.lifted import lifted_of, read_lifted, write_lifted
from posegen.target.people import people_of, write_people
from posegen.target.record import Target

STEPS = 10


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    common = generator.uniform(12, 52, (12, 2))  # all stand alike, but for a little
    pictures, points = [], []
    for number in range(20):
        file = folder / f"{number}.png"
        Image.fromarray(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file)
        pictures.append(str(file))
        points.append(np.concatenate([common + generator.normal(0, 2, (12, 2)), np.ones((12, 1))], 1))
    names = tuple(Path(p).name for p in pictures)
    return people_of(Target("limbs12", np.array(points, np.float32), names, tuple(pictures)), 0.25)


def loop(people, *overrides, source=True):
    torch.manual_seed(0)
    settings = ["experiment=smoke", "finetune.batch=8", f"finetune.steps={STEPS}", "finetune.augment=false"]
    settings += ["finetune.source_share=0.25", "finetune.target_share=0.25", "finetune.guard_rows=4", *overrides]
    return FinetuneLoop(ArmTask(compose(settings)), estimator=Tiny(), source=rows(16, 1), target=people)


def run(built, steps=STEPS):
    want = built.batch_rows
    return [built.step(rows(want, 100 + built.step_index) if want else {}) for _ in range(steps - built.step_index)]


def test_the_target_has_its_share_and_its_own_loss(people):
    built = loop(people)
    assert (built.batch_rows, built.source_batch, built.target.total) == (4, 2, 2)
    told = built.step(rows(4, 3))
    assert told["loss_target"] > 0
    alone = loop(people, "finetune.weight_target=0").step(rows(4, 3))
    assert alone["loss_target"] == 0
    assert told["loss"] == pytest.approx(alone["loss"] + told["loss_target"], rel=1e-5)


def test_weak_labels_alone_lower_the_reprojection_error_of_those_shown(people):
    built = loop(
        people, "finetune.source_share=0", "finetune.target_share=1", "finetune.learning_rate=0.02",
        "finetune.steps=60", "finetune.average=0", "finetune.weight_target=50", "finetune.clip=1e6",
    )  # fmt: skip
    assert built.batch_rows == 0
    shown = built.target.crops.rows(range(len(built.target.crops)))

    def error():
        with torch.no_grad():
            prediction = built.estimator(shown.images.float() / 255)
        return built.target.error(prediction, shown.keypoints).mean().item()

    before = error()
    told = [built.step({})["loss_target"] for _ in range(60)]
    assert error() < 0.8 * before and sum(told[-5:]) < 0.6 * sum(told[:5])


def test_held_out_people_are_watched_and_never_shown(people):
    built = loop(people, "finetune.guard_every=5")
    built.hold_out(rows(4, 5))
    told = run(built)
    assert "held_target" in told[4] and "held_generated" in told[4]
    kept = set(people.kept_back.target.names)
    assert len(kept) == 5 and not kept & set(built.target.crops.people.target.names)
    seen = {number for step in range(200) for number in torch.as_tensor(_numbers(built, step)).tolist()}
    assert seen == set(range(15))


def _numbers(built, step):
    from posegen.seeds import torch_generator

    generator = torch_generator(built.seed, "finetune", "target", step)
    return torch.randint(len(built.target.crops), (built.target.total,), generator=generator)


def test_a_loop_with_a_target_resumes_exactly(people, tmp_path):
    whole = loop(people, "finetune.augment=true")
    run(whole, 5)
    torch.save(whole.state_dict(), tmp_path / "s.pt")
    rest = run(whole)
    resumed = loop(people, "finetune.augment=true")
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    assert run(resumed) == rest


def test_distillation_still_sees_the_source_rows_alone(people):
    built = loop(people, "finetune.keep=distill")
    asked = []
    old = built.old_answers
    built.old_answers = lambda prediction, images: (asked.append(images), old(prediction, images))[1]
    built.step(rows(4, 3))
    assert len(asked[0]) == 2
    built.step_index = 0
    assert torch.equal(asked[0], built._source_part()["image"].float() / 255)


@pytest.fixture(scope="module")
def lifted(people, tmp_path_factory):
    """Files of the target whose people were lifted: two hypotheses each, of which the second is the likelier."""
    folder: Path = tmp_path_factory.mktemp("lifted")
    shown = people.shown
    n = len(shown)
    generator = torch.Generator().manual_seed(0)
    one = torch.zeros(n, 2)
    hypotheses = Hypotheses(
        pose=0.3 * torch.randn(n, 2, 24, 3, generator=generator), betas=torch.zeros(n, 2, 10), elevation_rad=one + 0.2,
        roll_rad=one, distance_m=one + 4, focal=one + 3, shift_m=torch.zeros(n, 2, 2), elevation_spread_rad=one + 0.1,
        log_distance_spread=one + 0.1, score=one, reprojection=one, weight=torch.tensor([0.2, 0.8]).expand(n, 2),
    )  # fmt: skip
    made = lifted_of(shown.target, hypotheses, shown.centre, shown.side)
    return TargetFiles(str(write_people(people, folder / "people.npz")), str(write_lifted(made, folder / "lifted.npz")))


def taught_by_lifted(files, *overrides):
    torch.manual_seed(0)
    settings = ["experiment=smoke", "finetune.batch=8", "finetune.steps=60", "finetune.augment=false",
                "finetune.target_labels=lifted", "finetune.guard_every=0", *overrides]  # fmt: skip
    task = ArmTask(compose(settings), target=files)
    return FinetuneLoop(task, estimator=Tiny(), source=rows(16, 1))


def test_lifted_people_teach_their_own_pictures(lifted):
    built = taught_by_lifted(
        lifted, "finetune.source_share=0", "finetune.target_share=1", "finetune.learning_rate=0.02",
        "finetune.average=0", "finetune.weight_target=0", "finetune.clip=1e6",
    )  # fmt: skip
    shown = built.target.labels.join(built.target.crops.rows(range(15)), list(range(15)))

    def distance_m():
        with torch.no_grad():
            prediction = built.estimator(shown.images.float() / 255)
        return float(lifted_loss(prediction, shown))

    before = distance_m()
    for _ in range(60):
        built.step({})
    assert distance_m() < 0.8 * before


def test_the_lifted_person_nearest_to_the_prediction_counts_most(lifted):
    built = taught_by_lifted(lifted, "finetune.source_share=0", "finetune.target_share=1")
    shown = built.target.labels.join(built.target.crops.rows([3]), [3])
    assert torch.allclose(shown.lifted[:, :, 0], torch.zeros(1, 2, 3), atol=1e-6), "about the pelvis"
    nearly = [Prediction(shown.lifted[:, number], "smpl24") for number in (0, 1)]
    apart = float((shown.lifted[0, 0] - shown.lifted[0, 1]).norm(dim=-1).mean())
    for prediction, weight in zip(nearly, (0.2, 0.8), strict=True):
        other = (1 - weight) * np.exp(-apart / 0.1)
        assert float(lifted_loss(prediction, shown)) == pytest.approx(apart * other / (weight + other), rel=0.02)
    unseen = replace(shown, keypoints=shown.keypoints * 0)
    assert float(lifted_loss(nearly[0], unseen)) == 0


def test_a_picture_of_lifted_people_counts_as_a_rendered_row(lifted):
    few, more = (
        taught_by_lifted(lifted, "finetune.source_share=0.25", f"finetune.target_share={share}",
                         "finetune.weight_target=0").step(rows(want, 3))
        for share, want in ((0.25, 4), (0.5, 2))
    )  # fmt: skip
    # of 8 rows 2 and 6 with labels; 4 and 4: the same people weigh a third, and as much
    assert 2 < more["loss_target"] / few["loss_target"] < 4.5


def test_lifted_people_must_be_those_that_are_shown(lifted, people, tmp_path):
    other = read_lifted(lifted.lifted).pick(np.arange(15)[::-1])
    files = replace(lifted, lifted=str(write_lifted(other, tmp_path / "other.npz")))
    with pytest.raises(DataError, match="not those whose pictures are shown"):
        taught_by_lifted(files, "finetune.target_share=0.25")
    with pytest.raises(ConfigError, match="nobody was lifted"):
        loop(people, "finetune.target_labels=lifted")


def test_two_ranks_show_what_one_would(people):
    from posegen.finetune.config import FinetuneConfig
    from posegen.finetune.target_share import TargetShare
    from posegen.parallel import Parallel

    settings = FinetuneConfig(batch=8, target_share=0.5)
    one, first, second = (TargetShare(people, settings, Tiny(), 0, p) for p in (
        Parallel(), Parallel(0, 2), Parallel(1, 2)))  # fmt: skip
    for step in range(3):
        parts = first.rows(step).images, second.rows(step).images
        assert torch.equal(torch.stack(parts, 1).flatten(0, 1), one.rows(step).images)


def test_keypoints_follow_the_jittered_picture():
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 40:44, 20:24] = 1.0  # around (22, 42) px: (-0.3125, 0.3125) in crop units
    zoom, shift = torch.tensor([1.2]), torch.tensor([[0.05, -0.1]])
    moved = crop_jitter(image, zoom, shift)[0, 0]
    grid = (torch.arange(64) + 0.5) / 32 - 1
    place = torch.stack([(moved.sum(0) * grid).sum(), (moved.sum(1) * grid).sum()]) / moved.sum()
    keypoints = torch.tensor([[[-0.3125, 0.3125, 0.7], [0.95, 0.0, 0.9]]])
    followed = following(keypoints, zoom, shift)
    assert (followed[0, 0, :2] - place).abs().max() < 0.02 and followed[0, 0, 2] == pytest.approx(0.7)
    assert followed[0, 1].tolist() == [0.0, 0.0, 0.0], "it has left the picture"


def test_what_cannot_be_is_refused(people):
    with pytest.raises(ConfigError, match="add up to 1"):
        loop(people, "finetune.source_share=0.9", "finetune.target_share=0.2")
    unseen = Target("limbs12", people.target.keypoints, people.target.names)
    with pytest.raises(DataError, match="keypoints alone"):
        loop(people_of(unseen, 0.0))
    assert LIMBS12.name == people.target.joint_set
