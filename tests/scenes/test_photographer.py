"""Scenes become pictures in one place, and by which rule."""

import ast
from pathlib import Path

import pytest
import torch

import posegen
from posegen.scenes.photographer import Photographer
from posegen.scenes.split import load_split

ROOT = Path(posegen.__file__).parent


class Half:
    """Half a bright person everywhere; brighter than it may be."""

    subjects = ("somebody",)

    def __call__(self, scene):
        alpha = torch.full((len(scene), 1, 8, 8), 0.5)
        return (1.5 * alpha).expand(-1, 3, -1, -1), alpha


def scene(background):
    camera = posegen.look_at_camera(torch.tensor([0.0]), elevation_rad=0.0, distance_m=4.0, size_px=8)
    return posegen.Scene(torch.zeros(1, 24, 3), torch.zeros(1, 10), torch.zeros(1, 3), camera, torch.zeros(1).long(),
                         posegen.Light.default(1), torch.tensor([background]))  # fmt: skip


def test_the_background_is_behind_and_the_look_comes_last():
    part = load_split()["pool"]
    plain = Photographer(Half(), lambda scene: torch.full((1, 3, 8, 8), 0.2), lambda picture, seed: picture * seed)
    assert torch.allclose(plain.clean(scene(7)), torch.tensor(0.75 + 0.1))
    assert torch.allclose(plain(scene(7)), torch.tensor(7 * 0.85))
    white, held = (Photographer.of_part(part, Half(), clamped) for clamped in (False, True))
    assert torch.allclose(white.clean(scene(-1)), torch.tensor(0.75 + 0.5)) and float(held.clean(scene(-1)).max()) == 1
    assert float(white(scene(5)).min()) >= 0 and float(white(scene(5)).max()) <= 1


@pytest.mark.parametrize("name", ["Degrade", "Backgrounds"])
def test_no_other_module_puts_them_together(name):
    users = {
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    }
    # The world of an experiment holds both, for its Photographer; the atlas asks what a background shows.
    others = {"atlas/gather.py"} if name == "Backgrounds" else set()
    assert {user for user in users if not user.startswith("renderer/")} == {
        "scenes/photographer.py", "scenes/world.py", *others
    }  # fmt: skip
