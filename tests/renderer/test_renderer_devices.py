"""The renderer as it runs on a GPU, pretended or real: the same pictures and gradients, nothing left on the CPU."""

import nerfacc.volrend
import pytest
import torch
from capsule_scenes import capsule_field, random_scene
from synthetic_anerf import StickBody, anerf_scene, write_checkpoint

from posegen.renderer import composite
from posegen.renderer.anerf.renderer import load_anerf
from posegen.renderer.composite import accumulate, accumulate_torch, over, render_weights, render_weights_torch
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.field import ArticulatedField
from posegen.renderer.field.march import march
from posegen.renderer.field.transforms import ray_transforms
from posegen.renderer.fit.fit import FieldFit, FitSchedule
from posegen.renderer.fit.quality import measure
from posegen.renderer.fit.views import FitViews
from posegen.renderer.surroundings.backgrounds import Backgrounds
from posegen.renderer.surroundings.looks import Degrade, LookConfig
from rounding import apart

EAGER = FieldConfig(backend="eager")


def with_gradients(field: ArticulatedField, scene):
    """The picture and its gradients to pose, betas and camera, as one list."""
    inputs = [scene.pose, scene.betas, scene.camera.t, scene.camera.focal]
    for tensor in inputs:
        tensor.requires_grad_()
    rgb, alpha = field(scene)
    picture = torch.cat([rgb, alpha], 1)
    ramp = torch.linspace(0, 1, picture.shape[-1]).to(picture.device)
    return [picture, *torch.autograd.grad((picture * ramp).sum(), inputs)]


def assert_as_a_card_renders(on_card, on_cpu, config):
    """Picture and gradients of a card against the CPU's.

    Rounding turns over samples at the border of the occupied cells and of the last light. Those are thin by definition:
    a pixel changes by at most the light that a sample at the threshold takes, on either of two sides, or by what is
    left where a ray ends. All other samples, and so the mean, differ by rounding alone.
    """
    turned = 2 * config.occupancy_threshold * config.step_m * 1.5 + config.transmittance_threshold
    difference = (on_card[0].cpu() - on_cpu[0]).abs()
    assert difference.max() < turned + 1e-4
    assert difference.mean() < 1e-5
    for card, cpu in zip(on_card[1:], on_cpu[1:], strict=True):
        assert apart(card, cpu) < 1e-2


def test_a_picture_and_its_gradients(cuda):
    scene = random_scene(2, 32)
    on_cpu = with_gradients(capsule_field(config=EAGER), scene)
    on_cuda = with_gradients(capsule_field(config=FieldConfig()).to("cuda"), random_scene(2, 32).to("cuda"))
    assert all(t.is_cuda for t in on_cuda)
    if cuda is None:
        assert_as_a_card_renders(on_cuda, on_cpu, EAGER)
        return
    for a, b in zip(on_cpu, on_cuda, strict=True):
        assert torch.allclose(a, b.cpu(), atol=1e-5)


