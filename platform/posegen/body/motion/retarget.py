"""A motion of any skeleton as SMPL poses.

Each joint's rotation in the world is the source's, times a constant that brings SMPL's rest pose into the source's:
G_smpl(t) = G_source(t) A. A begins with the axes of the two rest poses and goes out along each limb, bone by bone, by
the smallest turn that makes the directions agree; long bones then point where the source's do, at any proportions.

What directions leave open, the turn about a bone, is settled by how the limb bends: elbows and knees are hinges, and
the axis about which the source's bend on average is brought onto SMPL's (at rest a source's arm may be turned any way
about itself). Forearms share the turn of the hand between elbow and wrist.

T frames. Rotations are matrices (T,3,3) unless said otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.body.motion.clip import Clip, resampled
from posegen.body.motion.names import JointMap, map_joints
from posegen.body.motion.source import Array, SourceMotion
from posegen.errors import DataError

LEFT_UP_AHEAD = np.eye(3)  # the axes of SMPL's rest pose: x to the left, y up, z ahead
SNAP_COSINE = 0.9  # a rest pose's axes that are nearer than 26 degrees to the world's are meant to be these
BENT_RAD = np.radians(20.0)  # a limb that bends less does not show its hinge
LIMBS = (("hip", "knee", "ankle", "foot"), ("shoulder", "elbow", "wrist", "hand"))
SHORTEST = 1e-9  # of a bone that has a direction, in the file's unit
CLEAR_SHARE = 0.6  # of the bends must agree on where the hinge is, else the source's own turn is kept
# How SMPL's hinges bend, in the frame of the upper bone: knees bring the shin back, elbows the forearm ahead.
HINGES: dict[str, tuple[str, str, tuple[float, float, float]]] = {
    "left_hip": ("left_knee", "left_ankle", (1.0, 0.0, 0.0)),
    "right_hip": ("right_knee", "right_ankle", (1.0, 0.0, 0.0)),
    "left_shoulder": ("left_elbow", "left_wrist", (0.0, -1.0, 0.0)),
    "right_shoulder": ("right_elbow", "right_wrist", (0.0, 1.0, 0.0)),
}
J = {name: index for index, name in enumerate(SMPL24.joints)}


def retarget(source: SourceMotion, rest_joints_m: Array, fps: float | None = None) -> Clip:
    """SMPL poses of a source motion.

    Args:
        rest_joints_m: (24,3) the rest joints of the body that will make the motion.
        fps: resample to this rate; None keeps the file's.

    Returns:
        a clip, y up, whose hips are where the source's are after scaling its legs to the body's.
    """
    joints = map_joints(source)
    axes = rest_axes(source, joints)
    world = _upright(axes)
    rotations = np.einsum("ab,tjbc,cd->tjad", world, source.rotations, axes)  # of SMPL's axes, in a world with y up
    rest = source.rest @ axes  # in SMPL's axes
    _check_limbs(joints, rest, source.name)
    out = np.empty((len(source), 24, 3, 3))
    _trunk(joints, rotations, out)
    for side in ("left", "right"):
        collar = joints.collars.get(f"{side}_collar")
        out[:, J[f"{side}_collar"]] = out[:, J["spine3"]] if collar is None else rotations[:, collar]
        for chain in LIMBS:
            _limb([f"{side}_{part}" for part in chain], joints, rest, rest_joints_m, rotations, out)
        for upper in (f"{side}_hip", f"{side}_shoulder"):
            settle_hinge(upper, rest_joints_m, out)
        share_forearm_turn(side, rest_joints_m, out)
    local = out.copy()
    for joint in range(1, 24):
        local[:, joint] = np.swapaxes(out[:, SMPL_PARENTS[joint]], 1, 2) @ out[:, joint]
    if not np.isfinite(local).all():
        raise DataError("the skeleton's joints turn by no finite numbers: it cannot be posed", where=source.name)
    pose = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(-1, 24, 3)
    transl = _translation(source, joints, world, rest, rest_joints_m, out)
    clip = Clip(source.name, torch.from_numpy(pose).float(), torch.from_numpy(transl).float(), source.fps)
    return clip if fps is None else resampled(clip, fps)


def _check_limbs(joints: JointMap, rest: Array, name: str) -> None:
    """Every bone of the limbs has a direction. Raises DataError."""
    for side, chain in itertools.product(("left", "right"), LIMBS):
        for upper, lower in itertools.pairwise(f"{side}_{part}" for part in chain):
            if upper not in joints.limbs or lower not in joints.limbs:
                continue
            length = np.linalg.norm(rest[joints.limbs[lower]] - rest[joints.limbs[upper]])
            if not SHORTEST < length < np.inf:
                raise DataError(
                    f"the skeleton's bone from {upper} to {lower} has no length: it cannot be posed",
                    where=name,
                )


def rest_axes(source: SourceMotion, joints: JointMap) -> Array:
    """(3,3), columns: left, up and ahead of a skeleton's rest pose, in its world."""
    rest, limbs = source.rest, joints.limbs
    parts = ("hip", "knee", "shoulder", "elbow")
    left = np.sum([rest[limbs[f"left_{part}"]] - rest[limbs[f"right_{part}"]] for part in parts], axis=0)
    hips = 0.5 * (rest[limbs["left_hip"]] + rest[limbs["right_hip"]])
    shoulders = 0.5 * (rest[limbs["left_shoulder"]] + rest[limbs["right_shoulder"]])
    up = shoulders - hips
    sizes = np.linalg.norm(left), np.linalg.norm(up)
    if min(sizes) < 1e-9 or abs(left @ up) > 0.9 * sizes[0] * sizes[1]:
        raise DataError("the skeleton's rest pose has no left side or no upper end", where=source.name)
    x = left / sizes[0]
    y = up - (up @ x) * x
    y /= np.linalg.norm(y)
    axes = np.stack([x, y, np.cross(x, y)], 1)
    near = np.where(np.abs(axes) > SNAP_COSINE, np.sign(axes), 0.0)
    return near if np.abs(near).sum() == 3 else axes


