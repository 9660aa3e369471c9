"""Looks for assets, bodies, checkpoints and data sets, and into them as far as is quick."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from posegen.doctor import hashes
from posegen.doctor.catalogue import BODIES, CATALOGUE, WEIGHTS, Wanted, configured, data_folder
from posegen.doctor.finding import ERROR, INFO, OK, WARNING, Finding
from posegen.errors import PosegenError
from posegen.files.listing import visible

ASSETS = "assets (free, made by posegen)"
CONFIGURED = "configured places"
PATH_KEYS = (
    "body.path", "estimator.body", "mocap.path", "background.photos", "renderer.checkpoint", "estimator.checkpoint",
    "estimator.mean_params", "benchmark.annotations", "benchmark.images",
)  # fmt: skip


def assets() -> Iterator[Finding]:
    """Each embedded asset against the hash that was recorded when it was made."""
    from posegen.assets import ASSETS as KNOWN
    from posegen.assets import asset_path, state_of

    for name, asset in KNOWN.items():
        state = state_of(name)
        if state == "ready":
            size = asset_path(name).stat().st_size / 1e6
            yield Finding(ASSETS, name, OK, f"{asset.description}, {size:.1f} MB, hash as recorded")
        elif state == "damaged":
            yield Finding(ASSETS, name, ERROR, "is damaged: its hash is another", "posegen assets --repair")
        else:
            yield Finding(ASSETS, name, WARNING, f"is {state}; the next run makes it", "posegen assets")


def configured_paths(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Every path that the configuration names must be there."""
    for key in PATH_KEYS:
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is None:
            continue
        there = Path(str(node)).expanduser().exists()
        hint = "" if there else f"correct {key}"
        yield Finding(CONFIGURED, key, OK if there else ERROR, str(node) + ("" if there else " is not there"), hint)


def wanted_files(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Each file that a user may bring: configured ones must be there, others are told about."""
    for wanted in CATALOGUE:
        given = configured(wanted, config)
        if given is not None:
            yield _configured(wanted, *given)
            continue
        folder = data_folder() / wanted.folder
        found = _first(folder, wanted.patterns)
        if found is None:
            hint = f"from {wanted.page}\nput it into {folder}, or say {wanted.keys[0]}=PATH"
            yield Finding(wanted.section, wanted.name, INFO, "not found", hint)
        else:
            place = found if wanted.section == WEIGHTS else folder
            yield _looked_into(wanted, found, wanted.command.format(place=place))


def _first(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """The first match; folders of data sets are never walked whole."""
    for pattern in patterns:
        found = next(visible(folder.glob(pattern), folder), None) if folder.is_dir() else None
        if found is not None:
            return found
    return None


def _configured(wanted: Wanted, key: str, place: Path) -> Finding:
    if not place.exists():
        return Finding(wanted.section, wanted.name, ERROR, f"{key}={place} is not there", f"from {wanted.page}")
    if place.is_file():
        mine = wanted.section != BODIES or any(place.match(pattern) for pattern in wanted.patterns)
        if not mine:
            return Finding(wanted.section, wanted.name, INFO, f"not in {place.parent.name}/{place.name}")
        return _looked_into(wanted, place, f"{key}={place}")
    found = _first(place, wanted.patterns) or _first(place.parent, wanted.patterns)
    if found is None:
        state = ERROR if wanted.section != BODIES or wanted.name == "SMPL neutral" else INFO
        more = " and others" if len(wanted.patterns) > 6 else ""
        hint = f"looked for {', '.join(wanted.patterns[:6])}{more}\nfrom {wanted.page}"
        return Finding(wanted.section, wanted.name, state, f"not in {place}", hint)
    return _looked_into(wanted, found, f"{key}={place}")


def _looked_into(wanted: Wanted, file: Path, command: str) -> Finding:
    """Opens the file where that is quick, so that a truncated download does not pass as found."""
    problem = None
    try:
        problem = _problem(wanted, file)
    except (PosegenError, OSError) as error:
        problem = str(getattr(error, "what", error))
    if problem is not None:
        return Finding(wanted.section, wanted.name, ERROR, f"{file}: {problem}", f"get it again from {wanted.page}")
    size = f"{file.stat().st_size / 1e6:.1f} MB"
    if wanted.section != WEIGHTS:
        return Finding(wanted.section, wanted.name, OK, f"{file} ({size})", command)
    state, said = hashes.verdict(file)
    if state == hashes.MISMATCH:
        # A hash in the name is the file's own; a known name may be of another release, or a fine-tuned model's.
        level = WARNING if file.name in hashes.PUBLISHED else ERROR
        return Finding(wanted.section, wanted.name, level, f"{file}: {said}", f"get it again from {wanted.page}")
    return Finding(wanted.section, wanted.name, OK, f"{file} ({size}; {said})", command)


def _problem(wanted: Wanted, file: Path) -> str | None:
    if file.stat().st_size == 0:
        return "is empty"
    if wanted.name.startswith("SMPL "):
        from posegen.body.smpl_files import read_arrays

        read_arrays(file)
        return None
    if file.suffix == ".npz" and not zipfile.is_zipfile(file):
        return "is no npz file (cut short?)"
    if file.suffix in (".pt", ".pth"):
        return _checkpoint_problem(file)
    if file.suffix in (".h5", ".mat"):
        import h5py

        return None if h5py.is_hdf5(file) else "is no HDF5 file (cut short?)"
    return None


def _checkpoint_problem(file: Path) -> str | None:
    """Whether it is torch's container, whole."""
    with file.open("rb") as handle:
        head = handle.read(2)
    if head != b"PK" and head[:1] != b"\x80":  # torch's zip format, or its older pickle
        return "is no PyTorch checkpoint"
    return "is cut short" if head == b"PK" and not zipfile.is_zipfile(file) else None
