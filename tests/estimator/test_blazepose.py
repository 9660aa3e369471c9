"""BlazePose: parity with Google's runtime, axes, gradients, training, files.

The golden numbers are of the reference runtime (LiteRT 2.3.0 on the published file) for an image of seeded noise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from seeded_weights import seeded_images
from skimage.data import astronaut

from posegen.assets import asset_path, ensure
from posegen.body.joint_sets import BLAZEPOSE33
from posegen.config import compose
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator import build, load_checkpoint, save_checkpoint
from posegen.estimator.blazepose import OUTPUT_SHAPES, BlazePose, named_outputs
from posegen.estimator.configured import build_estimator
from posegen.estimator.tflite_graph import read_tflite
from posegen.estimator.tflite_module import resize_bilinear, same_padding
from posegen.finetune.relative_adam import RelativeAdam

GOLDEN_WORLD_M = {
    "nose": (0.009784495, -0.6076175, -0.08031473),
    "left_shoulder": (0.0888716, -0.42947635, -0.10956855),
    "right_shoulder": (-0.013040567, -0.49003246, -0.014134814),
    "right_wrist": (-0.23378965, -0.608547, 0.026541483),
    "left_hip": (0.071561426, 0.007983973, -0.02418408),
    "right_hip": (-0.07217817, -0.008680364, 0.024983745),
    "left_ankle": (0.025053732, 0.5312044, 0.10327549),
    "right_foot_index": (-0.080695294, 0.41355273, 0.09457722),
}

# of a photo (scikit-image's astronaut, halved by 2 x 2 means), with the runtime's reference kernels
GOLDEN_PHOTO_M = {
    "nose": (0.107876778, -0.462587535, -0.466130733),
    "left_shoulder": (0.236254692, -0.262354612, -0.176618099),
    "right_shoulder": (-0.128764033, -0.258706331, -0.26414609),
    "right_wrist": (-0.239417553, 0.0289359093, -0.476375341),
    "left_hip": (0.124638557, 0.0013449192, -0.00175666809),
    "right_hip": (-0.12283802, -0.00521582365, -0.000609874725),
    "left_ankle": (0.0838546753, 0.437141061, -0.00887107849),
    "right_foot_index": (-0.245586872, 0.554090023, -0.0665602684),
}


@pytest.fixture(scope="module")
def graph():
    ensure(["blazepose_full"])
    return read_tflite(asset_path("blazepose_full"))


@pytest.fixture
def blazepose(graph):
    return BlazePose(graph).eval()


def test_golden_numbers_of_the_reference_runtime(graph):
    model = BlazePose(graph, tuple(OUTPUT_SHAPES)).eval()
    with torch.no_grad():
        out = model.raw(seeded_images(1, 256))
    world = out["world"].reshape(39, 3)
    for name, expected in GOLDEN_WORLD_M.items():
        assert torch.allclose(world[BLAZEPOSE33.index(name)], torch.tensor(expected), atol=1e-4), name
    assert out["flag"].item() == pytest.approx(0.000712, abs=1e-5)
    nose, ankle = out["landmarks"].reshape(39, 5)[[0, 28]]
    assert torch.allclose(nose, torch.tensor([132.44609, 53.084446, -19.481678, 1.0147597, -2.6776707]), atol=5e-3)
    assert torch.allclose(ankle, torch.tensor([124.323647, 154.92508, 49.102791, -0.3978212, -4.0137687]), atol=5e-3)


def test_photo_equals_the_runtimes_reference_kernels(graph):
    """In double precision, to 1e-5 (measured: 2.4e-6, at all 39 landmarks).

    On noise the network amplifies rounding: the runtime's own sets of kernels differ by up to 4e-5 on the image above.
    """
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    model = BlazePose(graph).eval().double()
    with torch.no_grad():
        world = model.raw(F.avg_pool2d(photo, 2).double())["world"].reshape(39, 3)
    for name, expected in GOLDEN_PHOTO_M.items():
        found = world[BLAZEPOSE33.index(name)]
        assert torch.allclose(found, torch.tensor(expected).double(), atol=1e-5, rtol=0), name


def test_prediction_is_centred_on_the_hips_in_the_camera_frame(blazepose):
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        prediction = blazepose(photo)
    joints = dict(zip(BLAZEPOSE33.joints, prediction.joints[0], strict=True))
    assert torch.allclose(joints["left_hip"] + joints["right_hip"], torch.zeros(3), atol=1e-6)
    # she faces the camera: her left is at the right of the image, her nose is up (y down) and nearer than her ears
    assert joints["left_shoulder"][0] - joints["right_shoulder"][0] > 0.2
    assert joints["nose"][1] < joints["left_shoulder"][1] < joints["left_hip"][1]
    assert joints["nose"][2] < joints["left_ear"][2]


def test_every_parameter_gets_a_gradient_and_the_rest_are_buffers(blazepose):
    blazepose.train_mode()
    blazepose(seeded_images(1, 256)).joints.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in blazepose.parameters())
    assert 2.5e6 < sum(p.numel() for p in blazepose.parameters()) < 3.3e6
    assert any(name.startswith("network.conv_2d") for name, _ in blazepose.named_buffers())  # the segmentation branch


def test_what_makes_the_first_maps_can_be_left_as_it_is(blazepose, tmp_path):
    part = build("blazepose", fixed_above_px=32).train_mode()
    learned, whole = (dict(model.network.named_parameters()) for model in (part, blazepose))
    assert learned.keys() < whole.keys() and "conv_2d_3_weight" not in learned
    images = seeded_images(2, 256)
    with torch.no_grad():
        assert torch.equal(part(images).joints, blazepose(images).joints)
    part(images).joints.square().sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    file = save_checkpoint(part, tmp_path / "part.pt")
    assert load_checkpoint("blazepose", file).network.state_dict().keys() == part.network.state_dict().keys()


def test_gradient_to_the_image_matches_finite_differences(blazepose):
    model = blazepose.double().feedback_mode()
    x = seeded_images(1, 256).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).joints.square().sum(), x)
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(x.shape))
    with torch.no_grad():
        low, high = (model(x + sign * 1e-8 * direction).joints.square().sum() for sign in (-1, 1))
    assert (gradient * direction).sum().item() == pytest.approx((high - low).item() / 2e-8, rel=1e-3)


def test_a_step_changes_it_and_save_load_resume_agree(blazepose, tmp_path):
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    target = blazepose(photo).joints.detach() * 1.2
    optimiser = RelativeAdam(blazepose.train_mode().named_parameters(), lr=1e-5)
    losses = []
    for _ in range(4):
        loss = (blazepose(photo).joints - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    resumed = load_checkpoint("blazepose", save_checkpoint(blazepose, tmp_path / "b.pt"))
    with torch.no_grad():
        assert torch.equal(resumed(photo).joints, blazepose.eval()(photo).joints)
        assert not torch.equal(resumed(photo).joints, build("blazepose")(photo).joints)


def test_weights_go_back_into_the_original_format(blazepose, graph, tmp_path):
    assert blazepose.write_tflite(tmp_path / "same.tflite").read_bytes() == graph.path.read_bytes()
    with torch.no_grad():
        for parameter in blazepose.parameters():
            parameter.mul_(1.01)
    again = build("blazepose", checkpoint=blazepose.write_tflite(tmp_path / "tuned.tflite"))
    for (name, a), b in zip(blazepose.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a.detach().half().float(), b), name  # the file's precision


def test_wrong_files_are_explained(graph, tmp_path):
    with pytest.raises(CheckpointError, match="no such TFLite"):
        build("blazepose", model_file=tmp_path / "none.tflite")
    path = tmp_path / "x.tflite"
    path.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not a TFLite file"):
        build("blazepose", checkpoint=path)
    path.write_bytes(graph.path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="damaged"):
        build("blazepose", checkpoint=path)
    other = replace(graph, shapes={**graph.shapes, named_outputs(graph)["world"]: (1, 17 * 3)})
    with pytest.raises(CheckpointError, match="no output for world"):
        BlazePose(other)
    with pytest.raises(ConfigError, match="heavy is not among the assets"):
        build("blazepose", model="heavy")
    with pytest.raises(ConfigError, match="unknown BlazePose model"):
        build("blazepose", model="huge")


def test_a_users_file_stays_the_architecture_when_weights_follow(blazepose, graph, tmp_path):
    """A run on estimator.checkpoint=FILE.tflite evaluates weights that were tuned on that file's network."""
    own = tmp_path / "pose_landmark_lite.tflite"
    own.write_bytes(graph.path.read_bytes())
    config = compose(["estimator=blazepose", f"estimator.checkpoint={own}"])
    assert build_estimator(config).graph.path == own
    with torch.no_grad():
        for parameter in blazepose.parameters():
            parameter.mul_(1.01)
    weights = save_checkpoint(blazepose, tmp_path / "tuned.pt")
    tuned = build_estimator(config, checkpoint=str(weights))
    assert tuned.graph.path == own
    assert all(torch.equal(a, b) for a, b in zip(tuned.parameters(), blazepose.parameters(), strict=True))


