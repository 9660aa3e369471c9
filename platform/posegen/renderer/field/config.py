"""What can be chosen about the field renderer."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.errors import ConfigError

BACKENDS = ("auto", "fused", "eager")


@dataclass(frozen=True)
class RendererConfig:
    """Settings of the articulated field renderer.

    Args:
        backend: "fused" is the compiled CPU kernel, "eager" is torch (and nerfacc on CUDA), "auto" takes the fastest
            that works here.
        step_m: distance in depth between two samples of a ray.
        occupancy_threshold: density (1/m) under which a cell counts as empty and is never sampled.
        transmittance_threshold: a ray ends where less light than this is left.
        near_m: nothing nearer to the camera plane than this is seen.
        checkpoint: a fitted field (npz), or a comma-separated list of them; None takes the subjects of the package.
        subjects: names of the subjects to use, in this order; empty takes all of the checkpoint.
    """

    backend: str = "auto"
    step_m: float = 0.02
    occupancy_threshold: float = 0.25
    transmittance_threshold: float = 2e-3
    near_m: float = 0.1
    checkpoint: str | None = None
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"unknown renderer backend {self.backend!r}", where="renderer.backend", choices=BACKENDS)
        for name in ("step_m", "near_m"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ConfigError(f"renderer.{name} must lie between 0 and 1 m, not {value}", where=f"renderer.{name}")
        if not self.occupancy_threshold > 0:
            raise ConfigError("renderer.occupancy_threshold must be positive", where="renderer.occupancy_threshold")
        if not 0 <= self.transmittance_threshold < 1:
            raise ConfigError(
                "renderer.transmittance_threshold must lie in [0, 1)", where="renderer.transmittance_threshold"
            )
