"""SPIN: parity with the published architecture, keys, strictness, training.

The golden numbers are of SPIN's own models/hmr.py with the weights of seeded_weights.py; they can be recomputed from
the published architecture, as `recomputed` does for the parts here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from seeded_weights import seeded_images, seeded_state
from stick_body import stick_body

from posegen.errors import CheckpointError, ConfigError
from posegen.estimator import build, load_checkpoint, save_checkpoint
from posegen.estimator.checkpoint import write_torch
from posegen.estimator.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalise

HEADS = ("decpose.weight", "decshape.weight", "deccam.weight")


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """All keys and shapes, written out from the architecture: ResNet-50's four stages of bottlenecks, and the head."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(prefix: str, channels: int) -> None:
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{prefix}.{key}"] = (channels,)

    norm("bn1", 64)
    inputs = 64
    for stage, (planes, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            for i, shape in enumerate([(planes, inputs, 1, 1), (planes, planes, 3, 3), (planes * 4, planes, 1, 1)], 1):
                shapes[f"{at}.conv{i}.weight"] = shape
                norm(f"{at}.bn{i}", shape[0])
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (planes * 4, inputs, 1, 1)
                norm(f"{at}.downsample.1", planes * 4)
            inputs = planes * 4
    for name, rows, columns in [
        ("fc1", 1024, 2048 + 157), ("fc2", 1024, 1024), ("decpose", 144, 1024), ("decshape", 10, 1024),
        ("deccam", 3, 1024),
    ]:  # fmt: skip
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)
    return shapes


def full_state() -> dict[str, torch.Tensor]:
    state = seeded_state(expected_shapes())
    for key in HEADS:
        state[key] *= 0.1
    state["init_pose"] = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]).repeat(24)[None]
    state["init_shape"] = torch.zeros(1, 10)
    state["init_cam"] = torch.tensor([[0.9, 0.0, 0.0]])
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_torch({"model": full_state(), "epoch": 1}, tmp_path_factory.mktemp("spin") / "model_checkpoint.pt")


@pytest.fixture
def spin(checkpoint):
    return build("spin", checkpoint=checkpoint, body=stick_body())


def test_keys_and_shapes_are_complete(spin):
    found = {k: tuple(v.shape) for k, v in spin.checkpoint_state().items() if not k.endswith("num_batches_tracked")}
    buffers = {"init_pose": (1, 144), "init_shape": (1, 10), "init_cam": (1, 3)}
    assert found == {**expected_shapes(), **buffers}
    assert sum(p.numel() for p in spin.network.parameters()) == 26_977_501


