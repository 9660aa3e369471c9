"""The four data sets of the paper's table in their original layouts, below one folder, and SMPL's body files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from tiny_datasets import VERTICES, agora_table, make_3dhp_test, make_3dpw, make_ski, write_bodies, write_picture


def make_all(root: Path, vertices: int = VERTICES) -> Path:
    """Writes them; returns the folder of the bodies."""
    bodies = write_bodies(root / "smpl", vertices)
    make_3dpw(root / "3DPW", bodies)
    files = root / "3DPW" / "sequenceFiles"
    shutil.copytree(files / "test", files / "train")
    make_3dhp_test(root / "MPI-INF-3DHP")
    make_ski(root / "Ski-PosePTZ-CameraDataset-png")
    tables = root / "AGORA" / "validation_SMPL"
    tables.mkdir(parents=True)
    table = agora_table()
    pd.DataFrame(table).to_pickle(tables / "validation_0_withjv.pkl")
    for name in table["imgPath"]:
        write_picture(root / "AGORA" / "validation" / name.replace(".png", "_1280x720.png"), (1280, 720))
    return bodies
