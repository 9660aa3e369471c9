"""What the user shows of his own domain, and how it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TargetConfig:
    """The target: pictures and 2-D keypoints without any 3-D.

    Args:
        images: folder of person crops, or of whole pictures (then with `boxes` or `keypoints`).
        keypoints: COCO JSON, folder of OpenPose JSON, SPIN-like npz, or our own npz.
        boxes: JSON of people's boxes in whole pictures: {"picture.jpg": [[x, y, width, height], ...]}.
        joint_set: name of the keypoints' joint set; none takes the format's own.
        min_confidence: keypoints below it count as not seen.
        min_joints: people with fewer joints of arms and legs are left out.
        hypotheses: kept of each person.
        lifting: other settings of posegen.target.lift.config.LiftConfig.
        chunk: people that are lifted, and kept if stopped, together.
        output: folder of `posegen lift`; none makes one under run.outputs, named by the target's content.
        lifted: lifted.npz of an earlier `posegen lift`, for the arm `anchors`.
        temperature: of the choice among hypotheses, in units of their score.
        joint_noise: of anchors, in units of the pool's spread; root_noise_deg turns the whole person.
        azimuth_deg, elevation_deg: half range and standard deviation of cameras around the target's own.
    """

    images: str | None = None
    keypoints: str | None = None
    boxes: str | None = None
    joint_set: str | None = None
    min_confidence: float = 0.2
    min_joints: int = 7
    hypotheses: int = 6
    lifting: dict[str, Any] = field(default_factory=dict)
    chunk: int = 256
    output: str | None = None
    lifted: str | None = None
    temperature: float = 2.0
    joint_noise: float = 0.25
    root_noise_deg: float = 8.0
    azimuth_deg: float = 25.0
    elevation_deg: float = 8.0
