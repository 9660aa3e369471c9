"""What only a card can show: nerfacc's compiled kernels, the shipped field's pictures, a fit at 512 px."""

from __future__ import annotations

import pytest
import torch
from capsule_scenes import capsule_field, capsule_rig, random_scene
from test_renderer_devices import assert_as_a_card_renders
from torch import Tensor

from posegen.renderer.composite import (
    accumulate,
    accumulate_torch,
    nerfacc_is_usable,
    render_weights,
    render_weights_torch,
)
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.field import ArticulatedField, load_field
from posegen.renderer.fit.fit import FieldFit, FitSchedule
from posegen.renderer.fit.quality import measure
from posegen.renderer.fit.views import FitViews
from posegen.scene import Scene

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("samples", "rays"), [(4000, 60), (400_000, 30_000)])
def test_nerfacc_equals_torch(samples, rays):
    assert nerfacc_is_usable()  # without it both sides would be torch
    generator = torch.Generator().manual_seed(0)
    ray = torch.randint(0, rays - 10, (samples,), generator=generator).sort().values.cuda()
    density = (20 * torch.rand(samples, generator=generator)).cuda().requires_grad_()
    length = (0.02 * torch.rand(samples, generator=generator)).cuda().requires_grad_()
    values = torch.rand(samples, 3, generator=generator).cuda().requires_grad_()
    probe = torch.randn(rays, 4, generator=generator).cuda()
    results = []
    for packed in (True, False):
        if packed:
            out = accumulate(render_weights(density, length, ray, rays), values, ray, rays)
        else:
            out = accumulate_torch(render_weights_torch(density, length, ray), values, ray, rays)
        results.append([out, *torch.autograd.grad((out * probe).sum(), [density, length, values])])
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() < 1e-4 * max(1.0, float(b.abs().max()))


def test_picture_on_cuda_equals_the_one_on_the_cpu():
    field, scene = capsule_field(), random_scene(2, 64)
    on_cpu = torch.cat(field(scene), 1)
    on_cuda = torch.cat(field.cuda()(scene.to("cuda")), 1)
    assert_as_a_card_renders([on_cuda], [on_cpu], field.config)


def picture_and_gradients(field: ArticulatedField, scene: Scene) -> list[Tensor]:
    inputs = [scene.pose, scene.betas, scene.transl, scene.camera.R, scene.camera.t, scene.camera.focal]
    for tensor in inputs:
        tensor.requires_grad_()
    picture = torch.cat(field(scene), 1)
    ramp = torch.linspace(0, 1, picture.shape[-1], device=picture.device)
    return [t.detach().cpu() for t in (picture, *torch.autograd.grad((picture * ramp).sum(), inputs))]


def test_shipped_field_and_its_gradients_equal_the_cpus():
    scene = random_scene(8, 128, subjects=8)
    on_cpu = picture_and_gradients(load_field(config=FieldConfig(backend="eager")), scene)
    on_cuda = picture_and_gradients(load_field().to("cuda"), random_scene(8, 128, subjects=8).to("cuda"))
    assert_as_a_card_renders(on_cuda, on_cpu, FieldConfig())


def test_fit_at_512_px():
    """At full size, which a CPU would take minutes for: the views are the analytic capsules'."""
    source = capsule_field(resolution=16).to("cuda")

    def views(count: int, seed: int) -> FitViews:
        scene = random_scene(count, 512, seed).to("cuda")
        rgb, alpha = source(scene)
        return FitViews(scene, rgb, alpha).to(torch.device("cpu"))

    held_out = views(4, 50)
    field = ArticulatedField([capsule_rig()], ["capsules"], 14).to("cuda")
    before, _ = measure(field, held_out, device=torch.device("cuda"))
    schedule = FitSchedule(steps=80, batch=4, warmup_share=0.5, last_threshold=0.5, coarse_share=0.0)
    torch.cuda.reset_peak_memory_stats()
    seconds = FieldFit(field, views(16, 1), schedule).run()
    after, _ = measure(field, held_out, device=torch.device("cuda"))
    print(f"80 steps of 4 views at 512 px: {seconds:.1f} s, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; "
          f"IoU {after.iou:.3f}, PSNR {after.psnr_db:.2f} dB")  # fmt: skip
    assert after.iou > 0.7 and after.iou > before.iou + 0.2
    assert after.psnr_db > before.psnr_db + 5
