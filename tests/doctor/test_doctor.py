"""The doctor on prepared folders: found, missing, cut short, of another hash."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from posegen.config import compose, plain
from posegen.doctor import files, hashes, machine
from posegen.doctor.command import main
from posegen.doctor.finding import ERROR, INFO, OK, WARNING, Finding, exit_status, report
from posegen.errors import ConfigError


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def found(findings, name: str) -> Finding:
    (match,) = [finding for finding in findings if finding.name == name]
    return match


def smpl_file(path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path, v_template=np.zeros((5, 3)), shapedirs=np.zeros((5, 3, 10)), J_regressor=np.zeros((24, 5)),
        weights=np.zeros((5, 24)), f=np.array([[0, 1, 2]]),
    )  # fmt: skip


def test_nothing_is_there_and_each_says_where_to_get_it(data):
    findings = list(files.wanted_files(plain(compose())))
    assert {finding.state for finding in findings} == {INFO}
    for finding in findings:
        assert "not found" in finding.detail and "put it into" in finding.hint and "page" in finding.hint
    assert str(data / "3dpw") in found(findings, "3DPW").hint
    assert {finding.state for finding in files.assets()} == {WARNING}
    assert exit_status(findings) == 0


def test_files_in_the_data_folder_are_found_with_their_command(data):
    smpl_file(data / "smpl" / "SMPL_NEUTRAL.npz")
    (data / "3dpw" / "sequenceFiles" / "test").mkdir(parents=True)
    (data / "3dpw" / "sequenceFiles" / "test" / "a.pkl").write_bytes(b"\x80\x02}.")
    findings = list(files.wanted_files(plain(compose())))
    assert found(findings, "SMPL neutral").state == OK
    pw3d = found(findings, "3DPW")
    assert pw3d.state == OK and f"benchmark.annotations={data / '3dpw'}" in pw3d.hint


def test_a_body_that_is_none_is_an_error(data):
    smpl_file(data / "smpl" / "SMPL_NEUTRAL.npz")
    whole = (data / "smpl" / "SMPL_NEUTRAL.npz").read_bytes()
    (data / "smpl" / "SMPL_NEUTRAL.npz").write_bytes(whole[:200])
    finding = found(files.wanted_files(plain(compose())), "SMPL neutral")
    assert finding.state == ERROR and "get it again" in finding.hint


def test_checkpoints_are_opened_and_hashed_where_the_name_tells(data):
    folder = data / "spin"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "whole.zip", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    content = (folder / "whole.zip").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    for name, raw, problem in (
        ("model_checkpoint.pt", b"<html>", "is no PyTorch checkpoint"),
        ("model_checkpoint.pt", content[:20], "is cut short"),
        ("model_checkpoint.pt", b"", "is empty"),
        ("model_checkpoint.pt", content, None),
        ("resnet-00000000.pt", content, "has another hash"),
        (f"resnet-{digest}.pt", content, None),
    ):
        (folder / name).write_bytes(raw)
        finding = found(files.wanted_files(plain(compose())), "SPIN")
        if problem is None:
            assert finding.state == OK, finding
        else:
            assert finding.state == ERROR and problem in finding.detail
        (folder / name).unlink()


def test_known_checkpoints_are_compared_with_what_was_published(data, monkeypatch):
    folder = data / "blazepose"
    folder.mkdir(parents=True)
    file = folder / "pose_landmark_heavy.tflite"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()

    def finding():
        return found(files.wanted_files(plain(compose())), "BlazePose lite, heavy")

    assert finding().state == WARNING and f"another hash ({digest[:8]})" in finding().detail
    monkeypatch.setitem(hashes.PUBLISHED, file.name, digest)
    assert finding().state == OK and f"sha256 as published ({digest[:12]})" in finding().detail
    monkeypatch.delitem(hashes.PUBLISHED, file.name)
    assert finding().state == OK and "none is published" in finding().detail
    monkeypatch.setattr(hashes, "HASHED_BELOW", 3)
    assert finding().state == OK and "too large" in finding().detail


@pytest.mark.usefixtures("assets")
def test_the_models_that_posegen_fetches_are_the_published_ones():
    from posegen.assets import asset_path

    assert hashes.verdict(asset_path("blazepose_full"))[0] == hashes.MATCH
    assert hashes.expected(Path("resnet50-0676ba61.pth")) == "0676ba61"
    assert hashes.expected(Path("model_checkpoint.pt")) is None


def test_configured_places_must_be_there(data, tmp_path):
    config = plain(compose(["estimator=spin", f"estimator.checkpoint={tmp_path}/no.pt", f"body.path={tmp_path}"]))
    finding = found(files.wanted_files(config), "SPIN")
    assert finding.state == ERROR and "is not there" in finding.detail
    assert found(files.wanted_files(config), "SMPL neutral").state == ERROR  # a folder without one
    assert found(files.wanted_files(config), "SMPL male").state == INFO  # only needed for gendered truth
    assert found(files.configured_paths(config), "estimator.checkpoint").state == ERROR
    assert found(files.configured_paths(config), "body.path").state == OK
    smpl_file(tmp_path / "SMPL_NEUTRAL.npz")
    assert found(files.wanted_files(config), "SMPL neutral").state == OK


def test_a_key_counts_for_its_own_data_set_only(data, tmp_path):
    config = plain(compose(["+benchmark=3dpw", f"benchmark.annotations={tmp_path}/no"]))
    assert found(files.wanted_files(config), "3DPW").state == ERROR
    assert found(files.wanted_files(config), "EMDB").state == INFO


def test_the_python_version(monkeypatch):
    assert machine.python().state == OK
    Version = namedtuple("Version", "major minor micro releaselevel serial")
    monkeypatch.setattr(sys, "version_info", Version(3, 9, 1, "final", 0))
    assert machine.python().state == ERROR


def test_packages_of_another_version_are_named(monkeypatch):
    assert [finding.state for finding in machine.packages()] == [OK]
    monkeypatch.setattr(machine, "requires", lambda name: ["numpy>=99", "nosuchthing", 's3fs; extra == "s3"'])
    (finding,) = machine.packages()
    assert finding.state == ERROR and "numpy" in finding.detail and "nosuchthing is missing" in finding.detail
    assert "s3fs" not in finding.detail


def test_full_and_unwritable_disks(tmp_path, monkeypatch):
    assert machine.disk("d", tmp_path / "not" / "yet", 1e-9, "move").state == OK
    Usage = namedtuple("Usage", "total used free")
    for free, state in ((3e9, OK), (1e9, WARNING), (1e8, ERROR)):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, free=free: Usage(4e9, 0, free))
        assert machine.disk("d", tmp_path, 2.0, "move").state == state
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    assert "cannot be written" in machine.disk("d", tmp_path, 2.0, "move").detail


def test_small_shared_memory_is_told(tmp_path, monkeypatch):
    assert machine.shared_memory(tmp_path / "no").state == WARNING
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(64e6, 0, 64e6))
    finding = machine.shared_memory(tmp_path)
    assert finding.state == WARNING and "--shm-size" in finding.hint


def test_the_report_counts_and_the_status_follows():
    findings = [Finding("a", "x", OK, "1"), Finding("b", "y", ERROR, "2", "do this"), Finding("a", "z", WARNING, "3")]
    text = report(findings)
    assert text.index("  ok  x") < text.index("  ??  z") < text.index("b\n") and "        do this" in text
    assert text.endswith("1 ok, 0 not there and not needed, 1 warnings, 1 errors")
    assert exit_status(findings) == 1 and exit_status(findings[:1]) == 0


def test_the_command_writes_json_and_returns_the_status(data, tmp_path, capsys):
    assert main(["--json", str(tmp_path / "d.json")]) == 0
    content = json.loads((tmp_path / "d.json").read_text())
    assert content["status"] == 0
    assert {"python", "torch", "memory", "shared memory", "3DPW"} <= {f["name"] for f in content["findings"]}
    assert main([f"body.path={tmp_path}/no"]) == 1
    assert "!!  body.path" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="unknown option --rays"):
        main(["--rays"])


def test_ray_is_not_imported():
    import subprocess

    code = "import sys, posegen.doctor.command as c; c.main([]); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
