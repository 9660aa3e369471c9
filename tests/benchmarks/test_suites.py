"""Suites: data sets found below one folder under the names people give them, and what is missing said at once."""

from __future__ import annotations

import pytest
from tiny_suite import make_all

from posegen.benchmarks.places import find, simple
from posegen.benchmarks.suites import Suite, build_entry, entries
from posegen.config import compose
from posegen.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("DATASETS")
    make_all(folder)
    return folder


def suite(*overrides: str) -> Suite:
    return Suite.of(compose(["experiment=smoke", *overrides]), ["posegen", "run", *overrides])


def test_the_default_is_the_embedded_four():
    found = suite()
    assert [entry.label for entry in found.measured] == ["3dpw-like", "3dhp-like", "ski-like", "agora-like"]
    assert [entry.as_plain() for entry in found.watched] == ["source-like"]


def test_the_paper_s_four_are_found_below_one_folder(data):
    found = suite("suite=paper", f"data={data}", f"estimator.body={data / 'smpl'}")
    places = {entry.label: entry.options["annotations"] for entry in (*found.measured, *found.watched)}
    assert places == {
        "3dpw": str(data / "3DPW"),
        "mpi_inf_3dhp": str(data / "MPI-INF-3DHP"),
        "ski_poseptz": str(data / "Ski-PosePTZ-CameraDataset-png"),
        "agora": str(data / "AGORA" / "validation_SMPL"),
        "3dpw-train": str(data / "3DPW"),
    }
    agora = next(entry for entry in found.measured if entry.name == "agora")
    assert agora.options["images"] == str(data / "AGORA" / "validation")
    assert found.watched[0].options["split"] == "train" and found.watched[0].options["stride"] == 10
    config = compose(["experiment=smoke"])
    for entry in (*found.measured, *found.watched):
        benchmark = build_entry(entry, config)
        assert benchmark.name == entry.label and len(benchmark) > 0
        batch = next(benchmark.batches(4))
        assert batch.camera is not None and batch.tracks is not None
        (again,) = benchmark.examples([batch.ids[-1]])
        assert again.ids == [batch.ids[-1]] and (again.images[0] == batch.images[-1]).all()


def test_what_is_missing_is_named_with_what_is_there_and_how_to_go_on(data, tmp_path):
    (tmp_path / "3dpw").symlink_to(data / "3DPW")
    (tmp_path / "agora").mkdir()
    with pytest.raises(DataError) as error:
        suite("suite=paper", f"data={tmp_path}", f"estimator.body={data / 'smpl'}")
    said = str(error.value)
    assert "3 of the 5 data sets of this suite cannot be had" in said
    assert f"agora: {tmp_path / 'agora'} holds none of *_withjv.pkl" in said
    assert f"mpi_inf_3dhp: no folder mpiinf3dhp below {tmp_path}" in said
    assert f"there: 3dpw {tmp_path / '3dpw'}" in said
    words = error.value.next_command.split("   #")[0]
    assert "'evaluation.suite=[3dpw]'" in words and f"data={tmp_path}" in words
    assert "'evaluation.watch=[{name:3dpw,split:train,stride:10,label:3dpw-train}]'" in words
    # The command that is given goes on.
    fewer = suite(*_words(words))
    assert [entry.label for entry in fewer.measured] == ["3dpw"]
    assert [entry.label for entry in fewer.watched] == ["3dpw-train"]


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)[2:]


def test_each_place_may_be_given_by_itself_and_nothing_at_all_is_told(data):
    only = ("evaluation.suite=[3dpw]", "evaluation.watch=[]")
    alone = suite(*only, f"data.3dpw={data / '3DPW'}", f"body.path={data / 'smpl'}")
    assert alone.measured[0].options["annotations"] == str(data / "3DPW")
    with pytest.raises(DataError, match=r"neither data=FOLDER nor data.ski_poseptz=FOLDER is given"):
        suite("evaluation.suite=[ski_poseptz]", "evaluation.watch=[]")
    with pytest.raises(DataError, match=r"estimator.body=FOLDER or body.path=FOLDER is needed"):
        suite("evaluation.suite=[3dpw]", "evaluation.watch=[]", f"data={data}")
    with pytest.raises(DataError, match=r"data.agora=/no/where is not there"):
        suite("evaluation.suite=[agora]", "evaluation.watch=[]", "data.agora=/no/where")


def test_entries_are_checked_by_name_option_and_label():
    with pytest.raises(ConfigError, match="did you mean '3dpw'"):
        entries(["3dwp"], "evaluation.suite")
    with pytest.raises(ConfigError, match="two entries are called 'ski-like'"):
        entries(["ski-like", {"name": "ski-like", "seed": 1}], "evaluation.suite")
    with pytest.raises(ConfigError, match="a label is made of"):
        entries([{"name": "ski-like", "label": "../x"}], "evaluation.suite")
    with pytest.raises(ConfigError, match="benchmark ski-like has no option 'imgaes'"):
        suite("evaluation.suite=[{name:ski-like,imgaes:4}]")
    with pytest.raises(ConfigError, match="a suite without a data set"):
        suite("evaluation.suite=[]")
    own = suite("evaluation.suite=[ski-like,{name:ski-like,label:other,seed:3}]").measured[1]
    assert own.as_plain() == {"name": "ski-like", "label": "other", "seed": 3}


def test_folders_of_a_mac_and_names_of_any_case(tmp_path):
    assert simple("MPI_INF_3DHP") == simple("mpi-inf-3dhp") == "mpiinf3dhp"
    (tmp_path / "._3DPW" / "sequenceFiles" / "test").mkdir(parents=True)
    folder = tmp_path / "pw3d" / "sequenceFiles" / "test"
    folder.mkdir(parents=True)
    (folder / "._a.pkl").touch()
    assert "holds none of sequenceFiles/test/*.pkl" in str(find("3dpw", str(tmp_path), None))
    (folder / "a.pkl").touch()
    assert find("3dpw", str(tmp_path), None).annotations == tmp_path / "pw3d"
    assert "holds none of sequenceFiles/train/*.pkl" in str(find("3dpw", str(tmp_path), None, "train"))
