"""HybrIK: parity with the original's code, its inverse kinematics, normalisation, keys, training.

The golden numbers are of HybrIK's own simple3dposeSMPLWithCam.py and lbs.py, run with the weights of seeded_weights.py
and the body of synthetic_smpl.py.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_weights import seeded_images, seeded_state
from stick_body import stick_body
from synthetic_smpl import LEAVES, REST_JOINTS, smpl_buffers

from posegen.body.joint_sets import H36M17, LIMBS12, SMPL24
from posegen.body.rotations import aa_to_matrix, geodesic_rad
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator import build, load_checkpoint, save_checkpoint
from posegen.estimator.checkpoint import write_torch
from posegen.estimator.hybrik import MEAN, STD, skeleton_m, soft_argmax
from posegen.estimator.hybrik_ik import NearestRotation, inverse_kinematics, rotation_between
from posegen.estimator.preprocess import normalise

DATA = Path(__file__).with_name("data")


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes written out from the architecture, without smpl.*."""
    shapes: dict[str, tuple[int, ...]] = {"preact.conv1.weight": (64, 3, 7, 7)}

    def norm(prefix: str, channels: int) -> None:
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{prefix}.{key}"] = (channels,)

    norm("preact.bn1", 64)
    inputs = 64
    for stage, (planes, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        for block in range(blocks):
            at = f"preact.layer{stage}.{block}"
            for i, channels in ((1, inputs), (2, planes)):
                shapes[f"{at}.conv{i}.weight"] = (planes, channels, 3, 3)
                norm(f"{at}.bn{i}", planes)
            if inputs != planes:
                shapes[f"{at}.downsample.0.weight"] = (planes, inputs, 1, 1)
                norm(f"{at}.downsample.1", planes)
            inputs = planes
    for i, channels in ((0, 512), (3, 256), (6, 256)):
        shapes[f"deconv_layers.{i}.weight"] = (channels, 256, 4, 4)
        norm(f"deconv_layers.{i + 1}", 256)
    shapes["final_layer.weight"], shapes["final_layer.bias"] = (29 * 64, 256, 1, 1), (29 * 64,)
    for name, rows, columns in [
        ("fc1", 1024, 512), ("fc2", 1024, 1024), ("decshape", 10, 1024), ("decphi", 46, 1024), ("deccam", 3, 1024),
        ("decsigma", 29, 1024),
    ]:  # fmt: skip
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)
    return shapes


