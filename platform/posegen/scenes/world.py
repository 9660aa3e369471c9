"""What surrounds the generator: body, renderer, backgrounds, looks, estimator and real poses, all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.body.mocap import load_clips
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.body.skeleton import Skeleton, free_skeleton, scene_skeleton, skeleton_of
from posegen.errors import ConfigError
from posegen.renderer.composite import over
from posegen.renderer.surroundings.backgrounds import Backgrounds
from posegen.renderer.surroundings.looks import Degrade
from posegen.scene import Estimator, Renderer, Scene
from posegen.scenes.sampler import clip_headings, turn_about_y
from posegen.scenes.split import part_from_config

# Estimators that regress SMPL parameters of a body that the user names by estimator.body, else by body.path.
SMPL_ESTIMATORS = ("hybrik", "spin")


@dataclass(frozen=True)
class World:
    """Turns scenes into pictures and labels. Holds no trainable weights."""

    body: BodyModel
    renderer: Renderer
    subjects: int
    backgrounds: Backgrounds
    look: Degrade
    size_px: int
    device: torch.device

    def picture(self, scene: Scene) -> Tensor:
        """The clean picture (B,3,S,S) in [0,1] before its background; differentiable in the scene."""
        rgb, alpha = self.renderer(scene)
        return over(rgb, alpha, self.backgrounds(scene))

    def photograph(self, scene: Scene) -> Tensor:
        """The picture with exposure, blur and noise as drawn from the background's seed (B,3,S,S)."""
        return self.look(self.picture(scene), scene.background)

    def joints_m(self, scene: Scene) -> Tensor:
        """SMPL joints (B,24,3) m, world; differentiable."""
        return self.body.joints(aa_to_matrix(scene.pose), scene.betas, scene.transl)

    def labels(self, scene: Scene) -> dict[str, Tensor]:
        """What a row says of its picture.

        joints3d_cam_m (B,24,3) camera frame, metres; joints2d_px (B,24,2); pose_cam (B,24,3) rad, with global orient
        in the camera frame.
        """
        joints = self.joints_m(scene)
        orient = matrix_to_aa(scene.camera.R @ aa_to_matrix(scene.pose[:, 0]))
        return {
            "joints3d_cam_m": scene.camera.to_camera(joints),
            "joints2d_px": scene.camera.project(joints),
            "pose_cam": torch.cat([orient[:, None], scene.pose[:, 1:]], 1),
        }


def real_poses(config: Mapping[str, Any]) -> Tensor:
    """The pool of real poses (P,24,3) rad: the pool's clips of the split, or the user's AMASS folder."""
    source = config["mocap"]["path"]
    clips = load_clips(None if source else config["split"]["parts"]["pool"]["clips"], Path(source) if source else None)
    if not clips:
        raise ConfigError("the pool of real poses is empty", where="mocap.path or split.parts.pool.clips")
    return torch.cat([face_front(clip.pose) for clip in clips])


def face_front(pose: Tensor) -> Tensor:
    """A clip's poses (T,24,3) turned so that it faces +z on average: azimuths then mean the same in every clip."""
    turn = turn_about_y(-clip_headings(pose[:, 0]))
    return torch.cat([matrix_to_aa(turn @ aa_to_matrix(pose[:, :1])), pose[:, 1:]], 1)


def build_renderer(config: Mapping[str, Any], device: torch.device) -> tuple[Renderer, int]:
    """The renderer of `config["renderer"]` and how many subjects it has."""
    options = dict(config["renderer"])
    name = options.pop("name")
    if name == "field":
        from posegen.renderer.field.config import RendererConfig
        from posegen.renderer.field.field import load_field

        options.pop("anerf", None)
        settings = RendererConfig(**{**options, "subjects": tuple(options.get("subjects") or ())})
        field = load_field(settings.checkpoint, config=settings).to(device)
        field.requires_grad_(False)
        return field, len(field.subjects)
    if name == "anerf":
        from posegen.renderer.anerf.renderer import load_anerf

        renderer = load_anerf(options["checkpoint"], **(options.get("anerf") or {}))
        return renderer.to(device).requires_grad_(False), 1
    raise ConfigError(f"unknown renderer {name!r}", where="renderer.name", choices=("field", "anerf"))


def build_estimator(
    config: Mapping[str, Any],
    device: str | torch.device = "cpu",
    checkpoint: str | None = None,
    compared_with: Literal["scenes", "free body", "own"] = "scenes",
) -> Estimator:
    """The estimator of `config["estimator"]`, with other weights if a checkpoint is given.

    Args:
        compared_with: whose labels its predictions meet. An estimator that tells its body (`skeleton`) then gives all
            24 joints where that is the same, and the joints that mean the same on any body where it is not; "own"
            leaves the joint set to it. `estimator.options.joint_set` is kept in any case.
    """
    from posegen import estimator as estimators
    from posegen.estimator.config import EstimatorConfig

    settings = EstimatorConfig(**config["estimator"])
    keywords = settings.keywords()
    path = settings.body or (config["body"]["path"] if settings.name in SMPL_ESTIMATORS else None)
    if path is not None:
        keywords.setdefault("body", load_body(path))
    if checkpoint is not None:
        keywords["checkpoint"] = checkpoint
    built: Any = estimators.build(settings.name, **keywords)
    skeleton = skeleton_of(built)
    free_to_choose = hasattr(built, "choose_joint_set") and "joint_set" not in keywords
    if skeleton is not None and free_to_choose and compared_with != "own":
        labels = scene_skeleton(config) if compared_with == "scenes" else free_skeleton()
        built.choose_joint_set(SMPL24.name if skeleton.same_as(labels) else LIMBS12.name)
    if isinstance(built, torch.nn.Module):
        built.to(device)
    return built


def evaluation_body(estimator: Estimator, config: Mapping[str, Any]) -> BodyModel | None:
    """The body to pose an estimator's rotations and betas with; None where no body at hand is theirs."""
    own = getattr(estimator, "body", None)
    if isinstance(own, BodyModel):
        return own.eval()
    skeleton = skeleton_of(estimator)
    if skeleton is None:
        return None
    for path in dict.fromkeys((config["body"]["path"], None)):
        body = load_body(path, resolution=config["body"]["resolution"])
        if Skeleton.of_body(body).same_as(skeleton):
            return body.eval()
    return None


def build_world(config: Mapping[str, Any], device: str | torch.device = "cpu") -> World:
    """The world of a configuration (the plain dict of posegen.config.PosegenConfig)."""
    device = torch.device(device)
    renderer, subjects = build_renderer(config, device)
    part = part_from_config("pool", config["split"]["parts"]["pool"])
    body = load_body(config["body"]["path"], resolution=config["body"]["resolution"]).to(device)
    if config["renderer"]["name"] == "field":
        from posegen.renderer.field.artifact import check_skeleton

        # Labels are the body's joints: a field that rides on another skeleton would be labelled wrongly.
        check_skeleton(renderer, body.rest_joints(torch.zeros(1, 10, device=device))[0])  # type: ignore[arg-type]
    photos = config["background"]["photos"]
    return World(
        body=body.requires_grad_(False),
        renderer=renderer,
        subjects=subjects,
        backgrounds=Backgrounds(part.background.pool, photos, part.background.kinds),
        look=Degrade(part.look, part.background.pool),
        size_px=config["image_size"],
        device=device,
    )