def test_golden_numbers_of_the_original(spin):
    with torch.no_grad():
        prediction = spin(seeded_images(2, 224))
    root = [[0.9539312, -0.2969711, -0.0427005], [0.2799154, 0.8297032, 0.4829494], [-0.1079933, -0.4726531, 0.8746065]]
    assert torch.allclose(prediction.rotations[0, 0], torch.tensor(root), atol=1e-5)
    betas = [
        0.4803987, -0.3596015, 0.1244784, 0.4176274, 0.2744167, 0.6947132, -0.5850572, 0.1523058, -0.4149052,
        -0.0528238,
    ]  # fmt: skip
    assert torch.allclose(prediction.betas[0], torch.tensor(betas), atol=1e-5)
    cameras = [[1.1501976, -0.1400897, 0.1275537], [1.1501917, -0.1434707, 0.1288626]]
    with torch.no_grad():
        *_, camera = spin.network(normalise(seeded_images(2, 224), IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(camera, torch.tensor(cameras), atol=1e-5)
    # SPIN's camera sees the body about its own origin, the prediction's the joints about their root
    root = spin.body.rest_joints(prediction.betas)[:, 0]
    assert torch.allclose(prediction.camera[:, 1:], camera[:, 1:] + root[:, :2], atol=1e-5)
    assert torch.equal(prediction.camera[:, 0], camera[:, 0])


def recomputed(state: dict[str, torch.Tensor], x: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The published architecture in float64, straight from the state dict, layer by layer."""
    s = {key: value.double() for key, value in state.items()}

    def norm(x, at):
        shape = (1, -1, 1, 1)
        mean, var = s[f"{at}.running_mean"].view(shape), s[f"{at}.running_var"].view(shape)
        return (x - mean) / (var + 1e-5).sqrt() * s[f"{at}.weight"].view(shape) + s[f"{at}.bias"].view(shape)

    layers = []
    x = F.max_pool2d(norm(F.conv2d(x.double(), s["conv1.weight"], stride=2, padding=3), "bn1").relu(), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(F.conv2d(x, s[f"{at}.conv1.weight"]), f"{at}.bn1").relu()
            y = norm(F.conv2d(y, s[f"{at}.conv2.weight"], stride=stride, padding=1), f"{at}.bn2").relu()
            y = norm(F.conv2d(y, s[f"{at}.conv3.weight"]), f"{at}.bn3")
            if block == 0:
                x = norm(F.conv2d(x, s[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1")
            x = (x + y).relu()
        layers.append((f"layer{stage}", x))
    features = x.mean((2, 3))
    theta = torch.cat([s["init_pose"], s["init_shape"], s["init_cam"]], 1).expand(len(x), -1)
    for _ in range(3):
        h = torch.cat([features, theta], 1) @ s["fc1.weight"].T + s["fc1.bias"]
        h = h @ s["fc2.weight"].T + s["fc2.bias"]
        theta = theta + torch.cat(
            [h @ s[f"{k}.weight"].T + s[f"{k}.bias"] for k in ("decpose", "decshape", "deccam")], 1
        )
    layers.append(("theta", theta))
    return layers


def test_each_layer_agrees_with_the_published_architecture(spin):
    images = seeded_images(1, 224)
    found = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(spin.network, name).register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out}))
    with torch.no_grad():
        prediction = spin(images)
        layers = recomputed(full_state(), normalise(images, IMAGENET_MEAN, IMAGENET_STD))
    for name, expected in layers[:-1]:
        assert torch.allclose(found[name], expected.float(), atol=1e-4), name
    theta = layers[-1][1].float()
    assert torch.allclose(prediction.betas, theta[:, 144:154], atol=1e-5)
    assert torch.allclose(prediction.camera[:, 0], theta[:, 154], atol=1e-5)
    # 6D rotations with interleaved columns: column 0 is along entries 0, 2, 4
    first = F.normalize(theta[:, :144].reshape(1, 24, 3, 2)[..., 0], dim=-1)
    assert torch.allclose(prediction.rotations[..., 0], first, atol=1e-5)


def test_images_of_any_size_are_resized(spin):
    with torch.no_grad():
        a, b = spin(seeded_images(1, 96)), spin(F.interpolate(seeded_images(1, 96), (224, 224), mode="bilinear"))
    assert torch.allclose(a.joints, b.joints, atol=1e-5)


def test_joints_are_smpl_or_h36m_by_the_regressor(checkpoint):
    images = seeded_images(1, 224)
    body = stick_body(h36m=True)
    spin = build("spin", checkpoint=checkpoint, body=body, vertices=True)
    with torch.no_grad():
        prediction = spin(images)
    assert prediction.joint_set == spin.joint_set == "h36m17"
    expected = torch.einsum("jv,bvc->bjc", body.regressors["h36m17"], prediction.vertices)
    assert torch.allclose(prediction.joints, expected - expected[:, :1], atol=1e-6)
    assert torch.allclose(prediction.joints[:, 0], torch.zeros(1, 3), atol=1e-6)
    with torch.no_grad():
        other = build("spin", checkpoint=checkpoint, body=body, joint_set="smpl24")(images)
    # the stick's vertices are its joints
    assert torch.allclose(other.joints, prediction.vertices - prediction.vertices[:, :1], atol=1e-5)
    with pytest.raises(ConfigError, match="J_regressor_h36m"):
        build("spin", body=stick_body(), joint_set="h36m17")
    with pytest.raises(ConfigError, match="no joint set 'coco17'"):
        build("spin", body=body, joint_set="coco17")


def test_a_step_changes_it_frozen_batchnorm_stays_and_files_go_home(spin, tmp_path):
    images = seeded_images(2, 224)
    before = {key: value.clone() for key, value in spin.checkpoint_state().items()}
    spin.train_mode(frozen_batchnorm=True)
    optimiser = torch.optim.Adam(spin.parameters(), lr=5e-5)
    spin(images).joints.square().sum().backward()
    optimiser.step()
    after = spin.checkpoint_state()
    assert torch.equal(before["bn1.running_mean"], after["bn1.running_mean"])
    assert all(not torch.equal(before[k], after[k]) for k in ("conv1.weight", "layer4.2.conv3.weight", "fc1.weight"))
    path = save_checkpoint(spin, tmp_path / "tuned.pt")
    written = torch.load(path, weights_only=True)["model"]
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in before.items()}
    resumed = load_checkpoint("spin", path, body=stick_body())
    with torch.no_grad():
        assert torch.equal(resumed(images).joints, spin.eval()(images).joints)


def test_gradient_to_the_image_matches_finite_differences(spin):
    spin = spin.double().feedback_mode()
    x = seeded_images(1, 224).double().requires_grad_()
    (gradient,) = torch.autograd.grad(spin(x).joints.square().sum(), x)
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(x.shape))
    with torch.no_grad():  # the step is small: ReLU's kinks are everywhere
        low, high = (spin(x + sign * 1e-7 * direction).joints.square().sum() for sign in (-1, 1))
    assert gradient.abs().max() > 0
    assert (gradient * direction).sum().item() == pytest.approx((high - low).item() / 2e-7, rel=1e-3)


def test_checkpoints_that_do_not_fit_are_explained(tmp_path, checkpoint):
    def load(state, key="model_state_dict"):
        return build("spin", checkpoint=write_torch({key: state}, tmp_path / "x.pt"), body=stick_body())

    state = full_state()
    load(state)  # PoseGen's fine-tunes use this key
    with pytest.raises(CheckpointError, match=r"2 missing keys: fc1\.bias, fc1\.weight"):
        load({k: v for k, v in state.items() if not k.startswith("fc1")})
    with pytest.raises(CheckpointError, match="1 left-over keys: extra"):
        load({**state, "extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"decpose.weight \(312, 1024\) instead of \(144, 1024\)"):
        load({**state, "decpose.weight": torch.zeros(312, 1024)})  # SMPL-X's 52 joints
    with pytest.raises(CheckpointError, match="another architecture"):
        load({"backbone.weight": torch.zeros(1)})


def test_mean_parameters_fill_what_the_checkpoint_lacks(tmp_path):
    path = tmp_path / "smpl_mean_params.npz"
    pose = np.arange(144, dtype=np.float32)
    np.savez(path, pose=pose, shape=np.ones(10), cam=np.array([0.8, 0.1, 0.2]))
    state = {k: v for k, v in full_state().items() if not k.startswith("init")}
    file = write_torch({"model": state}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="init_cam"):
        build("spin", checkpoint=file, body=stick_body())
    spin = build("spin", checkpoint=file, mean_params=path, body=stick_body())
    assert torch.equal(spin.network.init_pose[0], torch.from_numpy(pose))
    assert torch.allclose(spin.network.init_cam, torch.tensor([[0.8, 0.1, 0.2]]))
    np.savez(path, pose=np.zeros(72), shape=np.ones(10), cam=np.zeros(3))
    with pytest.raises(CheckpointError, match="pose has 72 numbers instead of 144"):
        build("spin", mean_params=path, body=stick_body())
    np.savez(path, pose=pose)
    with pytest.raises(CheckpointError, match="the file of SMPL mean parameters lacks shape, cam"):
        build("spin", mean_params=path, body=stick_body())
