"""What the user shows of his own domain, and how it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from posegen.config_types import choice, number, place, share


@dataclass(frozen=True)
class TargetConfig:
    """The target: pictures and 2-D keypoints without any 3-D.

    Args:
        images: folder of person crops, or of whole pictures (then with `boxes` or `keypoints`).
        keypoints: COCO JSON, folder of OpenPose JSON, SPIN-like npz, or our own npz.
        embedded: names of stand-ins whose unlabelled target parts are the target (target=embedded).
        embedded_images: pictures of each of those.
        embedded_noise_px: noise of their keypoints, in pixels of a box of 96.
        boxes: JSON of people's boxes in whole pictures: {"picture.jpg": [[x, y, width, height], ...]}.
        joint_set: name of the keypoints' joint set; null takes the format's own.
        min_confidence: keypoints below it count as not seen.
        min_joints: people with fewer joints of arms and legs are left out.
        hypotheses: lifted people that are kept of each picture.
        lifting: other settings of posegen.target.lift.config.LiftConfig.
        chunk: people that are lifted, and kept if stopped, together.
        output: folder of `posegen lift`; null makes one under run.outputs, named by the target's content.
        lifted: lifted.npz of an earlier `posegen lift`, for the arm `anchors`.
        agree_with: an estimator, such as blazepose, whose joints in the pictures speak for hypotheses near to them;
            null asks none.
        agree_mm: mean distance at which a hypothesis loses one unit of log weight by that.
        temperature: of the choice among hypotheses, in units of their score.
        held_share: of the pictures, those that are only measured: neither lifted nor trained on.
        scene_share: of generated scenes, those around the target's people; the others are around poses of the pool.
        follow: the target's people weigh alike (none), or by how badly the estimator reprojects on their pictures
            (error), or by how much better it became in the last round (progress).
        follow_power: exponent of the error.
        joint_noise: of anchors, in units of the pool's spread.
        root_noise_deg: how far the whole person is turned, standard deviation.
        azimuth_deg: how far cameras go round the target's own, to each side.
        elevation_deg: the same up and down, standard deviation.
    """

    images: str | None = place(existing=True)
    keypoints: str | None = place(existing=True)
    embedded: tuple[str, ...] = ()
    embedded_images: int = number(100, low=8)
    embedded_noise_px: float = number(1.0, low=0)
    boxes: str | None = place(existing=True)
    joint_set: str | None = None
    min_confidence: float = share(0.2)
    min_joints: int = number(7, low=1)
    hypotheses: int = number(6, low=1)
    lifting: dict[str, Any] = field(default_factory=dict)
    chunk: int = number(256, low=1)
    output: str | None = place()
    lifted: str | None = place(existing=True)
    agree_with: str | None = None
    agree_mm: float = number(100.0, above=0)
    temperature: float = number(2.0, above=0)
    held_share: float = number(0.2, low=0.0, high=0.5)
    scene_share: float = share(0.8)
    follow: str = choice("none", ("none", "error", "progress"))
    follow_power: float = number(1.0, low=0)
    joint_noise: float = number(0.25, low=0)
    root_noise_deg: float = number(8.0, low=0)
    azimuth_deg: float = number(25.0, low=0)
    elevation_deg: float = number(8.0, low=0)
