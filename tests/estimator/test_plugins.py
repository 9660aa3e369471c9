"""The example of docs/reference/estimators.md works as a plug-in, from the entry point to a resumed checkpoint."""

from __future__ import annotations

import re
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from posegen import registry
from posegen.config import compose
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator import REGISTRY, build, load_checkpoint, save_checkpoint

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "estimators.md"


@pytest.fixture
def tiny_plugin(monkeypatch):
    code = next(c for c in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "class Tiny" in c)
    assert len(code.splitlines()) <= 32
    module = types.ModuleType("my_tiny")
    exec(compile(code, str(DOCS), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_tiny", module)
    point = EntryPoint("tiny", "my_tiny:tiny", "posegen.estimators")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "posegen.estimators" else [])
    monkeypatch.setattr(REGISTRY, "_plugins_loaded", False)
    monkeypatch.setattr(REGISTRY, "_factories", dict(REGISTRY._factories))


@pytest.mark.usefixtures("tiny_plugin")
def test_documented_example_is_an_estimator(tmp_path):
    assert "tiny" in REGISTRY.names()
    model = build("tiny")
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    before = model(images).joints.detach()
    optimiser = torch.optim.SGD(model.train_mode().parameters(), lr=0.1)
    model(images).joints.square().sum().backward()
    optimiser.step()
    again = load_checkpoint("tiny", save_checkpoint(model, tmp_path / "t.pt"))
    assert torch.equal(again(images).joints, model.eval()(images).joints)
    assert not torch.equal(before, again(images).joints)
    with pytest.raises(CheckpointError, match="of estimator 'tiny'"):
        load_checkpoint("spin", tmp_path / "t.pt")


@pytest.mark.usefixtures("tiny_plugin")
def test_a_plugin_is_chosen_like_the_others():
    assert compose(["estimator=tiny"]).estimator.name == "tiny"
    with pytest.raises(ConfigError, match="estimator has no option 'tinny'"):
        compose(["estimator=tinny"])
    for name in REGISTRY.names():  # those with a YAML file, and the plug-in
        assert compose([f"estimator={name}"]).estimator.name == name


def test_documented_names_are_the_registered_ones():
    rows = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.M)
    assert sorted(rows) == REGISTRY.names()