def full_state() -> dict[str, torch.Tensor]:
    state = seeded_state(expected_shapes())
    for i in (0, 3, 6):
        state[f"deconv_layers.{i}.weight"] *= 2
    state["final_layer.weight"] *= 60  # peaked heat maps: bones of some decimetres
    state["decshape.weight"] *= 0.1
    state["deccam.weight"] *= 0.1
    state["init_shape"] = torch.from_numpy(np.linspace(-0.5, 0.5, 10).astype(np.float32))
    state["init_cam"] = torch.tensor([0.9, 0.0, 0.0])
    return {**state, **{f"smpl.{key}": value for key, value in smpl_buffers().items()}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_torch({"model": full_state()}, tmp_path_factory.mktemp("hybrik") / "pretrained_w_cam.pth")


@pytest.fixture(scope="module")
def hybrik(checkpoint):
    return build("hybrik", checkpoint=checkpoint, vertices=True)


def normalised(images: torch.Tensor) -> torch.Tensor:
    return normalise(images, MEAN, STD)


def test_keys_and_shapes_are_complete(hybrik):
    found = {k: tuple(v.shape) for k, v in hybrik.checkpoint_state().items() if not k.endswith("num_batches_tracked")}
    rest = {"init_shape": (10,), "init_cam": (3,), **{f"smpl.{k}": tuple(v.shape) for k, v in smpl_buffers().items()}}
    assert found == {**expected_shapes(), **rest}
    assert len(hybrik.checkpoint_state()) == 259
    assert sum(p.numel() for p in hybrik.parameters()) == 27_622_616


def test_normalisation_is_bit_exact():
    images = seeded_images(1, 64)
    original = images.clone()
    for channel, (mean, std) in enumerate(((0.406, 0.225), (0.457, 0.224), (0.480, 0.229))):
        original[0, channel].add_(-mean)
        original[0, channel].div_(std)
    assert torch.equal(normalised(images), original)


def test_golden_numbers_of_the_original(hybrik):
    with torch.no_grad():
        out = hybrik.network(normalised(seeded_images(2, 256)))
    uvd = [
        [0.00215911865234375, 0.06789422035217285, -0.02292555570602417],
        [0.013348996639251709, 0.15759801864624023, 0.19945847988128662],
        [-0.020902633666992188, -0.031867533922195435, 0.22009259462356567],
    ]
    assert torch.allclose(out.uvd[0, [0, 15, 22]], torch.tensor(uvd), atol=1e-5)
    rotations = [
        [
            [-0.018365561962127686, -0.34373098611831665, -0.9388889670372009],
            [0.7245233654975891, 0.6425423622131348, -0.24940989911556244],
            [0.6890056133270264, -0.6848273277282715, 0.23724043369293213],
        ],
        [
            [-0.9263124465942383, -0.23872172832489014, 0.2914695143699646],
            [-0.3750038146972656, 0.5097590684890747, -0.7742835283279419],
            [0.03625890612602234, -0.826532781124115, -0.5617194175720215],
        ],
    ]
    assert torch.allclose(out.rotations[0, [0, 16]], torch.tensor(rotations), atol=1e-5)
    h36m = [
        [-0.0167353805154562, 0.011515595018863678, 0.001553185167722404],
        [-0.0688595399260521, -0.04196712374687195, 0.08713935315608978],
        [-0.0021867987234145403, -0.11211580038070679, 0.035380683839321136],
    ]
    assert torch.allclose(out.joints_h36m[0, [3, 10, 16]], torch.tensor(h36m), atol=1e-5)
    betas = [-0.4695788, -0.48332378, -0.09347007, 0.03200912, 0.07164925, 0.19261962, -0.05109832, 0.28526071]
    assert torch.allclose(out.betas[0, :8], torch.tensor(betas), atol=1e-5)
    camera = [[0.7507337, 0.0184185, 0.0513520], [0.7491131, 0.0216191, 0.0521168]]
    assert torch.allclose(out.camera, torch.tensor(camera), atol=1e-5)
    assert torch.allclose(out.sigma[0, :3, 0], torch.tensor([0.49804762, 0.5608142, 0.54765946]), atol=1e-5)


def test_all_rotations_of_the_original_in_single_precision(hybrik):
    """What the original made of the two seeded images, all 24 joints. Hands and feet follow from bones of centimetres:
    rest joints that are rounded in another order, by 4e-7 m, would already turn a foot by 1e-5."""
    with np.load(DATA / "hybrik_original.npz") as file:
        original = {name: torch.from_numpy(file[name]) for name in file.files}
    with torch.no_grad():
        _, rest = hybrik.network.smpl.rest_joints(original["betas"])
        found = inverse_kinematics(original["skeleton_m"], original["rest_m"], original["phi"], adaptive=True)
    assert (rest - original["rest_m"]).abs().max() < 1e-6
    assert (found - original["rotations"]).abs().max() < 1e-5
    assert geodesic_rad(found, original["rotations"].roll(1, 1)).min() > 0.01  # each joint has its own


def test_the_function_is_the_originals_in_float64(hybrik):
    """In double precision both agree to 1e-13, here to 1e-9."""
    network = copy.deepcopy(hybrik.network).double()
    with torch.no_grad():
        out = network(normalised(seeded_images(2, 256)).double())
    expected = {
        "rotations": (
            out.rotations[0, [0, 16, 20]],
            [
                -0.018364285143, -0.343729501394, -0.938889121730, 0.724524078683, 0.642542358564, -0.249407651967,
                0.689004798561, -0.684827969144, 0.237240469224, -0.926312107998, -0.238721627512, 0.291469808457,
                -0.375003890682, 0.509757065951, -0.774284576075, 0.036259437828, -0.826534008431, -0.561717648723,
                0.382648881903, -0.844099418438, -0.375597203715, 0.822251209373, 0.125763238173, 0.555053390698,
                -0.421283668066, -0.521227264029, 0.742186909950,
            ],
        ),
        "h36m": (
            out.joints_h36m[0, [3, 10, 16]],
            [
                -0.016735435969, 0.011515513910, 0.001553257693, -0.068859532611, -0.041967329657, 0.087139463621,
                -0.002186938277, -0.112115954990, 0.035380843227,
            ],
        ),
        "vertices": (
            out.vertices[1, [0, 3000, 6889]],
            [
                -0.046252279004, 0.028219239830, 0.006735172449, -0.193371472395, -0.141119934777, 0.095744673773,
                0.072973628185, 0.025084332526, 0.105837049561,
            ],
        ),
    }  # fmt: skip
    with torch.no_grad():  # two crops of larger pictures, off their centres
        place = torch.tensor([[0.4, -0.5], [-0.1640625, -0.2421875]], dtype=torch.float64)
        seen = network(normalised(seeded_images(2, 256)).double(), place=place).skeleton_m[0, [15, 22]]
    in_picture = [
        [0.06653142667120271, 0.07544540836213937, 0.48924450499348804],
        [0.021464894870140028, -0.20439305037147726, 0.5346398747254699],
    ]
    assert torch.allclose(seen, torch.tensor(in_picture, dtype=torch.float64), atol=1e-9, rtol=0)
    for name, (found, golden) in expected.items():
        assert torch.allclose(found.flatten(), torch.tensor(golden, dtype=torch.float64), atol=1e-9, rtol=0), name


def golden_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(3)
    rest = torch.tensor(np.concatenate([REST_JOINTS, LEAVES]), dtype=torch.float32)[None].repeat(3, 1, 1)
    skeleton = rest + torch.tensor(generator.normal(0, 0.15, (3, 29, 3)), dtype=torch.float32)
    skeleton[0] = rest[0] + torch.tensor(generator.normal(0, 0.004, (29, 3)), dtype=torch.float32)
    return skeleton, rest, torch.tensor(generator.normal(0, 1, (3, 23, 2)), dtype=torch.float32)


# (adaptive, row of the batch, joint): rotation matrix
GOLDEN_ROTATIONS = {
    (True, 1, 0): (
        -0.60492438,
        0.08254024,
        -0.79199374,
        -0.09453037,
        0.98013592,
        0.17435035,
        0.79065222,
        0.18033621,
        -0.58510524,
    ),
    (True, 1, 20): (
        -0.19315009,
        0.68461341,
        -0.70284611,
        0.61041856,
        -0.47698009,
        -0.6323576,
        -0.76816511,
        -0.55117214,
        -0.32577485,
    ),
    (True, 0, 5): (
        -0.77938497,
        0.00051674,
        -0.62654519,
        -0.05619315,
        0.99591196,
        0.0707223,
        0.6240204,
        0.09032746,
        -0.7761699,
    ),
    (False, 2, 0): (
        -0.48808539,
        -0.87095273,
        -0.05621842,
        -0.86882597,
        0.49101251,
        -0.0626222,
        0.08214468,
        0.01832357,
        -0.99637508,
    ),
    (False, 2, 5): (
        0.72493511,
        0.59315664,
        0.35019165,
        -0.68534631,
        0.57014173,
        0.45303276,
        0.06906064,
        -0.5684219,
        0.81983346,
    ),
    (False, 2, 20): (
        0.01236835,
        -0.24947947,
        -0.96829993,
        0.9998408,
        -0.00929242,
        0.0151654,
        -0.01278147,
        -0.96833539,
        0.2493249,
    ),
}


@pytest.mark.parametrize("place", GOLDEN_ROTATIONS)
def test_golden_inverse_kinematics_of_the_original(place):
    adaptive, row, joint = place
    skeleton, rest, phi = golden_inputs()
    rotations = inverse_kinematics(skeleton, rest, phi, adaptive)
    expected = torch.tensor(GOLDEN_ROTATIONS[place]).view(3, 3)
    assert torch.allclose(rotations[row, joint], expected, atol=1e-5)


def pose_29(rotations: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """Forward kinematics of the 29 joints, step by step."""
    from posegen.estimator.hybrik_ik import PARENTS

    chain, joints = [rotations[:, 0]], [rest[:, 0]]
    for joint in range(1, 29):
        parent = PARENTS[joint]
        joints.append(joints[parent] + (chain[parent] @ (rest[:, joint] - rest[:, parent])[..., None])[..., 0])
        if joint < 24:
            chain.append(chain[parent] @ rotations[:, joint])
    return torch.stack(joints, 1)


@pytest.mark.parametrize("adaptive", [True, False])
def test_kinematics_and_its_inverse_agree(adaptive):
    """A skeleton of the body's own bones is reached again, and the twist is what was asked for."""
    generator = torch.Generator().manual_seed(0)
    rest = torch.tensor(np.concatenate([REST_JOINTS, LEAVES]))[None].repeat(4, 1, 1)
    rotations = aa_to_matrix(torch.randn(4, 24, 3, dtype=torch.float64, generator=generator) * 0.5)
    skeleton = pose_29(rotations, rest)
    angle = torch.rand(4, 23, dtype=torch.float64, generator=generator) * 2
    phi = torch.stack([angle.cos(), angle.sin()], -1)
    found = inverse_kinematics(skeleton, rest, phi, adaptive)
    reached = pose_29(found, rest)
    chain = [4, 5, 7, 8, 10, 11, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28]  # what one bone each determines
    if adaptive:
        assert torch.allclose(found[:, 0], rotations[:, 0], atol=1e-6)  # three children fit exactly
        assert torch.allclose(reached[:, [1, 2, 3]], skeleton[:, [1, 2, 3]], atol=1e-6)
        assert torch.allclose(reached[:, chain[:6]], skeleton[:, chain[:6]], atol=1e-5)
    bones, wanted = reached[:, 20] - reached[:, 18], skeleton[:, 20] - skeleton[:, 18]
    assert torch.allclose(bones, wanted, atol=1e-5)  # the original's guards against division by zero are 1e-8
    phi[:, 22] = torch.tensor([1.0, 0.0])  # of joint 23 alone, so that its parents stay
    untwisted = inverse_kinematics(skeleton, rest, phi, adaptive)
    assert torch.allclose(geodesic_rad(untwisted[:, 23], found[:, 23]), angle[:, 22], atol=1e-5)


@pytest.mark.parametrize("adaptive", [True, False])
def test_inverse_kinematics_is_differentiable(adaptive):
    skeleton, rest, phi = (value[1:2].double().requires_grad_() for value in golden_inputs())
    assert torch.autograd.gradcheck(
        lambda s, r, p: inverse_kinematics(s, r, p, adaptive)[:, [0, 3, 20]],
        (skeleton, rest, phi),
        atol=1e-5,
        fast_mode=True,
    )


def test_nearest_rotation_handles_reflections_and_symmetric_matrices():
    generator = torch.Generator().manual_seed(1)
    rotation = aa_to_matrix(torch.randn(5, 3, dtype=torch.float64, generator=generator))
    assert torch.allclose(NearestRotation.apply(rotation * 3), rotation)  # equal singular values
    reflected = rotation @ torch.diag(torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64))
    assert torch.allclose(NearestRotation.apply(reflected), rotation)
    for matrix in (rotation * 3, reflected, torch.randn(5, 3, 3, dtype=torch.float64, generator=generator)):
        assert torch.autograd.gradcheck(NearestRotation.apply, matrix.clone().requires_grad_())


def test_rotation_between():
    start, end = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    quarter = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    assert torch.allclose(rotation_between(start, end), quarter, atol=1e-6)
    assert torch.allclose(rotation_between(start, -start), torch.eye(3)[None])  # as the original
    vector = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    rotation_between(vector, start).sum().backward()
    assert torch.isfinite(vector.grad).all()


def test_soft_argmax_of_a_single_peak():
    logits = torch.zeros(1, 1, 64, 64, 64)
    logits[0, 0, 10, 20, 40] = 100
    assert torch.allclose(soft_argmax(logits)[0, 0], torch.tensor([40, 20, 10]) / 64 - 0.5, atol=1e-5)


def test_skeleton_is_back_projected_by_the_camera():
    uvd = torch.tensor([[[0.0, 0.0, 0.0], [0.25, -0.1, 0.5]]])
    camera = torch.tensor([[0.8, 0.1, 0.2]])
    distance = 1000 / (256 * 0.8)
    x, y = 0.25 * 0.256 * (1.1 + distance), -0.1 * 0.256 * (1.1 + distance)  # the offset drops out with the root
    assert torch.allclose(skeleton_m(uvd, camera)[0, 1], torch.tensor([x, y, 1.1]), atol=1e-6)


def test_joint_sets_and_vertices_belong_together(hybrik, checkpoint):
    images = seeded_images(1, 96)
    with torch.no_grad():
        h36m = hybrik(images)
        smpl = build("hybrik", checkpoint=checkpoint, joint_set="smpl24", vertices=True)(images)
    assert (h36m.joint_set, h36m.joints.shape, smpl.joints.shape) == ("h36m17", (1, 17, 3), (1, 24, 3))
    rows = hybrik.network.smpl.h36m_rows()
    regressed = torch.einsum("jv,bvc->bjc", smpl_buffers()["J_regressor_h36m"][rows], h36m.vertices)
    assert torch.allclose(regressed, h36m.joints, atol=1e-5)
    assert torch.allclose(smpl.joints[:, 0], torch.zeros(1, 3), atol=1e-6)
    with pytest.raises(ConfigError, match="no joint set"):
        build("hybrik", checkpoint=checkpoint, joint_set="coco17")


def test_the_legs_are_told_from_the_body(hybrik):
    """The regressor in HybrIK's checkpoints has the left leg in rows 1-3, the joint set h36m17 the right one."""
    smpl = copy.deepcopy(hybrik.network.smpl)
    knees = [int((smpl.v_template[:, 0] * sign).argmax()) for sign in (1, -1)]  # far to the left, far to the right
    for row, vertex in ((2, knees[0]), (5, knees[1])):
        smpl.J_regressor_h36m[row] = 0
        smpl.J_regressor_h36m[row, vertex] = 1
    assert smpl.h36m_rows() == [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]
    regressor = smpl.as_body().regressors["h36m17"]
    assert regressor[H36M17.index("left_knee"), knees[0]] == 1
    smpl.J_regressor_h36m[[2, 5]] = smpl.J_regressor_h36m[[5, 2]]
    assert smpl.h36m_rows() == list(range(17))


def test_its_body_and_its_camera_are_told_in_our_terms(hybrik, checkpoint):
    images = seeded_images(1, 256)
    limbs = build("hybrik", checkpoint=checkpoint, joint_set="limbs12")
    with torch.no_grad():
        out, found, smpl = hybrik.network(normalised(images)), hybrik(images), limbs(images)
        posed = hybrik.body(out.rotations, out.betas)
    assert torch.allclose(posed.vertices - posed.vertices[:, :1], found.vertices - found.vertices[:, :1], atol=1e-5)
    # its scale is of a crop one wide: u = s (x + t) in -0.5..0.5, ours goes from -1 to 1
    assert torch.allclose(found.camera, out.camera * torch.tensor([2.0, 1.0, 1.0]))
    hips = out.joints[:, [1, 2]].mean(1)
    assert torch.allclose(smpl.camera[:, 1:], out.camera[:, 1:] + hips[:, :2], atol=1e-6)
    assert torch.allclose(smpl.joints, (out.joints - hips[:, None])[:, LIMBS12.common(SMPL24)[1]], atol=1e-6)


def test_a_step_changes_it_and_files_go_home(checkpoint, tmp_path):
    model = build("hybrik", checkpoint=checkpoint)
    images = seeded_images(1, 256)
    before = {key: value.clone() for key, value in model.checkpoint_state().items()}
    optimiser = torch.optim.Adam(model.train_mode(frozen_batchnorm=True).parameters(), lr=5e-5)
    model(images).joints.square().sum().backward()
    gradients = {name: p.grad for name, p in model.network.named_parameters()}
    reached = (
        "preact.conv1.weight",
        "deconv_layers.0.weight",
        "final_layer.weight",
        "decphi.weight",
        "decshape.weight",
    )
    assert all(gradients[name].abs().max() > 0 for name in reached)
    assert all(torch.isfinite(g).all() for g in gradients.values() if g is not None)
    optimiser.step()
    after = model.checkpoint_state()
    assert torch.equal(before["preact.bn1.running_mean"], after["preact.bn1.running_mean"])
    assert not torch.equal(before["final_layer.weight"], after["final_layer.weight"])
    path = save_checkpoint(model, tmp_path / "tuned.pth")
    written = torch.load(path, weights_only=True)["model"]
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in before.items()}
    with torch.no_grad():
        resumed = load_checkpoint("hybrik", path)
        assert torch.equal(resumed(images).joints, model.eval()(images).joints)


