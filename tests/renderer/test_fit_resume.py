"""`fit-subject` of several subjects, stopped between two of them: those that are done stay, the others are fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from posegen.errors import DataError
from posegen.renderer.fit import command
from posegen.renderer.fit.command import FitConfig, fit_subjects
from posegen.renderer.fit.quality import FitQuality


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of subjects that were fitted; a fit is a line of text here."""
    names: list[str] = []

    def fit(source, config, progress):
        names.append(source.name)
        return source.name, FitQuality(20.0, 15.0, 0.9, 0.8, 4, 32), torch.zeros(0), 1.0

    def written(what, path: Path) -> Path:
        path.write_text(f"field of {what}")
        return path

    monkeypatch.setattr(command, "free_source", lambda name, *_: SimpleNamespace(name=name, held_out=None))
    monkeypatch.setattr(command, "fit_source", fit)
    monkeypatch.setattr(command, "save_field", written)
    monkeypatch.setattr(command, "save_side_by_side", lambda images, views, path: written("picture", path))
    monkeypatch.setattr(command, "load_field_file", lambda path: Path(path).read_text())
    monkeypatch.setattr(command, "join_fields", " and ".join)
    return names


def test_a_stop_between_two_subjects_goes_on_with_the_second(tmp_path: Path, fits: list[str], monkeypatch) -> None:
    config = FitConfig(subjects=("amber", "birch"), output=str(tmp_path))
    whole = command.fit_source

    def stopped(source, *rest):
        if source.name == "birch":
            raise KeyboardInterrupt
        return whole(source, *rest)

    monkeypatch.setattr(command, "fit_source", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_subjects(config)
    monkeypatch.setattr(command, "fit_source", whole)
    reports = fit_subjects(config)
    assert fits == ["amber", "birch"]
    assert [report.name for report in reports] == ["amber", "birch"]
    assert [report.quality.views for report in reports] == [4, 4]
    assert "amber" in (tmp_path / "subjects.npz").read_text() and "birch" in (tmp_path / "subjects.npz").read_text()
    assert [row["name"] for row in json.loads((tmp_path / "report.json").read_text())] == ["amber", "birch"]
    fit_subjects(config)  # all done: nothing is fitted, nothing refused
    assert fits == ["amber", "birch"]


def test_what_is_done_counts_for_the_same_settings_and_an_unchanged_file_alone(tmp_path: Path, fits: list[str]) -> None:
    config = FitConfig(subjects=("amber",), output=str(tmp_path))
    fit_subjects(config)
    with pytest.raises(DataError, match="not written over"):
        fit_subjects(replace(config, seed=1))
    with pytest.raises(DataError, match="not written over"):
        fit_subjects(replace(config, resume=False))
    (tmp_path / "amber.npz").write_text("field of another")
    with pytest.raises(DataError, match="not written over"):
        fit_subjects(config)
    fit_subjects(replace(config, overwrite=True))
    fit_subjects(replace(config, subjects=("amber", "birch")))  # one more
    assert fits == ["amber", "amber", "birch"]
    (tmp_path / "report.json").write_text("[[[")
    with pytest.raises(DataError, match="not written over"):
        fit_subjects(config)
