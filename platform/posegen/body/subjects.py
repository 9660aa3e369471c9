"""The embedded dressed subjects: built once from the base mesh's helper geometry, loaded from the asset cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.assets.making.free_body import FreeBody
from posegen.assets.making.garments import Landmarks, bare, sew
from posegen.assets.making.hair import grow
from posegen.assets.making.makehuman import MakeHuman
from posegen.assets.making.surface import Surface
from posegen.assets.making.textures import painted_face, skin_albedo
from posegen.assets.making.wardrobe import (
    SOURCE_LOOKS,
    TARGET_LOOKS,
    TEST_LOOKS,
    TRAIN_LOOKS,
    VALIDATION_LOOKS,
    Look,
)
from posegen.body.dressed import DressedSubject
from posegen.errors import AssetError, ConfigError
from posegen.files.arrays import read_npz

SOURCE_SUBJECTS: tuple[str, ...] = tuple(look.name for look in SOURCE_LOOKS)
TRAIN_SUBJECTS: tuple[str, ...] = tuple(look.name for look in TRAIN_LOOKS)
VALIDATION_SUBJECTS: tuple[str, ...] = tuple(look.name for look in VALIDATION_LOOKS)
TEST_SUBJECTS: tuple[str, ...] = tuple(look.name for look in TEST_LOOKS)
TARGET_SUBJECTS: tuple[str, ...] = tuple(look.name for look in TARGET_LOOKS)
SKIN_FACES = 2800
GARMENT_FACES = 1600

ALL_SUBJECTS = TRAIN_SUBJECTS + VALIDATION_SUBJECTS + TEST_SUBJECTS + TARGET_SUBJECTS
GROUPS = {
    "source": SOURCE_SUBJECTS,
    "train": TRAIN_SUBJECTS,
    "validation": VALIDATION_SUBJECTS,
    "test": TEST_SUBJECTS,
    "target": TARGET_SUBJECTS,
}


def load_subjects(names: Sequence[str] | None = None) -> list[DressedSubject]:
    """Dressed subjects by name; None loads those for training, validation, test and target, in this order.

    Example:
        >>> from posegen import load_subjects
        >>> [subject.name for subject in load_subjects(["amber", "birch"])]
        ['amber', 'birch']
    """
    from posegen.assets import asset_path

    names = ALL_SUBJECTS if names is None else tuple(names)
    unknown = [name for name in names if name not in ALL_SUBJECTS]
    if unknown:
        raise ConfigError(f"unknown subject {unknown[0]!r}", choices=ALL_SUBJECTS)
    return read_subjects(asset_path("subjects"), names)


def read_subjects(path: Path, names: Sequence[str]) -> list[DressedSubject]:
    """Subjects out of a file that `build_subjects` wrote. AssetError for anything but an intact one."""
    keys = ("template", "shapedirs", "weights", "faces", "albedo")
    needed = ["rest_template", "rest_directions", *(f"{name}/{key}" for name in names for key in keys)]
    arrays = read_npz(
        path, needed, what="the asset of dressed subjects", error=AssetError, next_command="posegen assets --repair"
    )
    tensors = {
        key: torch.from_numpy(array.astype(np.int64 if key.endswith("faces") else np.float32))
        for key, array in arrays.items()
    }
    subjects = []
    for name in names:
        mesh = {key: tensors[f"{name}/{key}"] for key in keys}
        rest = {"rest_template": tensors["rest_template"], "rest_directions": tensors["rest_directions"]}
        _check_shapes(mesh, rest, name, path)
        subjects.append(DressedSubject(name=name, **rest, **mesh))
    return subjects


def _check_shapes(mesh: dict[str, torch.Tensor], rest: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """AssetError unless the arrays of one subject fit together."""
    vertices, faces = len(np.atleast_1d(mesh["template"])), mesh["faces"]
    shapes = {
        "template": (vertices, 3), "shapedirs": (vertices, 3, 10), "weights": (vertices, 24), "albedo": (vertices, 3),
        "rest_template": (24, 3), "rest_directions": (24, 3, 10),
    }  # fmt: skip
    for key, shape in shapes.items():
        found = tuple({**mesh, **rest}[key].shape)
        if found != shape:
            raise AssetError(f"{name}: {key} has shape {found}, expected {shape}", where=path)
    if faces.dim() != 2 or faces.shape[1] != 3 or not len(faces) or faces.min() < 0 or faces.max() >= vertices:
        raise AssetError(f"{name}: faces refer to vertices that do not exist", where=path)


def _surface(human: MakeHuman, body: FreeBody, group: str) -> Surface:
    points = body.template
    faces = human.triangles(group)
    return Surface(points, body.shapedirs, body.weights, faces, np.zeros_like(points)).compact()


def _skin(human: MakeHuman, body: FreeBody) -> Surface:
    return _surface(human, body, "body")


def _eyes(human: MakeHuman, body: FreeBody) -> tuple[Surface, NDArray[np.float64]]:
    """Both eyeballs, painted, and their centres (2,3)."""
    parts, centres = [], []
    for group in ("helper-l-eye", "helper-r-eye"):
        ball = _surface(human, body, group)
        centre = 0.5 * (ball.points.min(0) + ball.points.max(0))
        offset = ball.points - centre
        iris = np.hypot(offset[:, 0], offset[:, 1]) < 0.0075
        colours = np.where((iris & (offset[:, 2] > 0))[:, None], [0.08, 0.06, 0.05], [0.85, 0.84, 0.82])
        parts.append(ball.painted(colours).clipped(offset[:, 2]))
        centres.append(centre)
    return Surface.joined(parts), np.array(centres)


def dress(look: Look, human: MakeHuman, body: FreeBody, joints: NDArray[np.float64]) -> Surface:
    """The whole mesh of one subject."""
    generator = np.random.default_rng(look.seed)
    marks = Landmarks(joints)
    skin = _skin(human, body)
    eyes, centres = _eyes(human, body)
    tights, skirt = _surface(human, body, "helper-tights"), _surface(human, body, "helper-skirt")
    mouth = body.template[human.cubes["joint-mouth"]].mean(0)
    visible = bare(skin, list(look.garments), marks).decimated(SKIN_FACES)
    colours = skin_albedo(visible.points, look.skin, generator)
    visible = visible.painted(painted_face(visible.points, colours, centres, mouth, look.skin, look.hair.colour))
    sewn = [sew(garment, tights, skirt, marks, generator).decimated(GARMENT_FACES) for garment in look.garments]
    parts = [visible, eyes, *sewn]
    return Surface.joined(parts + grow(look.hair, skin, centres, generator))


def build_subjects(human: MakeHuman, body: FreeBody, out: Path) -> None:
    """Writes all subjects into one npz."""
    skin = body.skin
    joints = body.regressor @ body.template[skin]
    directions = np.einsum("jv,vck->jck", body.regressor, body.shapedirs[skin])
    arrays: dict[str, NDArray] = {
        "rest_template": joints.astype(np.float32),
        "rest_directions": directions.astype(np.float32),
    }
    for look in TRAIN_LOOKS + VALIDATION_LOOKS + TEST_LOOKS + TARGET_LOOKS:
        mesh = dress(look, human, body, joints)
        arrays |= {
            f"{look.name}/template": mesh.points.astype(np.float32),
            f"{look.name}/shapedirs": mesh.shapedirs.astype(np.float32),
            f"{look.name}/weights": mesh.weights.astype(np.float32),
            f"{look.name}/faces": mesh.faces.astype(np.int32),
            f"{look.name}/albedo": mesh.albedo.astype(np.float32),
        }
    np.savez(out, **arrays)  # type: ignore[arg-type]
