"""Builds a body in SMPL's format (24 joints, 10 shape coefficients) from MakeHuman's CC0 data.

MakeHuman's mesh stands in an A-pose with bent elbows. Linear blend skinning is inverted to bring every sampled person
into SMPL's T-pose (posing back gives the artist's mesh exactly), a principal component analysis of the people gives
`shapedirs`, and joints are regressed from the skin, as SMPL does. All is left-right symmetric. There are no
pose-dependent blend shapes: `posedirs` is zero.

The first component is stature and holds over nine tenths of the variance: `posegen.body.model.sample_betas` clamps it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.assets.making.makehuman import MakeHuman, Phenotype
from posegen.assets.making.surface import decimate, interpolate
from posegen.body.joint_sets import SMPL24, SMPL_PARENTS

Array = NDArray[np.float64]
PEOPLE = 200  # sampled for the principal components
BETAS = 10
LOW_FACES = 6000
SIGN = np.array([-1.0, 1.0, 1.0])  # mirror image in the plane x = 0
_MIRROR_JOINTS = list(SMPL24.mirror)

# Directions of bones in SMPL's zero pose (from the parent to the child). The feet keep their pitch and look ahead;
# what is not listed keeps MakeHuman's direction.
_LEG_RAD = np.deg2rad(5.0)


def _zero_pose_directions() -> dict[str, tuple[str, Array | None]]:
    directions: dict[str, tuple[str, Array | None]] = {}
    for side, sign in (("left_", 1.0), ("right_", -1.0)):
        along = np.array([sign, 0.0, 0.0])
        for part, child in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand")):
            directions[side + part] = (side + child, along)
        directions[side + "hip"] = (side + "knee", np.array([sign * np.sin(_LEG_RAD), -np.cos(_LEG_RAD), 0.0]))
        directions[side + "knee"] = (side + "ankle", np.array([0.0, -1.0, -0.08]))
        directions[side + "ankle"] = (side + "foot", None)
    return directions


_DIRECTIONS = _zero_pose_directions()


@dataclass(frozen=True)
class FreeBody:
    """The body on MakeHuman's whole base mesh (V vertices), so that clothes can be bound to it as well.

    Args:
        template: (V,3) m, the average person in T-pose, pelvis at the origin.
        shapedirs: (V,3,10) m for one standard deviation.
        weights: (V,24).
        skin: (S,) indices of the vertices of the body proper (skin and eyes).
        faces: (F,3) indices into `skin`.
        regressor: (24,S).
        mirror: (V,) left-right counterpart of each vertex.
    """

    template: Array
    shapedirs: Array
    weights: Array
    skin: NDArray[np.int64]
    faces: NDArray[np.int64]
    regressor: Array
    mirror: NDArray[np.int64]


def sample_people(count: int, generator: np.random.Generator) -> list[Phenotype]:
    """Adults of all builds, 1.74 +- 0.10 m tall; genders lean to both ends."""

    def around(middle: float, spread: float) -> float:
        return float(np.clip(generator.normal(middle, spread), 0, 1))

    people = []
    for _ in range(count):
        origins = generator.dirichlet([0.7] * 3)
        people.append(
            Phenotype(
                gender=float(np.clip(generator.beta(0.35, 0.35), 0, 1)),
                age=float(generator.uniform(0.5, 0.95)),
                muscle=around(0.5, 0.22),
                weight=around(0.5, 0.22),
                height=around(0.415, 0.085),
                proportions=around(0.5, 0.22),
                origins=(float(origins[0]), float(origins[1]), float(origins[2])),
            )
        )
    return people


def smallest_rotation(a: Array, b: Array) -> Array:
    """The rotation (3,3) by the smallest angle that takes direction a to direction b (not opposite ones)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    x, y, z = np.cross(a, b)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + k + k @ k / (1 + a @ b)


def _straight_foot(bone: Array, sign: float) -> Array:
    """The foot's direction turned to point nearly ahead (12 % outwards), its pitch kept."""
    heading = np.array([0.12 * sign, 1.0])
    heading *= np.hypot(bone[0], bone[2]) / np.linalg.norm(heading)
    return np.array([heading[0], bone[1], heading[1]])


