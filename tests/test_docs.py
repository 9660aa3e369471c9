"""The documentation says what is: links lead somewhere, commands and keys exist, pages are up to date."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from command_words import open_parts, problem_of
from posegen import cli
from posegen.config.keys import keys, parts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
LINK = re.compile(r"(?<!`)\[[^\]\[]*\]\(([^)\s]+)\)")
PYTHON = ("body.regressors", "estimator.network")  # attributes, which are written as keys are


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^( {4,}|\t).*$", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M)


def anchors(page: Path) -> set[str]:
    """As GitHub and mkdocs make them: lower case, blanks to dashes, other signs away."""
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain.lower()).strip()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in LINK.findall(without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere"
        assert file.is_relative_to(ROOT)
        if page.is_relative_to(DOCS):
            assert file.is_relative_to(DOCS), f"{target} leaves docs/, which the built pages do not"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading; there are {sorted(anchors(file))}"


def test_every_page_can_be_reached():
    told = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    def files(node):
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else [node]:
            yield from files(value) if not isinstance(value, str) else [value]

    assert sorted(files(told)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def commands(text: str) -> list[list[str]]:
    """Command lines of posegen in code: indented or fenced lines, and `posegen ...` in a sentence."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line.strip() for line in re.findall(r"^ {4,}(.+)$", joined, re.M)]
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```$", joined, re.M | re.S):
        lines += block.splitlines()
    lines += [found.replace("\n", " ") for found in re.findall(r"`(posegen [^`]+)`", joined)]
    found = []
    for line in (re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line.strip()) for line in lines):
        if not line.startswith("posegen "):
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.partition("#")[0].split()
        for stop in ("&&", "|", ">"):
            words = words[: words.index(stop)] if stop in words else words
        found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_keys_that_are_named_exist(page):
    wrong = [f"posegen {' '.join(words)}: {why}" for words in commands(page.read_text()) if words
             if (why := problem_of(words))]  # fmt: skip
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_keys_in_sentences_are_in_the_schema(page):
    tops = {part.name for part in parts() if part.name} - {"benchmark"}
    for word in re.findall(r"`([a-z_]+\.[a-z_]+(?:\.[a-z_]+)*)(?:=[^`]*)?`", page.read_text()):
        top = word.split(".")[0]
        if top not in tops or word.endswith((".md", ".py", ".json", ".yaml", ".html", ".pt", ".npz", ".h5")):
            continue
        is_key = word in keys() or word.startswith(open_parts()) or word in PYTHON
        assert is_key, f"{word} is no key"


def test_a_wrong_command_and_a_wrong_key_would_be_seen():
    text = (
        "    posegen rnu seed=1\n    posegen run finetune.stpes=3 \\\n      seed=2   # comment\n\n`posegen show --xml`"
    )
    assert [problem_of(words) for words in commands(text)] == [
        "no command rnu", "no key finetune.stpes", "show has no option --xml",
    ]  # fmt: skip
    assert problem_of(["run", "noise=mixtur"]) is not None


def test_generated_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, text in generate.pages().items():
        # Blanks aside: argparse folds its lines in other places from one Python to the next.
        same = (DOCS / name).read_text().split() == text.split()
        assert same, f"docs/{name} is not what the program says: make docs"
    assert set(re.findall(r"^## posegen (.+)$", (DOCS / "reference/commands.md").read_text(), re.M)) == set(
        cli.COMMANDS
    ) - {"help"}


def test_the_readme_is_short_and_the_diary_is_elsewhere():
    assert len((ROOT / "README.md").read_text().splitlines()) < 90
    for page in DOCS.rglob("*.md"):
        if "experiments" not in page.parts:
            assert "the aims were" not in page.read_text().lower(), page
