"""Test images on which the source estimator failed, with what it said before and after: `evaluation/gallery.npz`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.arrays import read_npz
from posegen.files.versions import checked_format
from posegen.tracking.report.pictures import PREDICTION, TRUTH, Pixels, Skeleton, Tile, beside, contact_sheet, overlay

# An example counts as fixed when at least this share of its error is gone.
FIXED_SHARE = 0.2
FORMAT = 1


@dataclass(frozen=True)
class Gallery:
    """K test images; the joints are projected with the true camera, predictions put at the true root."""

    images: NDArray[np.uint8]  # (K,H,W,3)
    joints2d_truth: NDArray[np.floating]  # (K,24,2) px
    joints2d_before: NDArray[np.floating]  # (K,24,2) px
    joints2d_after: NDArray[np.floating]  # (K,24,2) px
    error_before_mm: NDArray[np.floating]  # (K,)
    error_after_mm: NDArray[np.floating]  # (K,)
    benchmark: NDArray[np.str_]  # (K,)
    ids: NDArray[np.str_]  # (K,)

    def __len__(self) -> int:
        return len(self.images)

    def __post_init__(self) -> None:
        sizes = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(sizes.values())) != 1:
            raise DataError(f"the gallery's arrays differ in length: {sizes}")

    def save(self, path: Path) -> None:
        """Writes the arrays; a file cut short by a kill never takes the place of a whole one."""
        part = path.with_name(f".{path.name}.part.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: Any = {field.name: _stored(getattr(self, field.name)) for field in fields(self)}
        np.savez_compressed(part, format=np.array(FORMAT), **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Gallery:
        """Reads the arrays. Raises DataError for a damaged file or a missing array."""
        names = [field.name for field in fields(cls)]
        again = "posegen evaluate"
        # A joint that an estimator lacks is NaN, and so is an error that could not be measured.
        unmeasured = [name for name in names if name.startswith(("joints2d_before", "joints2d_after", "error_"))]
        arrays = read_npz(
            path, names, ("format",), text=("benchmark", "ids"), unbounded=unmeasured, what="the gallery",
            next_command=again,
        )  # fmt: skip
        checked_format(arrays.pop("format", None), FORMAT, "the gallery", path, again)
        count = len(np.atleast_1d(arrays["error_before_mm"]))
        shapes: dict[str, tuple[int, ...]] = {name: (count,) for name in names}
        shapes |= {name: (count, 24, 2) for name in names if name.startswith("joints2d")}
        shapes["images"] = (count, *arrays["images"].shape[1:3], 3)
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise DataError(f"the gallery is damaged: {name} has shape {arrays[name].shape}, expected {shape}",
                                where=path, next_command="posegen evaluate")  # fmt: skip
        if arrays["images"].dtype != np.uint8:
            raise DataError(f"the gallery is damaged: its images are {arrays['images'].dtype}", where=path)
        return cls(**{name: arrays[name] for name in names})

    @property
    def fixed(self) -> NDArray[np.bool_]:
        """(K,) whether at least FIXED_SHARE of the error is gone."""
        return self.error_after_mm <= (1.0 - FIXED_SHARE) * self.error_before_mm

    def most_fixed(self) -> list[int]:
        """The fixed examples, the largest gain first."""
        order = np.argsort(self.error_after_mm - self.error_before_mm, kind="stable")
        return [int(i) for i in order if self.fixed[i]]

    def not_fixed(self) -> list[int]:
        """The other examples, the largest remaining error first."""
        order = np.argsort(-self.error_after_mm, kind="stable")
        return [int(i) for i in order if not self.fixed[i]]

    def picture(self, index: int, which: str, scale: int = 3) -> Pixels:
        """Truth and the prediction `before` or `after`, drawn over image `index`."""
        said = {"before": self.joints2d_before, "after": self.joints2d_after}[which][index]
        return overlay(
            self.images[index], [Skeleton(self.joints2d_truth[index], TRUTH), Skeleton(said, PREDICTION)], scale
        )

    def sheet(self, indices: Sequence[int], title: str, columns: int = 3) -> Pixels:
        """Before and after of several examples as one picture."""
        tiles = []
        for index in indices:
            pair = beside([self.picture(index, "before"), self.picture(index, "after")])
            change = f"{self.error_before_mm[index]:.0f} mm → {self.error_after_mm[index]:.0f} mm"
            tiles.append(Tile(pair, f"{self.benchmark[index]}   before {change} after"))
        return contact_sheet(tiles, columns=columns, title=title)


def _stored(value: NDArray) -> NDArray:
    array = np.asarray(value)
    return array.astype(np.str_) if array.dtype == object else array