def test_the_headline_recipe_is_blazepose_at_its_own_size():
    config = compose(["experiment=blazepose"])
    assert (config.estimator.name, config.image_size) == ("blazepose", 256)
    assert compose(["estimator=blazepose", "image_size=auto"]).image_size == 256
    assert compose(["image_size=auto"]).image_size == 96


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(256, 3, 2, (0, 1)), (128, 3, 1, (1, 1)), (7, 3, 2, (1, 1)), (8, 5, 2, (1, 2)), (4, 1, 2, (0, 0))],
)
def test_same_padding(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def test_resize_conventions():
    x = torch.tensor([[[[0.0, 1.0]]]])
    legacy = resize_bilinear(x, (1, 4), False, False)
    assert torch.equal(legacy[0, 0, 0], torch.tensor([0.0, 0.5, 1.0, 1.0]))
    half = resize_bilinear(x, (1, 4), False, True)
    assert torch.equal(half[0, 0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    corners = resize_bilinear(x, (1, 3), True, False)
    assert torch.equal(corners[0, 0, 0], torch.tensor([0.0, 0.5, 1.0]))


def test_a_mediapipe_archive_is_told_apart_from_the_model_in_it(tmp_path):
    import zipfile

    file = tmp_path / "pose_landmarker_heavy.task"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pose_landmarks_detector.tflite", b"TFL3")
    with pytest.raises(
        CheckpointError, match=r"archive[\s\S]*unzip pose_landmarker_heavy\.task pose_landmarks_detector"
    ):
        read_tflite(file)


def test_constants_that_are_not_finite_and_offsets_beyond_the_file_are_refused(tmp_path, graph):
    whole = graph.path.read_bytes()
    number = next(number for number, value in graph.constants.items() if value.dtype == np.float32)
    file = tmp_path / "bad.tflite"
    file.write_bytes(graph.written_with({number: np.full_like(graph.constants[number], np.nan)}))
    with pytest.raises(CheckpointError, match="not finite"):
        read_tflite(file)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"bad\.tflite"):
        read_tflite(file)
    for place in (0, 1, 2, 3):  # the root's offset
        file.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"bad\.tflite"):
            read_tflite(file)


def test_a_graph_whose_shapes_do_not_follow_is_refused_before_it_runs(graph):
    from dataclasses import replace

    place, operation = next(
        (i, o) for i, o in enumerate(graph.operations) if o.kind == "PAD" or "stride" in o.attributes
    )
    wrong = dict(operation.attributes)
    if operation.kind == "PAD":
        wrong["padding"] = [[0, 0], [200, 200], [200, 200], [0, 0]]
    else:
        wrong["stride"] = (7, 7)
    operations = list(graph.operations)
    operations[place] = replace(operation, attributes=wrong)
    with pytest.raises(CheckpointError, match=r"do not fit each other|the TFLite file says"):
        BlazePose(replace(graph, operations=tuple(operations)))
