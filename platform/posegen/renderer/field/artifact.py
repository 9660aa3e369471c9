"""Fitted fields on disk: one npz of quantised volumes and the rigs they ride on.

Format (versions 1 and 2), all arrays little-endian, nothing pickled:
    format_version  ()          int
    subjects        (S,)        unicode names
    skeleton        ()          unicode, `skeleton_hash` of the rest joints
    resolution      ()          int N
    rig_<field>     (S,...)     float32 / int64, the fields of `volumes.VolumeRig` (joint, fraction: shared); version 1
                                lacks bend_joint and bend: its volumes do not bend with the pose
    table           (8,S*K*N^3) uint8 codes, one row per channel, so that each compresses well
    table_low/high  (8,)        float32, values of code 0 and of code 255
Voxels that touch no occupied cell hold the codes of empty space.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.errors import CheckpointError, ConfigError, did_you_mean
from posegen.files.arrays import read_all_npz
from posegen.files.listing import files_matching
from posegen.files.values import text, texts, whole_number
from posegen.files.versions import checked_format
from posegen.renderer.field.appearance import CHANNELS, EMPTY
from posegen.renderer.field.codes import LEVELS, TableCodes, encode
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.field import SHARED_RIG_FIELDS, ArticulatedField
from posegen.renderer.field.volumes import VolumeRig

logger = logging.getLogger(__name__)

RIGID_VERSION, BENDING_VERSION = 1, 2
BENDING_FIELDS = ("bend_joint", "bend")
MAX_NORMAL = 1.9  # longest raw normal that the codes hold
SHIPPED = Path(__file__).with_name("weights")


def skeleton_hash(joints_template: Tensor, joints_shapedirs: Tensor) -> str:
    """Names a skeleton by its rest joints, to a tenth of a millimetre."""
    rounded = torch.cat([joints_template.reshape(-1), joints_shapedirs.reshape(-1)]).double().mul(1e4).round()
    return hashlib.sha256(rounded.to(torch.int64).cpu().numpy().astype("<i8").tobytes()).hexdigest()[:16]


def _rig_fields(version: int) -> list[str]:
    return [f.name for f in fields(VolumeRig) if version == BENDING_VERSION or f.name not in BENDING_FIELDS]


@torch.no_grad()
def _codes(field: ArticulatedField) -> TableCodes:
    """The field's codes; voxels that no ray samples get those of empty space, which compress to nothing."""
    if field.codes is not None:
        return field.codes
    n = field.resolution
    cells = field.cell.view(-1, 1, n, n, n)[..., : n - 1, : n - 1, : n - 1].float()
    touched = F.max_pool3d(F.pad(cells, (1,) * 6), 2, 1).view(-1) > 0  # voxels with an occupied cell
    table = field.table.detach().clone()
    table[~touched] = 0
    table[~touched, 0] = EMPTY
    size = table[:, 4:7].norm(dim=1, keepdim=True).clamp_min(1e-6)
    table[:, 4:7] *= (MAX_NORMAL / size).clamp_max(1)  # only the direction matters, and must not be cut askew
    return encode(table.cpu())


