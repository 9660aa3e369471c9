"""What can be chosen about the field renderer."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import check_rules, choice, number, place

BACKENDS = ("auto", "fused", "eager")


@dataclass(frozen=True)
class FieldConfig:
    """Settings of the articulated field renderer.

    Args:
        backend: "fused" is the compiled CPU kernel, "eager" is torch (and nerfacc on CUDA), "auto" takes the fastest
            that works here.
        step_m: distance in depth between two samples of a ray.
        occupancy_threshold: density (1/m) under which a cell counts as empty and is never sampled.
        transmittance_threshold: a ray ends where less light than this is left.
        near_m: nothing nearer to the camera plane than this is seen.
        checkpoint: a fitted field (npz), or a comma-separated list of them; null takes the people of the package.
        subjects: names of the subjects to use, in this order; empty takes all of the checkpoint.
    """

    backend: str = choice("auto", BACKENDS)
    step_m: float = number(0.02, above=0, high=1)
    occupancy_threshold: float = number(0.25, above=0)
    transmittance_threshold: float = number(2e-3, low=0, high=0.99)
    near_m: float = number(0.1, above=0, high=1)
    checkpoint: str | None = place()
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_rules(self, "renderer")
