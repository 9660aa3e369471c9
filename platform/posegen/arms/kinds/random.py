"""Random poses, cameras and looks: the plainest way to more images."""

from __future__ import annotations

from posegen.arms.registry import Arm
from posegen.arms.usual import from_the_pool

ARM = Arm("random", "random", "random poses, cameras and looks", "#56b4e9", "s", place=10, propose=from_the_pool)