def test_gradient_reaches_the_image(hybrik):
    hybrik.feedback_mode()
    images = seeded_images(1, 256).requires_grad_()
    hybrik(images).joints.square().sum().backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().max() > 0


def test_checkpoints_that_do_not_fit_are_explained(tmp_path):
    state = full_state()

    def load(changed):
        return build("hybrik", checkpoint=write_torch(changed, tmp_path / "x.pth"))

    raw = load({**state, "init_shape": state["init_shape"][None]})  # a raw state dict; either shape of the buffer
    assert raw.checkpoint_state()["init_shape"].shape == (1, 10)
    with pytest.raises(CheckpointError, match="no SMPL buffers"):
        load({"model": {k: v for k, v in state.items() if not k.startswith("smpl.")}})
    with pytest.raises(CheckpointError, match=r"2 missing keys: decsigma\.bias, decsigma\.weight"):
        load({k: v for k, v in state.items() if not k.startswith("decsigma")})
    with pytest.raises(CheckpointError, match=r"final_layer.weight \(1536, 256, 1, 1\) instead of"):
        load({**state, "final_layer.weight": torch.zeros(24 * 64, 256, 1, 1)})  # the 24-joint variant
    with pytest.raises(CheckpointError, match="10475 vertices"):
        load({**state, "smpl.v_template": torch.zeros(10475, 3)})  # HybrIK-X


def test_without_a_checkpoint_it_takes_any_body(tmp_path):
    np.save(tmp_path / "h36m_mean_beta.npy", np.arange(10))
    model = build("hybrik", body=stick_body(), mean_params=tmp_path / "h36m_mean_beta.npy")
    assert model.joint_set == "smpl24"
    assert torch.equal(model.network.init_shape, torch.arange(10.0))
    with torch.no_grad():
        assert model(seeded_images(1, 64)).joints.shape == (1, 24, 3)
    np.save(tmp_path / "bad.npy", np.arange(300))
    with pytest.raises(CheckpointError, match="300 numbers instead of 10"):
        build("hybrik", body=stick_body(), mean_params=tmp_path / "bad.npy")
