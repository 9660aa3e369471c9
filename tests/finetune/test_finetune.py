"""Fine-tuning: it lowers the loss, resumes exactly, mixes as told, and refuses what it cannot train."""

import pytest
import torch

from posegen.body.rotations import aa_to_matrix
from posegen.config import compose
from posegen.config.task import ArmTask
from posegen.errors import ConfigError, DataError
from posegen.estimator.blazepose import BlazePose
from posegen.estimator.hmr import Hmr
from posegen.estimator.labels import LossWeights, supervised_loss
from posegen.estimator.spin import Spin
from posegen.finetune.config import FinetuneConfig
from posegen.finetune.loop import FinetuneLoop
from posegen.finetune.objective import Teaching, labels_of_rows
from posegen.finetune.optimisers import choose
from posegen.scene import Prediction

SIZE = 24
SAME = Teaching(True, torch.eye(3).repeat(24, 1, 1))


class Tiny(torch.nn.Module):
    name, joint_set, differentiable, image_size = "tiny", "smpl24", True, SIZE

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(3 * 6 * 6, 72)
        torch.nn.init.zeros_(self.map.weight)

    def forward(self, images):
        x = torch.nn.functional.adaptive_avg_pool2d(images, 6).flatten(1)
        return Prediction(self.map(x).view(-1, 24, 3), "smpl24")

    def train_mode(self, frozen_batchnorm=True):
        return self.train()


def rows(n, seed):
    g = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=g, dtype=torch.uint8)
    return {
        "image": image,
        "pose": torch.randn(n, 24, 3, generator=g) * 0.2,
        "betas": torch.randn(n, 10, generator=g),
        "camera_R": torch.eye(3).expand(n, 3, 3).contiguous(),
        "joints3d_cam_m": torch.randn(n, 24, 3, generator=g) * 0.3,
        "joints2d_px": torch.rand(n, 24, 2, generator=g) * SIZE,
    }


def loop(*overrides):
    torch.manual_seed(0)
    config = compose(
        ["experiment=smoke", "finetune.batch=8", "finetune.steps=60", "finetune.augment=false", *overrides]
    )
    return FinetuneLoop(ArmTask(config), estimator=Tiny(), source=rows(16, 1))


def test_training_lowers_the_loss_and_finish_returns_the_average():
    trained, generated = loop("finetune.learning_rate=0.01"), rows(4, 2)
    losses = [trained.step(generated)["loss"] for _ in range(60)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    averaged = {k: v.clone() for k, v in trained.averaged.items()}
    estimator = trained.finish()
    assert all(torch.equal(v, averaged[k]) for k, v in estimator.state_dict().items())


def test_a_resumed_loop_goes_on_exactly(tmp_path):
    whole, generated = loop(), rows(4, 2)
    for _ in range(3):
        whole.step(generated)
    torch.save(whole.state_dict(), tmp_path / "s.pt")
    rest = [whole.step(generated) for _ in range(3)]
    resumed = loop()
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    assert [resumed.step(generated) for _ in range(3)] == rest
    assert torch.equal(resumed.estimator.map.weight, whole.estimator.map.weight)
    assert torch.equal(resumed.averaged["map.weight"], whole.averaged["map.weight"])


def test_learning_rate_warms_up_and_ends_near_zero():
    trained = loop("finetune.warmup_steps=10", "finetune.learning_rate=1.0")
    assert trained.learning_rate(0) == pytest.approx(0.1)
    assert trained.learning_rate(9) == pytest.approx(1 - 9 / 60)
    assert trained.learning_rate(59) == pytest.approx(1 / 60)


def test_the_learning_rate_is_the_estimators_unless_given():
    assert loop().peak_rate == 5e-4  # says nothing of its own
    config = compose(["experiment=smoke"])

    class Careful(Tiny):
        learning_rate = 1e-6

    assert FinetuneLoop(ArmTask(config), estimator=Careful(), source=rows(16, 1)).peak_rate == 1e-6
    told = compose(["experiment=smoke", "finetune.learning_rate=3e-4"])
    assert FinetuneLoop(ArmTask(told), estimator=Careful(), source=rows(16, 1)).peak_rate == 3e-4
    assert (Hmr.learning_rate, Spin.learning_rate, BlazePose.learning_rate) == (5e-4, 5e-5, 3e-4)


def test_optimiser_rate_and_guard_go_together():
    class Blaze:
        learning_rate, optimiser, guard_every = 3e-4, "relative_adam", 20

    class Plain:
        learning_rate = 1e-6

    def chosen(estimator, **settings):
        return choose(FinetuneConfig(**settings), estimator)

    assert chosen(Blaze()) == ("relative_adam", 3e-4, 20)
    assert chosen(Blaze(), optimiser="adamw") == ("adamw", 5e-4, 20)  # 3e-4 is no absolute rate
    assert chosen(Blaze(), optimiser="adamw", learning_rate=1e-6, guard_every=0) == ("adamw", 1e-6, 0)
    assert chosen(Plain()) == ("adamw", 1e-6, 0)
    assert chosen(Plain(), optimiser="relative_adam") == ("relative_adam", 3e-4, 0)
    with pytest.raises(ConfigError, match="unknown optimiser"):
        chosen(Plain(), optimiser="sgd")
    assert chosen(BlazePose) == ("relative_adam", 3e-4, 20)
    assert chosen(Hmr) == ("adamw", 5e-4, 0)


def test_the_mix_is_as_told():
    assert loop("finetune.source_share=0.25").batch_rows == 6
    assert loop("finetune.source_share=1.0").batch_rows == 0
    with pytest.raises(DataError, match="takes 4 generated rows, got 3"):
        loop().step(rows(3, 0))


def test_labels_turn_the_root_into_the_camera_frame():
    row = rows(2, 0)
    row["camera_R"] = aa_to_matrix(torch.tensor([[0.0, 0.5, 0.0], [0.3, 0.0, 0.0]]))
    labels = labels_of_rows(row, SAME)
    expected = row["camera_R"] @ aa_to_matrix(row["pose"][:, 0])
    assert torch.allclose(labels.rotations[:, 0], expected, atol=1e-6)
    assert torch.allclose(labels.rotations[:, 5], aa_to_matrix(row["pose"][:, 5]), atol=1e-6)
    assert labels.joints[:, 0].abs().max() == 0
    assert labels.joints_crop == pytest.approx(row["joints2d_px"] / SIZE * 2 - 1)


def test_an_estimator_of_other_joints_is_taught_those_it_shares():
    labels = labels_of_rows(rows(2, 0), SAME)
    joints = torch.zeros(2, 12, 3)
    from posegen.body.joint_sets import LIMBS12, SMPL24

    in_limbs, in_smpl = LIMBS12.common(SMPL24)
    joints[:, in_limbs] = labels.joints[:, in_smpl] + 0.7
    weights = LossWeights(joints=1.0)
    assert supervised_loss(Prediction(joints, "limbs12"), labels, weights).item() == pytest.approx(0, abs=1e-6)
    joints[:, LIMBS12.index("left_wrist"), 0] += 0.12
    assert supervised_loss(Prediction(joints, "limbs12"), labels, weights).item() == pytest.approx(0.01, abs=1e-6)


def test_what_has_no_weights_cannot_be_fine_tuned():
    class Service:
        name = "http"

    with pytest.raises(ConfigError, match="no weights"):
        FinetuneLoop(ArmTask(compose(["experiment=smoke"])), estimator=Service(), source=rows(4, 0))
