"""Damaged and hostile pickles and checkpoints that a fuzzer found: each is refused in our words, quickly."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posegen.benchmarks.measure import agora_predictions
from posegen.benchmarks.readers import agora, agora_parts, emdb, pw3d
from posegen.body.smpl_files import read_arrays
from posegen.errors import PosegenError
from posegen.estimator.checkpoint import read_state
from posegen.estimator.hybrik_body import HybrikBody
from posegen.renderer.anerf.checkpoint import ANerfConfig, read_anerf

CASES = zipfile.ZipFile(io.BytesIO((Path(__file__).parent / "data" / "hostile.zip").read_bytes()))


def _emdb(file: Path) -> None:
    data = emdb._read(file)
    emdb._frames(data, file)
    emdb._betas(data, file)


def _ids(file: Path) -> None:
    agora_parts.vertex_lists(file.rename(file.parent / "MANO_SMPLX_vertex_ids.pkl").parent)


READERS: dict[str, Callable[[Path], Any]] = {
    "3dpw": pw3d._people,
    "agora_MANO": _ids,
    "agora_prediction": lambda file: agora_predictions._read(file, 24),
    "agora_table": agora.read_pictures,
    "emdb": _emdb,
    "smpl": read_arrays,
    "anerf": lambda file: read_anerf(file, ANerfConfig()),
    "hybrik": lambda file: HybrikBody.like_state(read_state(file), file),
    "spin__pt_other_AttributeError": lambda file: HybrikBody.like_state(read_state(file), file),
    "spin": read_state,
}


@pytest.mark.parametrize("name", CASES.namelist())
def test_a_damaged_file_ends_in_our_error_that_names_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(CASES.read(name))
    read = next(reader for prefix, reader in READERS.items() if name.startswith(prefix))
    before = time.monotonic()
    with pytest.raises(PosegenError) as caught:
        read(file)
    assert caught.value.where is not None and str(tmp_path) in caught.value.where
    assert time.monotonic() - before < 10