def test_no_derivative_adds_a_samples_terms_one_after_the_other():
    """Brackets with a tensor of samples in them do, on a card: three quarters of a batch's time before they went."""
    field, scene = capsule_field(config=EAGER), random_scene(2, 48)
    scene.pose.requires_grad_()
    picture, _ = field(scene)
    found = march(
        ray_transforms(scene, field.rigs, field.resolution), field.occupancy, EAGER.step_m, EAGER.near_m,
        EAGER.transmittance_threshold,
    )  # fmt: skip
    indexed, seen, waiting = [], set(), [picture.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [parent for parent, _ in node.next_functions]
        if node.name() == "IndexBackward0":
            indexed += [index.numel() for index in node._saved_indices if index is not None]
    assert len(seen) > 50 and len(found.ray) > 1000
    assert max(indexed, default=0) < len(found.ray) / 4


def chunked_exclusive_sum(inputs, packed_info):
    """What nerfacc's CUDA kernel computes: within each chunk (start, count) the sum of what came before."""
    parts = [inputs[start : start + count] for start, count in packed_info.tolist()]
    return torch.cat([torch.cat([part.new_zeros(1), part.cumsum(0)[:-1]]) for part in parts if len(part)])


def test_nerfaccs_packed_functions_are_called_as_they_want(pretend, monkeypatch):
    """nerfacc's own Python runs; only its compiled segmented sum is stood in for."""
    monkeypatch.setattr(nerfacc.volrend, "exclusive_sum", chunked_exclusive_sum)
    monkeypatch.setattr(composite, "nerfacc_is_usable", lambda: True)
    generator = torch.Generator().manual_seed(0)
    ray = torch.randint(0, 50, (400,), generator=generator).sort().values.to("cuda")
    density = (20 * torch.rand(400, generator=generator)).to("cuda").requires_grad_()
    length = (0.02 * torch.rand(400, generator=generator)).to("cuda").requires_grad_()
    values = torch.rand(400, 3, generator=generator).to("cuda").requires_grad_()
    probe = torch.randn(60, 4, generator=generator).to("cuda")
    calls = []
    counted = nerfacc.render_weight_from_density
    monkeypatch.setattr(nerfacc, "render_weight_from_density", lambda *a, **k: calls.append(1) or counted(*a, **k))
    packed = accumulate(render_weights(density, length, ray, 60), values, ray, 60)
    plain = accumulate_torch(render_weights_torch(density, length, ray), values, ray, 60)
    assert calls == [1] and packed.shape == (60, 4)
    for a, b in zip(
        [packed, *torch.autograd.grad((packed * probe).sum(), [density, length, values])],
        [plain, *torch.autograd.grad((plain * probe).sum(), [density, length, values])],
        strict=True,
    ):
        assert (a - b).abs().max() < 1e-5 * max(1.0, float(b.detach().abs().max()))


def test_a_fit_on_the_gpu_is_the_fit_on_the_cpu(cuda):
    scene = random_scene(6, 24, 1)
    rgb, alpha = capsule_field(resolution=16)(scene)
    schedule = FitSchedule(steps=3, batch=2, warmup_share=0.4, last_threshold=0.5, coarse_share=0.4)
    fields, tables = [], []
    for device in ("cpu", "cuda"):
        field = ArticulatedField([capsule_field().rig(0)], ["capsules"], 12, EAGER).to(device)
        FieldFit(field, FitViews(scene, rgb, alpha), schedule).run()
        assert field.table.device.type == device
        fields.append(field)
        tables.append(field.table.detach().cpu())
    # On a card a voxel that few samples touch may step the other way: Adam divides a gradient by its own size
    assert apart(*tables) < (1e-2 if cuda is None else 1e-5) and tables[0].std() > 0.1
    on_cpu, on_cuda = (measure(field, FitViews(scene, rgb, alpha), device=field.table.device)[0] for field in fields)
    assert on_cpu.psnr_db == pytest.approx(on_cuda.psnr_db, abs=0.05 if cuda is None else 1e-3)


def test_looks_and_backgrounds(cuda):
    look = Degrade(LookConfig(blur_sigma_px=(0.5, 1.0), noise_sigma=(0.01, 0.02), occluder_share=1.0), "train")
    pictures = []
    for device in ("cpu", "cuda"):
        scene = random_scene(4, 32).to(device)
        behind = Backgrounds("train", kinds={"photo": 0.25, "room": 0.25, "outdoor": 0.25, "noise": 0.25})(scene)
        rgb, alpha = torch.full_like(behind, 0.2), torch.full_like(behind[:, :1], 0.5)
        picture = look(over(rgb, alpha, behind), scene.background)
        assert picture.device.type == device
        pictures.append(picture.cpu())
    assert torch.allclose(*pictures, atol=1e-6) and pictures[0].std() > 0.05


def test_anerf(tmp_path, cuda):
    tar = write_checkpoint(tmp_path / "150000.tar")
    pictures = []
    for device in ("cpu", "cuda"):
        renderer = load_anerf(tar, body=StickBody(), frame=3).to(device)  # type: ignore[arg-type]
        rgb, alpha = renderer(anerf_scene().to(device))
        pictures.append(torch.cat([rgb, alpha], 1).cpu())
    assert torch.allclose(*pictures, atol=1e-5)