def save_field(field: ArticulatedField, path: str | Path) -> Path:
    """Writes all subjects of a field. The file is complete or not there at all."""
    path = Path(path)
    codes = _codes(field)
    version = BENDING_VERSION if field.bends else RIGID_VERSION
    arrays = {f"rig_{n}": getattr(field, f"rig_{n}").detach().cpu().numpy() for n in _rig_fields(version)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part.npz")
    np.savez_compressed(
        part,
        format_version=np.int64(version),
        subjects=np.array(field.subjects),
        skeleton=np.array(skeleton_hash(field.rig_joints_template, field.rig_joints_shapedirs)),
        resolution=np.int64(field.resolution),
        table=codes.codes.T.contiguous().numpy(),
        table_low=codes.low.numpy(),
        table_high=(codes.low + codes.scale * LEVELS).numpy(),
        **arrays,
    )
    part.replace(path)
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise CheckpointError("there is no such fitted field", where=path, next_command="posegen fit-subject")
    arrays = read_all_npz(
        path, text=("subjects", "skeleton"), what="the fitted field", error=CheckpointError,
        next_command="posegen fit-subject",
    )  # fmt: skip
    version = checked_format(
        arrays.get("format_version"), BENDING_VERSION, "the fitted field", path, "posegen fit-subject", CheckpointError
    )
    expected = ["subjects", "skeleton", "resolution", "table", "table_low", "table_high"]
    expected += [f"rig_{name}" for name in _rig_fields(version)]
    missing = [name for name in expected if name not in arrays]
    if missing:
        raise CheckpointError(f"the file lacks {', '.join(missing)}: it is no fitted field", where=path)
    subjects, joints = _check_rigs(arrays, path)
    found = skeleton_hash(
        torch.from_numpy(arrays["rig_joints_template"]), torch.from_numpy(arrays["rig_joints_shapedirs"])
    )
    if found != text(arrays["skeleton"], "skeleton", path, CheckpointError):
        raise CheckpointError(
            f"the rest joints hash to {found}, the file says {arrays['skeleton']}: it was altered", where=path
        )
    if version == BENDING_VERSION:
        _check_bending(arrays, path)
    else:
        arrays["rig_bend_joint"] = np.zeros((subjects, joints, 0), np.int64)
        arrays["rig_bend"] = np.zeros((subjects, joints, 0, 4, 4), np.float32)
    return arrays


def _check_rigs(arrays: dict[str, np.ndarray], path: Path) -> tuple[int, int]:
    """The numbers of subjects and of volumes a subject; CheckpointError unless all arrays but the bends fit them."""
    subjects = len(texts(arrays["subjects"], "subjects", path, CheckpointError))
    joints = arrays["rig_joint"].size
    n = whole_number(arrays["resolution"], "resolution", path, CheckpointError, low=2, high=1024)
    if not subjects or not joints:
        raise CheckpointError("the file holds no subject or no volume", where=path)
    shapes: dict[str, tuple[int, ...]] = {
        "table": (CHANNELS, subjects * joints * n**3), "table_low": (CHANNELS,), "table_high": (CHANNELS,),
        "rig_joint": (joints,), "rig_fraction": (joints,), "rig_low": (subjects, joints, 3),
        "rig_high": (subjects, joints, 3), "rig_stretch": (subjects, joints, 3, 3, 10),
        "rig_shift": (subjects, joints, 3, 10), "rig_joints_template": (subjects, 24, 3),
        "rig_joints_shapedirs": (subjects, 24, 3, 10),
    }  # fmt: skip
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"the {name} has shape {arrays[name].shape}, expected {shape}", where=path)
        kind = {"table": "uint8", "rig_joint": "int64"}.get(name, "float32")
        if arrays[name].dtype != np.dtype(kind):
            raise CheckpointError(f"the {name} is of {arrays[name].dtype}, expected {kind}", where=path)
    if not 0 <= arrays["rig_joint"].min() <= arrays["rig_joint"].max() < 24:
        raise CheckpointError("the joints that volumes ride on are not numbers from 0 to 23", where=path)
    return subjects, joints


def _check_bending(arrays: dict[str, np.ndarray], path: Path) -> None:
    joint, bend = arrays["rig_bend_joint"], arrays["rig_bend"]
    expected = (len(arrays["subjects"]), len(arrays["rig_joint"]), joint.shape[-1] if joint.ndim else 0)
    if joint.shape != expected or bend.shape != (*expected, 4, 4):
        raise CheckpointError(
            f"what bends the volumes has shapes {joint.shape} and {bend.shape}, expected (S,K,P) and (S,K,P,4,4) with "
            f"S, K = {expected[:2]}", where=path,
        )  # fmt: skip
    if (
        bend.dtype != np.float32
        or joint.dtype != np.int64
        or joint.size == 0
        or not 0 <= joint.min() <= joint.max() < 24
    ):
        raise CheckpointError("the joints that bend the volumes are not numbers from 0 to 23", where=path)


def load_field_file(path: str | Path, config: FieldConfig | None = None) -> ArticulatedField:
    """Reads one file with all its subjects. Raises CheckpointError for anything but an intact fitted field."""
    path = Path(path)
    arrays = _read(path)
    stacked = {f.name: torch.from_numpy(arrays[f"rig_{f.name}"]) for f in fields(VolumeRig)}
    names = texts(arrays["subjects"], "subjects", path, CheckpointError)
    rigs = [
        VolumeRig(**{name: x if name in SHARED_RIG_FIELDS else x[i] for name, x in stacked.items()})
        for i in range(len(names))
    ]
    field = ArticulatedField(rigs, names, whole_number(arrays["resolution"], "resolution", path), config)
    low, high = torch.from_numpy(arrays["table_low"]), torch.from_numpy(arrays["table_high"])
    field.set_codes(TableCodes(torch.from_numpy(arrays["table"]).T.contiguous(), low, (high - low) / LEVELS))
    return field.requires_grad_(False)


