"""The estimator that a configuration asks for, on the body and with the joints that its labels have."""

from __future__ import annotations

from typing import Literal

import torch

from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.body.model import BodyModel, load_body
from posegen.body.skeleton import Skeleton, free_skeleton, scene_skeleton, skeleton_of
from posegen.config.schema import PosegenConfig
from posegen.estimator import build, declared_crop
from posegen.estimator.crop import CropConvention
from posegen.scene import ChoosesJointSet, Estimator, HoldsBody

# Estimators that regress SMPL parameters of a body that the user names by estimator.body, else by body.path.
SMPL_ESTIMATORS = ("hybrik", "spin")


def build_estimator(
    config: PosegenConfig,
    device: str | torch.device = "cpu",
    checkpoint: str | None = None,
    compared_with: Literal["scenes", "free body", "own"] = "scenes",
) -> Estimator:
    """The estimator of `config.estimator`, with other weights if a checkpoint is given.

    Args:
        compared_with: whose labels its predictions meet. An estimator that tells its body (`skeleton`) then gives all
            24 joints where that is the same, and the joints that mean the same on any body where it is not; "own"
            leaves the joint set to it. `estimator.options.joint_set` is kept in any case.
    """
    settings = config.estimator
    if checkpoint is None:
        settings.check_weights()
    keywords = settings.keywords(checkpoint)
    path = settings.body or (config.body.path if settings.name in SMPL_ESTIMATORS else None)
    if path is not None:
        keywords.setdefault("body", load_body(path))
    # Random weights, where they are asked for, are the same in every process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        built = build(settings.name, **keywords)
    skeleton = skeleton_of(built)
    free_to_choose = compared_with != "own" and "joint_set" not in keywords
    if skeleton is not None and free_to_choose and isinstance(built, ChoosesJointSet):
        labels = scene_skeleton(config) if compared_with == "scenes" else free_skeleton()
        built.choose_joint_set(SMPL24.name if skeleton.same_as(labels) else LIMBS12.name)
    if isinstance(built, torch.nn.Module):
        built.to(device)
    return built


def crop_of_config(config: PosegenConfig) -> CropConvention:
    """How the estimator of `config.estimator` wants its person cropped."""
    settings = config.estimator
    return declared_crop(settings.name, settings.keywords())


def evaluation_body(estimator: Estimator, config: PosegenConfig) -> BodyModel | None:
    """The body to pose an estimator's rotations and betas with; None where no body at hand is theirs."""
    if isinstance(estimator, HoldsBody) and isinstance(estimator.body, BodyModel):
        return estimator.body.eval()
    skeleton = skeleton_of(estimator)
    if skeleton is None:
        return None
    for path in dict.fromkeys((config.body.path, None)):
        body = load_body(path, resolution=config.body.resolution)
        if Skeleton.of_body(body).same_as(skeleton):
            return body.eval()
    return None