def to_zero_pose(vertices: Array, weights: Array, joints: Array) -> tuple[Array, Array]:
    """A-pose to SMPL's zero pose by inverting linear blend skinning.

    Args:
        vertices: (V,3) m; weights (V,24); joints (24,3) m, in the A-pose.

    Returns:
        vertices (V,3) and joints (24,3) in the zero pose, the pelvis at the origin.
    """
    rotations = np.tile(np.eye(3), (24, 1, 1))  # takes a zero-pose bone to the A-pose bone
    rest = joints.copy()
    skinning = np.tile(np.eye(4), (24, 1, 1))
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            rest[j] = rest[parent] + rotations[parent].T @ (joints[j] - joints[parent])
            rotations[j] = rotations[parent]
        if (name := SMPL24.joints[j]) in _DIRECTIONS:
            child, direction = _DIRECTIONS[name]
            bone = joints[SMPL24.index(child)] - joints[j]
            if direction is None:
                direction = _straight_foot(bone, 1.0 if name.startswith("left_") else -1.0)
            rotations[j] = rotations[j] @ smallest_rotation(direction, rotations[j].T @ bone)
        skinning[j, :3, :3] = rotations[j]
        skinning[j, :3, 3] = joints[j] - rotations[j] @ rest[j]
    blended = np.tensordot(weights, skinning[:, :3], 1)
    zero = np.linalg.solve(blended[..., :3], (vertices - blended[..., 3])[..., None])[..., 0]
    return zero - rest[0], rest - rest[0]


def fit_regressor(vertices: Array, joints: Array, candidates: list[NDArray[np.int64]]) -> Array:
    """Non-negative weights that sum to one and give each joint from nearby vertices, best over all people.

    Args:
        vertices: (N,V,3); joints: (N,J,3); candidates: for each joint the vertices that may be used.
    """
    from scipy.optimize import nnls

    regressor = np.zeros((joints.shape[1], vertices.shape[1]))
    for j, ring in enumerate(candidates):
        system = vertices[:, ring].transpose(0, 2, 1).reshape(-1, len(ring))
        ones = 50 * np.ones((1, len(ring)))  # a heavy row: the weights sum to one
        weights, _ = nnls(np.vstack([system, ones]), np.append(joints[:, j].reshape(-1), 50.0), maxiter=5000)
        regressor[j, ring] = weights / weights.sum()
    return regressor


def _symmetric_regressor(regressor: Array, mirror: NDArray[np.int64]) -> Array:
    return 0.5 * (regressor + regressor[_MIRROR_JOINTS][:, mirror])


def _symmetric_vertices(vertices: Array, mirror: NDArray[np.int64]) -> Array:
    """The mean of (..., V, 3) and its mirror image."""
    return 0.5 * (vertices + vertices[..., mirror, :] * SIGN)


def _nearest(vertices: Array, joints: Array, count: int, step: int = 1) -> list[NDArray[np.int64]]:
    return [np.argsort(np.linalg.norm(vertices - joint, axis=1))[:count:step] for joint in joints]


