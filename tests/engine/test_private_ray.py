"""Ray's private interfaces: in one module, and all of them in the Ray that is installed."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import posegen
from posegen.engine import private_ray
from posegen.errors import EngineError

ROOT = Path(posegen.__file__).parent
FILES = sorted([*ROOT.rglob("*.py"), *(ROOT.parents[1] / "jobs").glob("*.py")])
PRIVATE = re.compile(r"ray(\.\w+)*\._[a-zA-Z]|ray\.core\.|ray\.data\.extensions")
OURS = Path(private_ray.__file__)


def private_names(source: str) -> set[str]:
    """What a module imports or reaches of Ray's private parts."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return {name for name in found if PRIVATE.match(name)}


def test_no_other_module_uses_them():
    wrong = {str(file): names for file in FILES if file != OURS and (names := private_names(file.read_text()))}
    assert not wrong


def test_a_private_interface_elsewhere_would_be_seen():
    assert private_names("from ray import _raylet") == {"ray._raylet"}
    assert private_names("import ray\nray._private.worker.x()") == {"ray._private.worker.x", "ray._private.worker",
                                                                    "ray._private"}  # fmt: skip
    assert private_names("from ray.train.v2._internal.constants import A") == {"ray.train.v2._internal.constants.A"}
    assert private_names("import_module('ray.core.generated.gcs_pb2')") == {"ray.core.generated.gcs_pb2"}
    assert private_names("import ray.data\nray.get(x)\narray._private") == set()


def test_all_that_are_used_are_in_this_ray():
    calls = [node for node in ast.walk(ast.parse(OURS.read_text())) if isinstance(node, ast.Call)]
    asked = [[ast.literal_eval(arg) for arg in call.args] for call in calls if ast.unparse(call.func) == "_private"]
    assert len(asked) == 22
    for module, name, purpose in asked:
        private_ray._private(module, name, purpose)
    driver = import_module("ray._private.worker")
    assert callable(driver.connect) and callable(driver.print_to_stdstream)


def test_the_handlers_of_the_logging_file_are_in_this_ray():
    handlers = yaml.safe_load((ROOT / "engine" / "ray_data_logging.yaml").read_text())["handlers"]
    for handler in handlers.values():
        module, _, name = handler["class"].rpartition(".")
        assert isinstance(getattr(import_module(module), name), type)


def test_what_numbers_or_safety_hang_on_is_an_error_where_ray_lacks_it(monkeypatch):
    monkeypatch.delattr("ray._private.state.available_resources_per_node")
    with pytest.raises(EngineError, match=r"has no ray\._private\.state\.available_resources_per_node") as error:
        private_ray.free_by_node()
    assert "ray[default,data,train,tune]" in error.value.next_command
    monkeypatch.delattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER")
    with pytest.raises(EngineError, match="keeps it to this machine"):
        private_ray.keep_to_loopback()


def test_what_is_comfort_is_gone_without(monkeypatch):
    import ray

    driver = import_module("ray._private.worker")
    monkeypatch.delattr(driver, "print_to_stdstream")
    private_ray.raylet_messages_to(print)
    assert not hasattr(driver, "print_to_stdstream")
    monkeypatch.delattr(driver, "connect")
    with private_ray.around_connecting(lambda inner: inner):
        assert not hasattr(driver, "connect")
    messages = import_module("ray.core.generated.gcs_service_pb2")
    assert private_ray.version_in(messages.CheckAliveReply(ray_version="2.60.0").SerializeToString()) == "2.60.0"
    monkeypatch.delattr(messages, "CheckAliveReply")
    assert private_ray.version_in(b"") is None and ray.__version__


def test_joining_is_wrapped_and_given_back():
    driver = import_module("ray._private.worker")
    inner = driver.connect
    with private_ray.around_connecting(lambda connect: lambda: (connect, "wrapped")):
        assert driver.connect() == (inner, "wrapped")
    with private_ray.around_connecting(None):
        assert driver.connect is inner
    assert driver.connect is inner