def join_fields(parts: Sequence[ArticulatedField], subjects: Sequence[str] = ()) -> ArticulatedField:
    """One field with the subjects of several, all of the same skeleton; `subjects` picks and orders them."""
    where = {name: (part, i) for part in parts for i, name in enumerate(part.subjects)}
    wanted = list(subjects) or list(where)
    for name in wanted:
        if name not in where:
            hint = did_you_mean(name, where)
            raise ConfigError(f"no fitted subject {name!r}{hint}", where="renderer.subjects", choices=where)
    rigs = [where[name][0].rig(where[name][1]) for name in wanted]
    resolutions = {part.resolution for part in parts}
    if len(resolutions) > 1:
        raise CheckpointError(f"the fields differ in resolution: {sorted(resolutions)}", choices=sorted(resolutions))
    for name, rig in zip(wanted, rigs, strict=True):
        gap = float((rig.joints_template - rigs[0].joints_template).norm(dim=-1).max())
        if gap > 1e-3:
            raise CheckpointError(
                f"subject {name} rides on another skeleton than {wanted[0]}: joints differ by {1000 * gap:.0f} mm",
                where="renderer.checkpoint",
            )
    joined = ArticulatedField(rigs, wanted, parts[0].resolution, parts[0].config)
    rows = joined.volumes * joined.resolution**3
    picked = [(where[name][0], slice(where[name][1] * rows, (where[name][1] + 1) * rows)) for name in wanted]
    with torch.no_grad():
        joined.table.copy_(torch.cat([part.table[row] for part, row in picked]))
    known = [part.codes for part, _ in picked if part.codes is not None]
    first = known[0] if known else None
    if (
        first is not None
        and len(known) == len(picked)
        and all(torch.equal(codes.low, first.low) and torch.equal(codes.scale, first.scale) for codes in known)
    ):
        rows_of = [codes.codes[row] for codes, (_, row) in zip(known, picked, strict=True)]
        joined.set_codes(TableCodes(torch.cat(rows_of), first.low, first.scale))
    joined.update_occupancy()
    return joined.requires_grad_(False)


def load_field(path: str | None = None, config: FieldConfig | None = None) -> ArticulatedField:
    """A frozen field, ready to render.

    Args:
        path: an npz, several with commas between, or a directory of them; None takes `config.checkpoint`, and
            without one the subjects that the package ships.
        config: see `FieldConfig`; its `subjects` pick and order the subjects.

    Example:
        >>> import torch
        >>> from posegen import Light, Scene, load_renderer, look_at_camera
        >>> renderer = load_renderer()
        >>> renderer.subjects[:2]
        ('amber', 'birch')
        >>> pose = torch.zeros(1, 24, 3, requires_grad=True)
        >>> camera = look_at_camera(torch.tensor([0.5]), elevation_rad=0.1, distance_m=3.0, size_px=64)
        >>> scene = Scene(pose, torch.zeros(1, 10), torch.zeros(1, 3), camera, torch.tensor([0]), Light.default(1),
        ...               torch.tensor([-1]))
        >>> rgb, alpha = renderer(scene)
        >>> picture = rgb + 1 - alpha  # on white
        >>> picture.shape, bool(alpha.max() > 0.9)
        (torch.Size([1, 3, 64, 64]), True)
        >>> picture.mean().backward()  # how the picture changes with each joint's rotation
        >>> bool(pose.grad.abs().sum() > 0)
        True
    """
    config = config or FieldConfig()
    path = path or config.checkpoint
    if path is None:
        files = sorted(SHIPPED.glob("*.npz"))
    elif Path(path).is_dir():
        files = files_matching(Path(path), "*.npz")
    else:
        files = [Path(part.strip()) for part in str(path).split(",")]
    if not files:
        raise CheckpointError("no fitted field here", where=path or SHIPPED, next_command="posegen fit-subject")
    parts = [load_field_file(file, config) for file in files]
    if len(parts) == 1 and config.subjects in ((), parts[0].subjects):
        return parts[0]
    return join_fields(parts, config.subjects)


def check_skeleton(field: ArticulatedField, joints_template: Tensor, tolerance_m: float = 2e-3) -> None:
    """Raises CheckpointError if a field rides on another skeleton than a body (rest joints (24,3) m at betas = 0)."""
    own = field.rig_joints_template[0].cpu()
    other = joints_template.detach().cpu().float()
    gap = float(((own - own[:1]) - (other - other[:1])).norm(dim=-1).max())
    if gap > tolerance_m:
        raise CheckpointError(
            f"the field was fitted on another skeleton than the body's: joints differ by {1000 * gap:.0f} mm",
            where="renderer.checkpoint",
            next_command="posegen fit-subject",
        )


def with_config(field: ArticulatedField, **changes: object) -> ArticulatedField:
    """Changes the field's config in place (a coarser step, another backend) and finds its occupancy anew."""
    field.config = replace(field.config, **changes)  # type: ignore[arg-type]
    field.update_occupancy()
    return field