def fit_free_body(human: MakeHuman, seed: int = 0, progress: Callable[[str], None] | None = None) -> FreeBody:
    """The body from 200 sampled people: zero-pose meshes, principal components, joint regressor."""
    say = progress or (lambda line: None)
    skin_faces = np.concatenate([human.triangles(g) for g in ("body", "helper-l-eye", "helper-r-eye")])
    skin = np.unique(skin_faces)
    position = np.full(len(human.vertices), -1)
    position[skin] = np.arange(len(skin))
    skin_mirror = position[human.mirror[skin]]
    weights = 0.5 * (human.weights + human.weights[human.mirror][:, _MIRROR_JOINTS])
    weights[weights.sum(1) == 0, 0] = 1.0
    weights /= weights.sum(1, keepdims=True)

    # MakeHuman's joint markers drift away from the skin at extreme statures: near-average people teach a regressor
    # from the skin, and that gives the joints of everybody.
    average = [
        Phenotype(p.gender, p.age, p.muscle, p.weight, 0.5 + 0.1 * (p.height - 0.5), p.proportions, p.origins)
        for p in sample_people(40, np.random.default_rng(seed + 1))
    ]
    shaped = [human.shaped_m(person) for person in average]
    skins, joints = np.stack([v[skin] for v in shaped]), np.stack([human.rig_joints(v) for v in shaped])
    regressor = fit_regressor(skins, joints, _nearest(skins.mean(0), joints.mean(0), 600, 4))
    regressor = _symmetric_regressor(regressor, skin_mirror)
    say("sampling people and bringing them into the zero pose")

    people = np.zeros((PEOPLE, len(human.vertices), 3), np.float32)
    rest = np.zeros((PEOPLE, 24, 3))
    for n, person in enumerate(sample_people(PEOPLE, np.random.default_rng(seed))):
        vertices = _symmetric_vertices(human.shaped_m(person), human.mirror)
        people[n], rest[n] = to_zero_pose(vertices, weights, regressor @ vertices[skin])
    template = people.mean(0, dtype=np.float64)
    shapedirs = _principal_components(people, template, skin)
    template = _symmetric_vertices(template, human.mirror)
    shapedirs = _symmetric_vertices(shapedirs.transpose(2, 0, 1), human.mirror).transpose(1, 2, 0)

    say("fitting the joint regressor")
    some = slice(None, None, PEOPLE // 80)
    seen = people[some, skin].astype(np.float64)
    final = fit_regressor(seen, rest[some], _nearest(template[skin], rest.mean(0), 600, 4))
    final = _symmetric_regressor(final, skin_mirror)
    return FreeBody(template, shapedirs, weights, skin, position[skin_faces], final, human.mirror)


def _principal_components(people: NDArray[np.float32], mean: Array, skin: NDArray[np.int64]) -> Array:
    """Components (V,3,10) scaled to one standard deviation, found on the skin and carried to all vertices.

    Signs are chosen so that the first makes people taller and the others lengthen the arms.
    """
    centred = (people - mean.astype(np.float32)).reshape(len(people), -1)
    on_skin = centred.reshape(len(people), -1, 3)[:, skin].reshape(len(people), -1)
    _, vectors = np.linalg.eigh((on_skin @ on_skin.T).astype(np.float64))
    scores = vectors[:, ::-1][:, :BETAS]  # (N,10), largest first
    components = (scores.T @ centred / np.sqrt(len(people) - 1)).reshape(BETAS, -1, 3)
    top = skin[mean[skin, 1].argmax()]
    side = skin[mean[skin, 0].argmax()]
    effects = np.array([component[top, 1] if k == 0 else component[side, 0] for k, component in enumerate(components)])
    components *= np.where(effects < 0, -1.0, 1.0)[:, None, None]
    return components.transpose(1, 2, 0).astype(np.float64)


def low_regressor(full_joints: Array, full_directions: Array, template: Array, shapedirs: Array) -> Array:
    """A regressor (24,N) for a decimated mesh that gives the joints of the full one exactly, whatever the betas.

    The joints are linear in (1, betas), so each joint sets 33 equations (and the weights' sum one more) on about 120
    nearby vertices: the solution nearest to uniform weights is taken.

    Args:
        full_joints: (24,3) at zero betas; full_directions: (24,3,10); template (N,3) and shapedirs (N,3,10) of the
            decimated mesh. Metres.
    """
    regressor = np.zeros((24, len(template)))
    for j, ring in enumerate(_nearest(template, full_joints, 120)):
        basis = np.concatenate([template[ring, :, None], shapedirs[ring]], 2).reshape(len(ring), -1).T
        wanted = np.concatenate([full_joints[j, :, None], full_directions[j]], 1).reshape(-1)
        system = np.vstack([basis, np.ones(len(ring))])
        start = np.full(len(ring), 1 / len(ring))
        rest = np.append(wanted, 1.0) - system @ start
        regressor[j, ring] = start + np.linalg.lstsq(system, rest, rcond=1e-9)[0]
    return regressor


def smpl_arrays(
    template: Array, shapedirs: Array, weights: Array, regressor: Array, faces: NDArray[np.int64]
) -> dict[str, Any]:
    """The arrays of an SMPL .npz file; smplx.SMPL takes them through `data_struct`."""
    parents = np.array(SMPL_PARENTS, np.int64)
    parents[0] = 2**32 - 1
    return {
        "v_template": template.astype(np.float32),
        "shapedirs": shapedirs.astype(np.float32),
        "posedirs": np.zeros((len(template), 3, 207), np.float32),
        "weights": weights.astype(np.float32),
        "J_regressor": regressor.astype(np.float64),
        "f": faces.astype(np.uint32),
        "kintree_table": np.stack([parents, np.arange(24)]),
    }


def write_bodies(body: FreeBody, out: Path, progress: Callable[[str], None] | None = None) -> None:
    """Writes body_full.npz and body_low.npz into a folder."""
    say = progress or (lambda line: None)
    template, shapedirs, weights = (a[body.skin] for a in (body.template, body.shapedirs, body.weights))
    np.savez_compressed(out / "body_full.npz", **smpl_arrays(template, shapedirs, weights, body.regressor, body.faces))
    say("decimating")
    corners, barycentric, faces = decimate(template, body.faces, LOW_FACES)
    low = [interpolate(a, corners, barycentric) for a in (template, shapedirs, weights)]
    joints = body.regressor @ template
    directions = np.einsum("jv,vck->jck", body.regressor, shapedirs)
    regressor = low_regressor(joints, directions, low[0], low[1])
    np.savez_compressed(out / "body_low.npz", **smpl_arrays(low[0], low[1], low[2], regressor, faces))
