"""Small text files: bounded, in UTF-8, and nothing but our own error for what is wrong with one."""

from __future__ import annotations

import json
import time

import pytest

from posegen.errors import DataError
from posegen.files.state import MOST_YAML, parse_json, read_history, read_json, read_text, read_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_JSON = [b"", b"{", b"[]", b"3", b"null", b'{"a": 1', b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 5000, b"{} {}"]
BAD_YAML = [
    b"", b"- 1", b"3", b"a: [", b"a: &x [*x]", b"a: !!python/object/apply:os.system [ls]", b"\xff\xfe\x00", b"a: \x00",
    b"{" * 5000, b"[" * 100_000, b"? [a, b]\n: 1\n? {c: d}\n: 2", b"a: 2020-99-99", BOMB.encode(), b"a: *nowhere",
    b"x: 1\n" * (MOST_YAML // 4),
]  # fmt: skip


@pytest.mark.parametrize("data", BAD_JSON, ids=range(len(BAD_JSON)))
def test_what_is_no_json_object_is_named_with_the_cure(data, tmp_path):
    path = tmp_path / "m.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as told:
        read_json(path, "the marker", "rm it")
    assert str(path) in str(told.value) and "the marker" in str(told.value) and "next: rm it" in str(told.value)


@pytest.mark.parametrize("data", BAD_YAML, ids=range(len(BAD_YAML)))
def test_what_is_no_plain_yaml_mapping_is_named_in_no_time(data, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    began = time.monotonic()
    with pytest.raises(DataError, match="the split"):
        read_yaml(path, "the split")
    assert time.monotonic() - began < 5


def test_anchors_are_fine_where_they_stay_small(tmp_path):
    (tmp_path / "s.yaml").write_text("a: &x {b: 1}\nc: *x\nd: [*x, *x]\n")
    assert read_yaml(tmp_path / "s.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}


def test_nan_is_read_where_it_may_be_and_refused_elsewhere():
    assert parse_json('{"a": NaN}')["a"] != parse_json('{"a": NaN}')["a"]
    for text in ('{"a": NaN}', "[Infinity]", "[-Infinity]", "[1e999]"):
        with pytest.raises(ValueError, match=r"NaN|Infinity|too large"):
            parse_json(text, nan=False)
    assert parse_json('{"text": "[[[["}' + " " * 100) == {"text": "[[[["}
    assert parse_json(json.dumps({str(i): [] for i in range(200)}))["7"] == []


def test_a_text_is_bounded_and_a_mark_at_its_start_is_no_letter(tmp_path):
    path = tmp_path / "t"
    path.write_bytes("\ufeffgröße".encode())
    assert read_text(path) == "größe"
    with pytest.raises(DataError, match="more than 0 kB"):
        read_text(path, most=3)
    with pytest.raises(DataError):
        read_text(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")


def test_a_history_keeps_what_is_whole_and_tells_what_is_not(tmp_path):
    path = tmp_path / "history.jsonl"
    rows = [json.dumps({"step": step, "loss": 1.0}) for step in range(1, 6)]
    rows[2] = '{"step": "3"'
    path.write_text("\n".join([*rows, "[1]", '{"loss": 2}', '{"step": true}', "null"]) + "\n" + '{"step": 6, "lo')
    told: list[str] = []
    assert [row["step"] for row in read_history(path, told.append)] == [1, 2, 4, 5]
    assert len(told) == 1 and "line 3, 6, 7, 8, 9 of the history" in told[0] and str(path) in told[0]


def test_a_last_line_that_a_kill_cut_short_is_no_news(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1, "a": NaN}\n{"step": 2, "a"')
    assert [row["step"] for row in read_history(path, pytest.fail)] == [1]
    assert read_history(tmp_path / "none", pytest.fail) == []


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_yaml_holds_finite_numbers(tmp_path, number):
    (tmp_path / "c.yaml").write_text(f"a: 1\nb: [1.5, {{c: {number}}}]\n")
    with pytest.raises(DataError, match=r"not finite under b\.1\.c"):
        read_yaml(tmp_path / "c.yaml")
