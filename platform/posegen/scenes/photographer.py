"""The one place where a scene becomes a picture: of arms, of the source's rows, of stand-ins and for pre-training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from posegen.renderer.composite import over
from posegen.renderer.surroundings.backgrounds import Backgrounds
from posegen.renderer.surroundings.looks import Degrade
from posegen.scene import Renderer, Scene
from posegen.scenes.split import SplitPart


@dataclass(frozen=True)
class Photographer:
    """A lit person, the background behind, an occluder before, then exposure, blur and noise.

    Attributes:
        renderer: makes the person.
        backgrounds, look: as drawn from the background's seed.
        clamped: whether the clean picture is held within [0,1] before the look. Stand-ins and what is pre-trained
            on are; the pictures that a gradient comes through are not, and get their bounds from the look.
    """

    renderer: Renderer
    backgrounds: Backgrounds
    look: Degrade
    clamped: bool = False

    @classmethod
    def of_part(cls, part: SplitPart, renderer: Renderer, clamped: bool, photos: str | None = None) -> Photographer:
        """With the backgrounds and looks of a part of the split.

        Args:
            photos: a user's folder of backgrounds instead of the bundled ones.
        """
        pool = part.background.pool
        return cls(renderer, Backgrounds(pool, photos, part.background.kinds), Degrade(part.look, pool), clamped)

    def clean(self, scene: Scene) -> Tensor:
        """The picture (B,3,S,S) before its look; differentiable in the scene where the renderer is."""
        picture = over(*self.renderer(scene), self.backgrounds(scene))
        return picture.clamp(0, 1) if self.clamped else picture

    def __call__(self, scene: Scene) -> Tensor:
        """The picture (B,3,S,S) in [0,1]."""
        return self.look(self.clean(scene), scene.background)