def _upright(axes: Array) -> Array:
    """What turns a source's world y up: nothing if it is, else the rest pose's own up decides."""
    return np.eye(3) if axes[1, 1] > SNAP_COSINE else axes.T.copy()


def smallest_turn(start: Array, end: Array) -> Array:
    """The smallest rotation (3,3) from one direction to another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])  # opposite: half a turn about any axis across
        sine = float(np.linalg.norm(axis))
    return Rotation.from_rotvec(axis / sine * np.arctan2(np.linalg.norm(np.cross(a, b)), cosine)).as_matrix()


def _between(rotations: Array, chain: Sequence[int], share: float) -> Array:
    """(T,3,3) at a share of the way along a chain of joints, by spherical interpolation of its neighbours."""
    place = share * (len(chain) - 1)
    low = min(int(place), max(len(chain) - 2, 0))
    first = rotations[:, chain[low]]
    if (rest := place - low) < 1e-9 or len(chain) == 1:
        return first
    turn = Rotation.from_matrix(np.swapaxes(first, 1, 2) @ rotations[:, chain[low + 1]]).as_rotvec()
    return first @ Rotation.from_rotvec(rest * turn).as_matrix()


def _trunk(joints: JointMap, rotations: Array, out: Array) -> None:
    """Pelvis, spine, neck and head: orientations alone, shared out along chains of any length."""
    for name, share in (("pelvis", 0.0), ("spine1", 1 / 3), ("spine2", 2 / 3), ("spine3", 1.0)):
        out[:, J[name]] = _between(rotations, joints.trunk, share)
    for name, share in (("neck", 0.5), ("head", 1.0)):
        out[:, J[name]] = _between(rotations, joints.neck, share)


def _limb(
    names: list[str],
    joints: JointMap,
    rest: Array,
    rest_joints_m: Array,
    rotations: Array,
    out: Array,
) -> None:
    """The joints of one limb, from the trunk outwards; `turn` is A of the text above."""
    turn = np.eye(3)
    for name, following in zip(names, [*names[1:], None], strict=True):
        here = joints.limbs.get(name)
        if here is None:  # no toes, no hands of its own: they follow
            out[:, J[name]] = out[:, SMPL_PARENTS[J[name]]]
            continue
        if following is not None and following in joints.limbs:
            bone = turn @ (rest_joints_m[J[following]] - rest_joints_m[J[name]])
            turn = smallest_turn(bone, rest[joints.limbs[following]] - rest[here]) @ turn
        out[:, J[name]] = rotations[:, here] @ turn


def settle_hinge(upper: str, rest_joints_m: Array, out: Array) -> None:
    """Turns the two bones of a limb about themselves so that it bends about SMPL's axis; directions stay.

    Changes the world rotations `out` (T,24,3,3) in place.
    """
    lower, end, hinge = HINGES[upper]
    along = _unit(rest_joints_m[J[lower]] - rest_joints_m[J[upper]])
    below = _unit(rest_joints_m[J[end]] - rest_joints_m[J[lower]])
    relative = np.swapaxes(out[:, J[upper]], 1, 2) @ out[:, J[lower]]
    normals = np.cross(along, relative @ below)  # (T,3), across the upper bone; as long as the sine of the bend
    bend = np.arctan2(np.linalg.norm(normals, axis=1), (relative @ below) @ along)
    bent = normals[bend > BENT_RAD]
    wanted = _unit(np.array(hinge) - (along @ np.array(hinge)) * along)
    if len(bent) and np.linalg.norm(bent.sum(0)) > CLEAR_SHARE * np.linalg.norm(bent, axis=1).sum():
        mean = bent.sum(0)
        angle = np.arctan2(np.cross(wanted, mean) @ along, wanted @ mean)
        out[:, J[upper]] = out[:, J[upper]] @ Rotation.from_rotvec(angle * along).as_matrix()
    relative = np.swapaxes(out[:, J[upper]], 1, 2) @ out[:, J[lower]]
    twist = turn_about(relative, below)
    mean_twist = np.arctan2(np.sin(twist).mean(), np.cos(twist).mean())
    out[:, J[lower]] = out[:, J[lower]] @ Rotation.from_rotvec(-mean_twist * below).as_matrix()


def share_forearm_turn(side: str, rest_joints_m: Array, out: Array) -> None:
    """Gives the elbow half of the turn that the wrist has about the forearm; no direction changes."""
    elbow, wrist = J[f"{side}_elbow"], J[f"{side}_wrist"]
    along = _unit(rest_joints_m[wrist] - rest_joints_m[elbow])
    twist = turn_about(np.swapaxes(out[:, elbow], 1, 2) @ out[:, wrist], along)
    out[:, elbow] = out[:, elbow] @ Rotation.from_rotvec(0.5 * twist[:, None] * along).as_matrix()


def turn_about(rotations: Array, axis: Array) -> Array:
    """The angle (T,) rad in (-pi, pi] by which rotations (T,3,3) turn about an axis of theirs (swing and twist)."""
    quats = Rotation.from_matrix(rotations).as_quat()  # x, y, z, w
    angle = 2 * np.arctan2(quats[:, :3] @ axis, quats[:, 3])
    return np.arctan2(np.sin(angle), np.cos(angle))


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _translation(
    source: SourceMotion, joints: JointMap, world: Array, rest: Array, rest_joints_m: Array, out: Array
) -> Array:
    """(T,3) m that puts the middle of the hips where the source's is, at the scale of the legs."""

    def legs(points: Array, place: dict[str, int]) -> float:
        bones = (("hip", "knee"), ("knee", "ankle"))
        return sum(
            float(np.linalg.norm(points[place[f"{side}_{b}"]] - points[place[f"{side}_{a}"]]))
            for side in ("left", "right")
            for a, b in bones
        )

    length = legs(rest, joints.limbs)
    if length < 1e-9:
        raise DataError("the skeleton's legs have no length", where=source.name)
    scale = legs(rest_joints_m, J) / length
    hips = joints.limbs["left_hip"], joints.limbs["right_hip"]
    middle = scale * source.positions()[:, list(hips)].mean(1) @ world.T
    own = rest_joints_m[[J["left_hip"], J["right_hip"]]].mean(0) - rest_joints_m[0]
    return middle - out[:, 0] @ own - rest_joints_m[0]
