"""`posegen help`: every key has a meaning, and what is said of it is what the schema holds."""

import pytest
from shell_posegen import modules_after

from posegen import cli
from posegen.commandline.choices import choices_of
from posegen.commandline.key_help import about, recipes
from posegen.config import compose, groups, plain
from posegen.config.keys import keys, kind_text, meanings, parts, value_text
from posegen.config.schema import FinetuneConfig
from posegen.errors import ConfigError


def test_every_key_and_part_has_a_meaning():
    assert [name for name, key in keys().items() if not key.meaning] == []
    assert [part.name for part in parts() if not part.meaning] == []
    assert [option for group in ("noise", "feedback", "estimator", "target", "suite", "renderer", "generator")
            for option, said in choices_of(group) if not said] == []  # fmt: skip


def test_keys_are_those_of_a_composed_configuration():
    told = set(keys())

    def leaves(name, value):
        if isinstance(value, dict) and name not in told:  # a part; a free dict is a key itself
            return {leaf for key, inside in value.items() for leaf in leaves(f"{name}.{key}", inside)}
        return {name}

    composed = plain(compose(["experiment=smoke"]))
    assert told == {leaf for name, value in composed.items() for leaf in leaves(name, value)}


def test_a_key_says_meaning_type_bounds_default_choices_and_who_sets_it():
    text = about("finetune.keep")
    assert "towards the old weights (l2sp)" in text
    assert "none, l2sp, distill" in text
    text = about("finetune.steps")
    assert "whole number, at least 1" in text
    assert "default   300" in text
    assert "experiment=full: 6000" in text
    assert recipes("image_size")[0][0] == "experiment=blazepose"
    assert "path or null" in about("body.path")
    assert "more than 0, at most 1" in about("renderer.step_m")


def test_groups_options_parts_and_open_keys():
    assert "student_t" in about("noise")
    assert "noise.dim" in about("noise")
    assert "conf/noise/mixture.yaml" in about("noise=mixture")
    assert "finetune.steps" in about("finetune")
    assert "inside of estimator.options" in about("estimator.options.url")
    told = {line.split()[0] for line in about("dataset.selection").splitlines() if line.startswith("  dataset")}
    assert told == {name for name in keys() if name.startswith("dataset.selection.")}
    for name in groups():
        assert about(name)


def test_what_is_not_there_is_an_error_with_the_near_one():
    with pytest.raises(ConfigError, match=r"did you mean 'generator\.hidden'"):
        about("generator.hiden")
    with pytest.raises(ConfigError, match="did you mean 'mixture'"):
        about("noise=mixtures")


def test_meanings_are_read_from_comments_and_docstrings():
    class Settings:
        """Some.

        Args:
            first, second: said of both,
                over two lines.
        """

        __dataclass_fields__ = {}

    told = meanings.__wrapped__(FinetuneConfig)
    assert told["steps"] == "training steps of the estimator"
    assert told["stream_share"].startswith("of the steps, during which")
    from posegen.config.keys import _from_docstring

    assert _from_docstring(Settings.__doc__) == {"first": "said of both, over two lines.",
                                                 "second": "said of both, over two lines."}  # fmt: skip


def test_comments_in_methods_say_nothing_of_fields():
    source = """
    @dataclass
    class Settings:
        first: int = 1  # said of it
        # said above
        second: int = 2

        @property
        def third(self) -> int:
            return 3  # fmt: skip
    """
    from posegen.config.keys import _from_comments

    assert _from_comments(source) == {"first": "said of it", "second": "said above"}


def test_types_and_values_in_words():
    assert kind_text(int | None) == "whole number or null"
    assert kind_text(tuple[str, ...]) == "list of text"
    assert value_text(None) == "null"
    assert value_text(("a", 0.002, True)) == "[a, 0.002, true]"


@pytest.mark.parametrize("words", [["help", "finetune.steps"], ["help", "run"], ["run", "--help"], ["help"], []])
def test_help_and_posegen_alone_load_no_torch(words, tmp_path):
    code = f"from posegen import cli\nassert cli.main({words!r}) == 0"
    assert modules_after(code, ("torch", "ray", "mlflow", "hydra"), tmp_path) == []


def test_help_of_a_command_that_is_a_part_tells_both(capsys):
    assert cli.main(["help", "finetune"]) == 0
    text = capsys.readouterr().out
    assert "fine-tunes the estimator on every arm's data set" in text
    assert "finetune.steps" in text
