"""Parts of an SMPL-X person that AGORA scores apart: body, hands, face (agora_evaluation calculate_v2v_error.py).

Each part has its joints, counted with its root, its root, and a list of vertices that comes with agora_evaluation
(body) or with the MANO and FLAME correspondences of the SMPL-X page (hands, face). The whole body's error is
body + (left hand + right hand + face) / 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.readers.files import existing
from posegen.body.safe_pickle import load_pickle
from posegen.errors import DataError

SMPLX_JOINTS, SMPLX_VERTICES = 127, 10475


@dataclass(frozen=True)
class Part:
    """Which joints count, which of them is the mean root, and where the list of vertices is."""

    name: str
    joints: tuple[int, ...]  # of SMPL-X's 127
    root: tuple[int, ...]
    file: str
    key: str | None = None  # within the file


PARTS = (
    Part("body", tuple(range(22)), (1, 2), "body_verts_smplx.npy"),
    Part("lhand", (20, *range(25, 40)), (20,), "MANO_SMPLX_vertex_ids.pkl", "left_hand"),
    Part("rhand", (21, *range(40, 55)), (21,), "MANO_SMPLX_vertex_ids.pkl", "right_hand"),
    Part("face", (12, *range(76, 127)), (12,), "SMPL-X__FLAME_vertex_ids.npy"),
)


def vertex_lists(folder: str | Path | None) -> dict[str, NDArray]:
    """The vertices of each part whose list lies in the folder; the others have no vertex error."""
    if folder is None:
        return {}
    root, found = existing(folder, "the folder of vertex lists"), {}
    for part in PARTS:
        file = root / part.file
        if not file.is_file():
            continue
        content: Any = load_pickle(file) if file.suffix == ".pkl" else np.load(file, allow_pickle=False)
        if part.key is not None:
            if not isinstance(content, Mapping) or part.key not in content:
                raise DataError(f"the file has no entry {part.key!r}", where=file)
            content = content[part.key]
        rows = np.asarray(content).reshape(-1)
        if not np.issubdtype(rows.dtype, np.integer) or not len(rows) or rows.min() < 0 or rows.max() >= SMPLX_VERTICES:
            raise DataError(f"these are no vertices of SMPL-X (0..{SMPLX_VERTICES - 1})", where=file)
        found[part.name] = rows
    if not found:
        raise DataError("no list of vertices in the folder", where=root, choices=sorted({part.file for part in PARTS}))
    return found


def part_errors_mm(
    predicted: NDArray, true: NDArray, meshes: tuple[NDArray, NDArray] | None, lists: Mapping[str, NDArray]
) -> dict[str, float]:
    """Errors of one person: `<part>_mpjpe_mm`, and `<part>_mve_mm` where there are meshes and the part's list.

    Args:
        predicted, true: (127,3) m; meshes: predicted and true (10475,3) m.
        lists: see vertex_lists.
    """
    errors: dict[str, float] = {}
    for part in PARTS:
        roots = [joints[list(part.root)].mean(0) for joints in (predicted, true)]
        off = (predicted[list(part.joints)] - roots[0]) - (true[list(part.joints)] - roots[1])
        errors[f"{part.name}_mpjpe_mm"] = float(np.linalg.norm(off, axis=1).mean() * 1000)
        if meshes is not None and part.name in lists:
            rows = lists[part.name]
            off = (meshes[0][rows] - roots[0]) - (meshes[1][rows] - roots[1])
            errors[f"{part.name}_mve_mm"] = float(np.linalg.norm(off, axis=1).mean() * 1000)
    return errors


def whole_body(rows: Sequence[Mapping[str, float]], missed_beside_others: int, f1: float) -> dict[str, float]:
    """Means over matched people, the whole body's, and these divided by F1.

    Args:
        rows: part_errors_mm of the matched people.
        missed_beside_others: valid people without prediction in pictures that have predictions: the official code
            counts their hands and face, not their body, as errors of zero, and so does this, since its numbers are
            what others publish.
        f1: rounded to two decimals.
    """
    names = sorted({name for row in rows for name in row})
    means: dict[str, float] = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        count = len(values) + (0 if name.startswith("body_") else missed_beside_others)
        means[name] = sum(values) / count
    for kind, short in (("mpjpe_mm", "nmje_mm"), ("mve_mm", "nmve_mm")):
        needed = [f"{part.name}_{kind}" for part in PARTS]
        if f1 > 0 and needed[0] in means:
            means[f"body_{short}"] = means[needed[0]] / f1
        if all(name in means for name in needed):
            means[f"fullbody_{kind}"] = means[needed[0]] + sum(means[name] for name in needed[1:]) / 3
            if f1 > 0:
                means[f"fullbody_{short}"] = means[f"fullbody_{kind}"] / f1
    return means
