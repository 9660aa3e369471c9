"""What a user names is never written over unasked, and the refusal comes before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from posegen.errors import ConfigError, DataError
from posegen.files.results import free, split_result, write_result


def test_a_file_that_is_there_stays_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    assert write_result(path, "{}\n") == path and path.read_text() == "{}\n"
    with pytest.raises(DataError, match="there is such a file") as told:
        write_result(path, "[]\n")
    assert told.value.where == str(path) and "--overwrite" in str(told.value.next_command)
    assert path.read_text() == "{}\n"
    write_result(path, "[]\n", overwrite=True)
    assert path.read_text() == "[]\n"
    with pytest.raises(DataError, match="this is a folder"):
        write_result(tmp_path, "{}", overwrite=True)


def test_a_link_and_a_place_in_the_home_are_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert free("~/a.json") == tmp_path / "a.json"
    (tmp_path / "a.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"such a file(.|\n)*overwrite=true"):
        free("~/a.json", flag="overwrite=true")


@pytest.mark.parametrize("words", [["--json", "o.json"], ["--json=o.json"]])
def test_the_option_is_taken_out_of_a_command_line(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rest, file = split_result(["a=1", *words, "b=2"], "--json", "posegen evaluate --help")
    assert rest == ["a=1", "b=2"] and file == Path("o.json")
    (tmp_path / "o.json").write_text("{}")
    with pytest.raises(DataError, match="not written over"):
        split_result(["a=1", *words], "--json", "posegen evaluate --help")
    assert split_result(["--overwrite", *words], "--json", "help") == ([], Path("o.json"))
    assert split_result(["a=1"], "--json", "help") == (["a=1"], None)
    for bad in (["--json"], ["--json="]):
        with pytest.raises(ConfigError, match="--json needs a file"):
            split_result(bad, "--json", "help")
