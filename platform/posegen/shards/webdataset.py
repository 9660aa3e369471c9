"""Generated data sets as WebDataset: tar shards of `ID.png` and `ID.json`, read one after the other."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from posegen.shards.reader import Shards
from posegen.shards.schema import LABELS
from posegen.shards.table import encode_image, table_to_tensors


def export_webdataset(shards: Shards, directory: str | Path, name: str = "posegen") -> list[Path]:
    """Writes `<name>-000000.tar` ..., one for each shard; returns their paths.

    A sample is a PNG and a JSON of all labels under the same key. The files are equal byte for byte for equal rows.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, table in enumerate(shards.tables()):
        tensors = table_to_tensors(table)
        labels = {key: tensors[key].numpy() if key in tensors else table.column(key).to_pylist() for key in LABELS}
        path = directory / f"{name}-{index:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for row, image in enumerate(tensors["image"].numpy()):
                key = f"{int(labels['row_id'][row]):08d}"
                told = {label: _plain(values[row]) for label, values in labels.items()}
                _add(archive, f"{key}.png", encode_image(image, "png"))
                _add(archive, f"{key}.json", json.dumps(told, allow_nan=False).encode())
        paths.append(path)
    return paths


def _plain(value: Any) -> Any:
    """Numbers and lists of them; NaN, which JSON does not know, becomes null."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
