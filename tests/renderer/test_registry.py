"""A renderer is one file: found by its record, chosen by its name, named nowhere else in the tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import posegen
from posegen.config import compose
from posegen.config.compose import groups
from posegen.errors import ConfigError
from posegen.renderer import registry
from posegen.renderer.registry import RendererKind, kind_of, names
from posegen.scenes.world import build_world

ROOT = Path(posegen.__file__).parent


class Grey:
    """Half a grey person everywhere."""

    subjects = ("nobody", "somebody", "everybody")

    def __init__(self, grey=0.5):
        self.grey = grey

    def __call__(self, scene):
        alpha = torch.full((len(scene), 1, scene.camera.height, scene.camera.width), 0.5)
        return (self.grey * alpha).expand(-1, 3, -1, -1), alpha


class Point:
    """A plug-in's entry point."""

    name = "grey"

    def __init__(self, kind):
        self.load = lambda: kind


@pytest.fixture
def grey(monkeypatch):
    """A renderer of another package, installed."""
    kind = RendererKind("grey", "grey everywhere", build=lambda settings, device: Grey(**settings.options))

    def announced(group):
        return [Point(kind)] if group == "posegen.renderers" else []

    monkeypatch.setattr("posegen.registry.entry_points", announced)
    monkeypatch.setattr(sys.modules["posegen.config.compose"], "entry_points", announced)
    registry._known.cache_clear()
    yield kind
    registry._known.cache_clear()


def test_each_file_is_a_renderer_with_an_option_of_the_group():
    files = sorted(file.stem for file in (ROOT / "renderer" / "kinds").glob("*.py") if file.stem != "__init__")
    assert files == names() == groups()["renderer"] == sorted({kind_of(name).name for name in files})


@pytest.mark.usefixtures("assets", "grey")
def test_a_renderer_of_another_package_is_chosen_like_the_others():
    config = compose(["renderer=grey", "renderer.options.grey=0.25", "image_size=16"])
    assert config.renderer.name == "grey" and names() == ["anerf", "field", "grey"]
    world = build_world(config)
    assert world.subjects == 3
    camera = posegen.look_at_camera(torch.tensor([0.0]), elevation_rad=0.0, distance_m=4.0, size_px=16)
    still = torch.zeros(1)
    scene = posegen.Scene(torch.zeros(1, 24, 3), torch.zeros(1, 10), torch.zeros(1, 3), camera, still.long(),
                          posegen.Light.default(1), torch.full((1,), -1))  # fmt: skip
    assert torch.allclose(world.picture(scene), torch.tensor(0.25 * 0.5 + 0.5))  # before white


def test_an_unknown_renderer_is_told_with_those_that_there_are():
    with pytest.raises(ConfigError, match="did you mean 'field'") as error:
        kind_of("feild")
    assert error.value.choices == ["anerf", "field"]
    with pytest.raises(ConfigError, match="renderer has no option 'feild'"):
        compose(["renderer=feild"])


def test_what_a_renderer_lacks_is_told_before_anything_starts():
    settings = compose(["renderer=anerf"]).renderer
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        kind_of("anerf").check(settings)
    kind_of("anerf").check(compose(["renderer=anerf", "renderer.checkpoint=me.tar"]).renderer)
    kind_of("field").check(compose([]).renderer)


def test_nothing_else_in_the_tree_asks_which_renderer_it_is():
    def asks(node):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        sides += [node.subject] if isinstance(node, ast.Match) else []
        return any(ast.unparse(side).endswith("renderer.name") for side in sides)

    wrong = []
    for file in sorted(ROOT.rglob("*.py")):
        inside = file.relative_to(ROOT).parts[0] == "renderer"
        for node in ast.walk(ast.parse(file.read_text())):
            imports = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("posegen.renderer.anerf")
            if asks(node) or (imports and not inside):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not wrong


def test_the_registry_costs_no_torch():
    code = "import sys, posegen.renderer.registry as r; r.names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
