"""Files that a fuzzer made of valid small ones, each once the way to a crash, a hang, gigabytes or a foreign error.

`data/hostile.tar.xz` holds them; a name says the reader, what came out, and where. Each must be refused by an error of
ours, in seconds and without much memory: none of them is a file that should load.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from peak import forget_peak, peak_bytes
from posegen.benchmarks.embedded.stand_ins import read_set
from posegen.benchmarks.readers.agora_parts import vertex_list, vertex_lists
from posegen.benchmarks.readers.crop import read_picture
from posegen.benchmarks.readers.hmr2_npz import hmr2_npz
from posegen.benchmarks.readers.human36m import read_mask_boxes
from posegen.benchmarks.readers.mpi_inf_3dhp import mpi_inf_3dhp, read_test_annotations
from posegen.benchmarks.readers.ski_poseptz import ski_poseptz
from posegen.benchmarks.readers.spin_npz import spin_npz
from posegen.body.amass import read_motion
from posegen.body.smpl_files import read_arrays, read_regressors
from posegen.body.subjects import read_subjects
from posegen.errors import PosegenError
from posegen.estimator.checkpoint import read_state
from posegen.estimator.http_client import HttpClient
from posegen.estimator.spin import read_mean_params
from posegen.files.arrays import npz_names
from posegen.files.cdf import read_variable
from posegen.renderer.field.artifact import load_field_file
from posegen.renderer.fit.anerf_views import read_anerf_h5
from posegen.renderer.fit.folder import read_views
from posegen.renderer.fit.surreal import read_masks, read_surreal
from posegen.renderer.surroundings.photos import PhotoShelf
from posegen.tracking.report.gallery import Gallery

sys.path.insert(0, str(Path(__file__).parents[1] / "renderer"))
from test_fit_formats import BODY

ARCHIVE = Path(__file__).with_name("data") / "hostile.tar.xz"
SECONDS, BYTES = 10, 1_500_000_000


def placed(file: Path, name: str) -> Path:
    """A copy of the file where a data set has it; the data set's folder."""
    root = file.parent / "dataset"
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, root / name)
    return root


def surreal(file: Path, kind: str) -> Any:
    return read_surreal([placed(file, f"clip_{kind}.mat") / "clip.mp4"], BODY, 20, 4)


def segmentation(file: Path) -> Any:
    return read_masks(placed(file, "clip_segm.mat") / "clip.mp4", [0, 1])


def masks_of_human36m(file: Path) -> Any:
    root = placed(file, "MySegmentsMat/ground_truth_bb/A.1.mat")
    return read_mask_boxes(root / "MySegmentsMat/ground_truth_bb/A.1.mat", np.array([0]))


def view_with(file: Path) -> Any:
    """A folder of one view whose picture is the file."""
    root = placed(file, "images/a.png")
    (root / "masks").mkdir(exist_ok=True)
    Image.new("L", (8, 8), 255).save(root / "masks" / "a.png")
    np.savez(
        root / "views.npz", name=np.array(["a"]), pose=np.zeros((1, 24, 3)), betas=np.zeros(10), R=np.eye(3)[None],
        t=np.array([[0.0, 0.0, 3.0]]), focal=np.array([20.0]),
    )  # fmt: skip
    return read_views(root, 8, 1)


def subjects(file: Path) -> Any:
    names = sorted({name.split("/")[0] for name in npz_names(file) if "/" in name})
    return read_subjects(file, names)


READERS: dict[str, Callable[[Path], Any]] = {
    "3dhp_v5": lambda f: mpi_inf_3dhp(placed(f, "S1/Seq1/annot.mat"), split="train"),
    "3dhp_v7_3": read_test_annotations,
    "HTTP_estimator_s_answer__json": lambda f: HttpClient("http://localhost", format="json").decoded(f.read_bytes()),
    "HTTP_estimator_s_answer__npz": lambda f: HttpClient("http://localhost", format="npz").decoded(f.read_bytes()),
    "J_regressor": lambda f: read_regressors(placed(f, "J_regressor_h36m.npy"), np.ones((60, 3))),
    "agora_body_vertices": vertex_list,
    "agora_vertex_list": lambda f: vertex_lists(placed(f, "body_verts_smplx.npy")),
    "amass": read_motion,
    "anerf__h5": lambda f: read_anerf_h5(f, BODY, 20, 4),  # type: ignore[arg-type]
    "embedded_set": read_set,
    "fit_picture": view_with,
    "fit_views": lambda f: read_views(placed(f, "views.npz"), 20, 4),
    "fitted_field": load_field_file,
    "gallery": Gallery.load,
    "h36m__cdf": lambda f: read_variable(f, "Pose"),
    "h36m_masks": masks_of_human36m,
    "hmr2__npz": hmr2_npz,
    "mean_params": read_mean_params,
    "photo__": lambda f: PhotoShelf([f])[0],
    "picture__": read_picture,
    "ski_labels": ski_poseptz,
    "smpl_npz": read_arrays,
    "spin_3dpw": lambda f: spin_npz(f, protocol="3dpw"),
    "spin__npz": lambda f: spin_npz(f, protocol="mpi_inf_3dhp"),
    "subjects_npz": subjects,
    "surreal__info": lambda f: surreal(f, "info"),
    "surreal__segm": segmentation,
    "weights__npz": read_state,
}


@pytest.mark.parametrize("reader", READERS)
def test_hostile_files_are_refused_in_seconds(tmp_path: Path, reader: str) -> None:
    ended, begun_with = [], forget_peak()
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if not member.name.startswith(reader):
                continue
            (tmp_path / member.name).mkdir()
            file = tmp_path / member.name / f"file{Path(member.name).suffix}"
            content = archive.extractfile(member)
            assert content is not None
            file.write_bytes(content.read())
            start = time.monotonic()
            try:
                ended.append((member.name, READERS[reader](file)))
            except PosegenError as error:
                ended.append((member.name, None if error.where is not None else f"of which file? {error.what}"))
            assert time.monotonic() - start < SECONDS, member.name
    assert ended, "the archive holds no file of this reader"
    loaded = [name for name, value in ended if value is not None]
    assert not loaded, f"loaded without a word: {loaded}"
    assert peak_bytes() - begun_with < BYTES
