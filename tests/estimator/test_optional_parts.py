"""What an estimator, a body or a signal may tell beyond what is asked of all is declared, and asked for as declared."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import posegen
from posegen.adversarial.check import check_feedback
from posegen.benchmarks.measure.vertices import h36m_regressor, same_mesh
from posegen.body.model import load_body
from posegen.config import compose
from posegen.errors import ConfigError
from posegen.estimator import build
from posegen.estimator.configured import evaluation_body
from posegen.feedback.signals import TellsGradient, signal_called
from posegen.scene import ChoosesJointSet, HoldsBody, TellsBody, TellsFaces, TellsLearningRate, TellsRegressors

ROOT = Path(posegen.__file__).parent
ROOMS = ("estimator", "finetune", "experiment", "adversarial", "benchmarks", "feedback", "scenes")
# Whose parts are not known by their names in the source: dataclasses gone through, modules and their functions.
THROUGH_NAMES = ("self", "other", "interval", "data", "hypotheses", "made", "model.network", "error")


def test_nothing_is_asked_of_an_estimator_that_is_not_declared():
    wrong = []
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
                    owner = ast.unparse(node.args[0])
                    if owner not in THROUGH_NAMES and "import_module" not in owner and "settings" not in owner:
                        wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("assets")
def test_a_body_of_its_own_is_the_one_that_is_measured_with():
    class Posed(nn.Module):
        name, joint_set, differentiable, image_size = "posed", "smpl24", True, 32

    config, own = compose([]), load_body(resolution="low")
    estimator = Posed()
    assert not isinstance(estimator, HoldsBody) and evaluation_body(estimator, config) is None
    estimator.body = own.train()
    assert isinstance(estimator, HoldsBody)
    assert evaluation_body(estimator, config) is own and not own.training
    estimator.body = nn.Identity()
    assert evaluation_body(estimator, config) is None


@pytest.mark.usefixtures("assets")
def test_a_body_tells_its_faces_and_regressors_or_not():
    low, plain = load_body(resolution="low"), nn.Identity()
    assert isinstance(low, TellsFaces) and isinstance(low, TellsRegressors)
    assert same_mesh(low, load_body(resolution="low")) and not same_mesh(low, plain)
    assert h36m_regressor(plain) is None and h36m_regressor(None) is None
    plain.regressors = {"h36m17": torch.ones(17, 3)}
    assert h36m_regressor(plain).shape == (17, 3)


def test_estimators_tell_what_they_can():
    hmr, blazepose = build("hmr_small"), build("blazepose")
    assert isinstance(hmr, TellsBody) and not isinstance(blazepose, TellsBody)
    assert isinstance(hmr, ChoosesJointSet) == hasattr(hmr, "choose_joint_set")
    assert isinstance(blazepose, TellsLearningRate)


@pytest.mark.usefixtures("assets")
def test_a_signal_tells_before_it_is_built_whether_it_needs_the_estimators_gradient():
    assert isinstance(signal_called("error"), TellsGradient) and signal_called("error").needs_gradient
    assert signal_called("progress").needs_gradient is False
    options = ["estimator.options.function=numpy:mean", "estimator.options.joint_set=coco17"]
    with pytest.raises(ConfigError, match="offers no gradient"):
        check_feedback(compose(["estimator=callable", "feedback=band", *options]))
