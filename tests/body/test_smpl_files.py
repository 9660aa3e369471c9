"""Users' body files in their original layouts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from smpl_like import VERTICES, arrays, write_original_pkl

from posegen.assets.command import import_body, main
from posegen.body.model import load_body
from posegen.body.smpl_files import FILE_NAMES, PLACES, without_fingers
from posegen.errors import ConfigError, DataError


def same(body, truth: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(body.v_template, truth["v_template"], atol=1e-6)
    np.testing.assert_allclose(body.shapedirs, truth["shapedirs"], atol=1e-6)
    np.testing.assert_allclose(body.J_regressor, truth["J_regressor"], atol=1e-6)
    np.testing.assert_allclose(body.weights, truth["weights"], atol=1e-6)
    np.testing.assert_array_equal(body.faces, truth["f"].astype(np.int64))
    np.testing.assert_allclose(body.posedirs, truth["posedirs"].reshape(-1, 207).T, atol=1e-6)


@pytest.mark.parametrize("protocol", [0, 2])
def test_the_original_pickle_with_chumpy_objects(tmp_path: Path, protocol: int) -> None:
    truth = write_original_pkl(tmp_path / "basicmodel_m_lbs_10_207_0_v1.0.0.pkl", protocol=protocol)
    same(load_body(tmp_path / "basicmodel_m_lbs_10_207_0_v1.0.0.pkl"), truth)


def test_a_folder_gives_the_asked_gender(tmp_path: Path) -> None:
    truths = {
        "neutral": write_original_pkl(tmp_path / "SMPL_NEUTRAL.pkl", 1),
        "male": write_original_pkl(tmp_path / "SMPL_MALE.pkl", 2),
        "female": write_original_pkl(tmp_path / "basicModel_f_lbs_10_207_0_v1.0.0.pkl", 3),
    }
    for gender, truth in truths.items():
        same(load_body(tmp_path, gender=gender), truth)
    same(load_body(tmp_path, gender="f"), truths["female"])


def test_a_folder_without_the_gender_says_what_it_holds(tmp_path: Path) -> None:
    write_original_pkl(tmp_path / "SMPL_MALE.pkl")
    with pytest.raises(DataError, match=r"no female body[\s\S]*SMPL_MALE\.pkl[\s\S]*SMPL_FEMALE\.pkl"):
        load_body(tmp_path, gender="female")
    with pytest.raises(ConfigError, match="neutral, male, female"):
        load_body(tmp_path, gender="other")


@pytest.mark.parametrize("below", ["", "smpl/models"])
def test_the_current_download_is_found(tmp_path: Path, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (gender, short) in enumerate((("neutral", "neutral"), ("male", "m"), ("female", "f"))):
        truth = write_original_pkl(folder / f"basicmodel_{short}_lbs_10_207_0_v1.1.0.pkl", seed)
        (folder / f"._basicmodel_{short}_lbs_10_207_0_v1.1.0.pkl").write_bytes(b"\x00\x05\x16\x07")
        same(load_body(tmp_path, gender=gender), truth)


@pytest.mark.parametrize(
    ("joints", "file"),
    [(52, "{gender}/model.npz"), (52, "smplh/{gender}/model.npz"), (52, "SMPLH_{GENDER}.npz"),
     (52, "SMPLH_{gender}.npz"), (55, "SMPLX_{GENDER}.npz"), (55, "models/smplx/SMPLX_{GENDER}.npz")],
)  # fmt: skip
def test_larger_bodies_are_found_as_their_pages_unpack_them(tmp_path: Path, joints: int, file: str) -> None:
    for seed, gender in enumerate(("neutral", "male", "female")):
        path = tmp_path / file.format(gender=gender, GENDER=gender.upper())
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays(joints, seed))
    extra = np.random.default_rng(0).random((9, VERTICES)).astype(np.float32)
    np.save(tmp_path / "J_regressor_extra.npy", extra)
    body = load_body(tmp_path, gender="male")
    np.testing.assert_allclose(body.v_template, arrays(joints, 1)["v_template"], atol=1e-6)
    assert "extra9" in body.regressors
    truth = write_original_pkl(tmp_path / "SMPL_MALE.pkl", 7)  # SMPL's own goes before
    same(load_body(tmp_path, gender="male"), truth)


def test_the_doctor_knows_the_same_names(tmp_path: Path) -> None:
    from posegen.doctor.catalogue import CATALOGUE

    for wanted in (w for w in CATALOGUE if w.name in ("SMPL neutral", "SMPL male", "SMPL female")):
        gender = wanted.name.split()[1]
        for place in PLACES:
            for stem in FILE_NAMES[gender]:
                file = tmp_path / gender / place / f"{stem}.pkl"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                assert any(file in (tmp_path / gender).glob(pattern) for pattern in wanted.patterns), file


def test_import_writes_a_plain_npz_with_the_same_body(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write_original_pkl(tmp_path / "SMPL_NEUTRAL.pkl")
    out = tmp_path / "safe.npz"
    assert main(["import", str(tmp_path / "SMPL_NEUTRAL.pkl"), "--out", str(out)]) == 0
    same(load_body(out), truth)
    with np.load(out, allow_pickle=False) as archive:
        assert set(archive.files) == set(truth)
        assert all(archive[key].dtype != object for key in archive.files)
    printed = capsys.readouterr().out
    assert import_body(tmp_path / "SMPL_NEUTRAL.pkl", tmp_path / "again.npz") in printed  # the hash is of the contents


def test_an_npz_with_python_objects_is_read_without_them(tmp_path: Path) -> None:
    truth = arrays()
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **truth, part2num=np.array({"a": 1}, dtype=object))
    same(load_body(tmp_path), truth)


@pytest.mark.parametrize("joints", [52, 55])
def test_fingers_and_face_of_larger_bodies_are_merged(tmp_path: Path, joints: int) -> None:
    truth = arrays(joints)
    np.savez(tmp_path / "model.npz", **truth)
    body = load_body(tmp_path / "model.npz")
    first = 22 if joints == 52 else 25
    np.testing.assert_allclose(body.weights.sum(1), np.ones(VERTICES), atol=1e-6)
    np.testing.assert_allclose(body.weights[:, 22], truth["weights"][:, first : first + 15].sum(1), atol=1e-6)
    knuckles = truth["J_regressor"][[first, first + 3, first + 6, first + 9]].mean(0)
    np.testing.assert_allclose(body.J_regressor[22], knuckles, atol=1e-6)
    # Bending the elbow keeps its blend shapes: the first 21 joints' are untouched.
    reduced, posedirs = without_fingers({k: truth[k] for k in ("weights", "J_regressor")}, truth["posedirs"])
    assert posedirs is not None
    np.testing.assert_array_equal(posedirs[..., :189], truth["posedirs"][..., :189])
    assert posedirs.shape[2] == 207 and not posedirs[..., 189:].any()
    assert reduced["weights"].shape == (VERTICES, 24)


def test_extra_regressors_beside_the_file_are_loaded(tmp_path: Path) -> None:
    write_original_pkl(tmp_path / "SMPL_NEUTRAL.pkl")
    extra = np.random.default_rng(0).random((9, VERTICES)).astype(np.float32)
    np.save(tmp_path / "J_regressor_extra.npy", extra)
    body = load_body(tmp_path)
    vertices = torch.randn(2, VERTICES, 3)
    np.testing.assert_allclose(
        body.regress(vertices, "extra9"), np.einsum("jv,bvc->bjc", extra, vertices.numpy()), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ConfigError, match=r"no joint regressor 'h36m17'[\s\S]*J_regressor_h36m\.npy"):
        body.regress(vertices, "h36m17")


def changed(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return {**arrays(), **changes}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({k: v for k, v in arrays().items() if k != "weights"}, "weights missing"),
        (changed(weights=np.ones((VERTICES, 23))), r"weights has shape \(40, 23\), expected \(40, 24\)"),
        (changed(J_regressor=np.ones((30, VERTICES))), r"30 joints[\s\S]*24 \(SMPL\)"),
        (changed(v_template=np.full((VERTICES, 3), np.nan)), "v_template does not hold finite numbers"),
        (changed(f=np.full((4, 3), VERTICES)), "vertices that do not exist"),
        (changed(kintree_table=np.zeros((2, 24))), "hang together in another way"),
        ([1, 2], "holds a list"),
        (changed(posedirs=np.full((VERTICES, 3, 207), np.nan)), "posedirs does not hold finite numbers"),
        (changed(J_regressor=np.float64(3)), r"J_regressor has shape \(\), expected 2 dimensions"),
        (changed(weights="text"), "an array: a str instead of numbers"),
        (changed(kintree_table=np.zeros(0)), "kintree_table has shape"),
    ],
)
def test_malformed_bodies_are_named(tmp_path: Path, contents: object, message: str) -> None:
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(contents, protocol=2))
    with pytest.raises(DataError, match=message):
        load_body(path)


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:3000])
    with pytest.raises(DataError, match="cut short or damaged"):
        load_body(tmp_path / "cut.npz")
    (tmp_path / "body.obj").write_text("v 0 0 0")
    with pytest.raises(DataError, match=r"\.pkl or \.npz, not \.obj"):
        load_body(tmp_path / "body.obj")
    with pytest.raises(DataError, match="no such body file"):
        load_body(tmp_path / "gone.pkl")
    with pytest.raises(ConfigError, match="full, low"):
        load_body(resolution="medium")
