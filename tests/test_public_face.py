"""`import posegen`: cheap, documented, and every example in the documentation of its names runs."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tracking"))
from synthetic_run import make_run

import posegen
from posegen.lazy import lazily

PUBLIC = sorted(posegen.__all__)


def test_import_is_cheap_and_lists_the_names():
    code = "import posegen, sys; assert set(posegen.__all__) <= set(dir(posegen))"
    heavy = "print([n for n in ('torch', 'numpy', 'ray', 'hydra', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        posegen.nothing  # noqa: B018
    get, listed = lazily("posegen", {"sqrt": "math", "root": "math:sqrt"})
    assert get("root") is get("sqrt")
    assert {"sqrt", "root"} <= set(listed())


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A generated data set, for the example of read_shards."""
    run = make_run(tmp_path_factory.mktemp("face") / "run", images=8, steps=2, arms=["before", "random"])
    return run / "dataset" / "random"


@pytest.mark.usefixtures("assets")
@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_each_name_runs(name, folder):
    value = getattr(posegen, name)
    assert value.__doc__, name
    examples = doctest.DocTestParser().get_doctest(value.__doc__, {"folder": folder}, name, None, None)
    assert examples.examples, f"{name} has no example"
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=told.append)
    assert result.failed == 0, "".join(told)
