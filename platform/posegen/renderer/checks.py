"""What a scene must hold before it is rendered; everything else is an error that says which rows are wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.errors import PosegenError
from posegen.scene import Scene


def check_scene(scene: Scene, subjects: tuple[str, ...]) -> None:
    """Raises PosegenError for a scene that has no picture.

    A camera inside the body, or a body behind the camera or outside of the picture, is no error: nothing nearer than
    the near plane is seen, so that the picture is finite, and empty where nothing is in front.
    """
    camera, batch = scene.camera, len(scene.pose)
    if camera.height < 1 or camera.width < 1:
        raise PosegenError(
            f"the image has no area: {camera.height} x {camera.width} px",
            where="scene.camera.height, scene.camera.width",
        )
    expected = {
        "pose": (scene.pose, (batch, 24, 3)),
        "betas": (scene.betas, (batch, 10)),
        "transl": (scene.transl, (batch, 3)),
        "camera.R": (camera.R, (batch, 3, 3)),
        "camera.t": (camera.t, (batch, 3)),
        "camera.focal": (camera.focal, (batch,)),
        "camera.centre": (camera.centre, (batch, 2)),
        "light.direction": (scene.light.direction, (batch, 3)),
        "light.ambient": (scene.light.ambient, (batch,)),
        "light.diffuse": (scene.light.diffuse, (batch,)),
        "subject": (scene.subject, (batch,)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise PosegenError(f"{name} has shape {tuple(value.shape)}, expected {shape}", where=f"scene.{name}")
    if batch == 0:
        return
    finite = torch.stack([_finite_rows(value) for value, _ in expected.values()])  # one synchronisation for all
    positive = camera.focal.detach() > 0
    known = (scene.subject >= 0) & (scene.subject < len(subjects))
    if bool((finite & positive & known).all()):
        return
    for (name, _), rows in zip(expected.items(), finite, strict=True):
        if not bool(rows.all()):
            raise PosegenError(f"{name} is not finite in row(s) {_listed(~rows)}", where=f"scene.{name}")
    if not bool(positive.all()):
        raise PosegenError(f"camera.focal is not positive in row(s) {_listed(~positive)}", where="scene.camera.focal")
    raise PosegenError(
        f"unknown subject index in row(s) {_listed(~known)}: {sorted(set(scene.subject[~known].tolist()))}",
        where="scene.subject",
        choices=[f"{i} ({name})" for i, name in enumerate(subjects)],
    )


def _finite_rows(value: Tensor) -> Tensor:
    """(B,...) -> (B,) bool. Magnitudes over 1e9 count as infinite: their squares would be, in float32."""
    if not value.is_floating_point():
        return torch.ones(len(value), dtype=torch.bool, device=value.device)
    return (value.detach().flatten(1) if value.dim() > 1 else value.detach()[:, None]).abs().amax(1) < 1e9


def _listed(wrong: Tensor, most: int = 10) -> str:
    rows = wrong.nonzero()[:, 0].tolist()
    return ", ".join(map(str, rows[:most])) + (f" and {len(rows) - most} more" if len(rows) > most else "")
