"""Reads the original A-NeRF's checkpoints, strictly: every weight has its place, and every place its weight.

The file is what LemonATsu/A-NeRF core/trainer.py `save_nerf` writes: `network_fn_state_dict`,
`network_fine_state_dict`, `embed_state_dict`, `embedbones_state_dict`, `embeddirs_state_dict`, and the state of the
optimisers and of the pose layer, which rendering does not need. The sizes of the networks and the numbers of
frequencies follow from the weights' shapes; what does not is in `ANerfConfig`, with the defaults of the original's
configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posegen.errors import CheckpointError, ConfigError, DataError
from posegen.files.state import read_text
from posegen.files.torch_files import read_torch
from posegen.renderer.anerf.encoding import JOINTS, CutoffEncoding, PlainEncoding, SkeletonEncoding
from posegen.renderer.anerf.network import ANerfNetwork

NETWORKS = ("network_fn_state_dict", "network_fine_state_dict")
ENCODINGS = ("embed_state_dict", "embedbones_state_dict", "embeddirs_state_dict")
MOST_ARGS, MOST_ARGUMENT = 1 << 20, 1e6  # bytes of an args.txt, and the size of a number in it
# What the trainer keeps to go on training; rendering leaves it alone.
TRAINING = (
    "global_step",
    "optimizer_state_dict",
    "poseopt_layer_state_dict",
    "pose_optimizer_state_dict",
    "poseopt_anchors",
)


@dataclass(frozen=True)
class ANerfConfig:
    """What a checkpoint does not say of itself (run_nerf.py's arguments of the same names).

    Args:
        N_samples, N_importance: coarse and additional fine samples on a ray.
        multires_bones: frequencies of the bone directions.
        cutoff_inputs: whether the plain inputs are faded out beyond the cut-off too.
        density_type: "relu" or "softplus"; softplus_shift and density_scale belong to it.
        frame: whose code colours the picture; None is the mean of all.
        skeleton: "body" poses the bones of our body, so that labels fit the pictures; "checkpoint" those of the
            subject, if the checkpoint holds them.
        chunk: rays rendered at once; as in the original, rays that miss the cylinder take their bounds from the others
            of a chunk.
    """

    N_samples: int = 64
    N_importance: int = 16
    multires_bones: int = 0
    cutoff_inputs: bool = True
    density_type: str = "relu"
    softplus_shift: float = 1.0
    density_scale: float = 1.0
    frame: int | None = None
    skeleton: str = "body"
    chunk: int = 4096

    def __post_init__(self) -> None:
        if self.density_type not in ("relu", "softplus"):
            raise ConfigError(f"unknown density_type {self.density_type!r}", choices=("relu", "softplus"))
        if self.skeleton not in ("body", "checkpoint"):
            raise ConfigError(f"unknown skeleton {self.skeleton!r}", choices=("body", "checkpoint"))
        if self.N_samples < 4 or self.N_importance < 0 or self.chunk < 1 or self.multires_bones < 0:
            raise ConfigError(
                "N_samples must be at least 4, N_importance and multires_bones at least 0, chunk at least 1"
            )


def config_from_args(path: Path) -> ANerfConfig:
    """Takes what it finds in the `args.txt` that the original writes beside its checkpoints ("name = value" lines).

    Raises CheckpointError where the model is of a kind that is not built here.
    """
    values: dict[str, str] = {}
    try:
        text = read_text(path, "A-NeRF's args.txt", most=MOST_ARGS)
    except (FileNotFoundError, DataError) as error:
        raise CheckpointError(getattr(error, "what", "there is no args.txt"), where=path) from error
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values[name.strip()] = value.strip()
    built = {"kp_dist_type": "reldist", "view_type": "relray", "bone_type": "reldir", "pts_tr_type": "local"}
    built |= {"nerf_type": "nerf", "cut_to_dist": "False", "cutoff_shift": "False", "normalize_cutoff": "False"}
    built |= {"lindisp": "False", "cutoff_bones": "False", "use_viewdirs": "True"}
    for name, supported in built.items():
        if values.get(name, supported) != supported:
            raise CheckpointError(
                f"A-NeRF with {name} = {values[name]} cannot be rendered", where=path, choices=[f"{name} = {supported}"]
            )
    base = ANerfConfig()
    found: dict[str, Any] = {}
    for field in fields(ANerfConfig):
        if field.name not in values or field.name in ("frame", "skeleton"):
            continue
        found[field.name] = _argument(field.name, values[field.name], getattr(base, field.name), path)
    try:
        return replace(base, **found)
    except ConfigError as error:
        raise CheckpointError(error.what, where=path, choices=error.choices) from error


def _argument(name: str, text: str, default: Any, path: Path) -> Any:
    """The value of one line, of the kind of its default."""
    if isinstance(default, bool):
        if text not in ("True", "False"):
            raise CheckpointError(f"{name} is {text[:40]!r}", where=path, choices=("True", "False"))
        return text == "True"
    if isinstance(default, str):
        return text[:40]
    try:
        value = type(default)(text[:40])
    except ValueError as error:
        raise CheckpointError(f"{name} is {text[:40]!r}, which is no {type(default).__name__}", where=path) from error
    if not abs(value) <= MOST_ARGUMENT:  # NaN, too
        raise CheckpointError(f"{name} is {value:g}: numbers up to {MOST_ARGUMENT:g} are read", where=path)
    return value


@dataclass(frozen=True)
class ANerfWeights:
    """A checkpoint as modules."""

    encoding: SkeletonEncoding
    coarse: ANerfNetwork
    fine: ANerfNetwork
    single_net: bool
    rest_pose: Tensor | None  # (24,3) the subject's own, in A-NeRF's scale


def read_anerf(path: Path, config: ANerfConfig) -> ANerfWeights:
    """Loads a `.tar` checkpoint. Raises CheckpointError that names what is missing, left over or of another shape."""
    state = _read(path)
    _check_keys(set(state), required={*NETWORKS, *ENCODINGS}, allowed={*NETWORKS, *ENCODINGS, *TRAINING}, where=path)
    for key in (*NETWORKS, *ENCODINGS):
        _check_weights(state[key], f"{path}, {key}")
    encoding = SkeletonEncoding(
        _encoding(state, "embed_state_dict", 1, _distance_frequencies(state, config, path), config, path),
        _encoding(state, "embedbones_state_dict", 3, config.multires_bones, config, path),
        _encoding(state, "embeddirs_state_dict", 3, _view_frequencies(state, path), config, path),
    )
    coarse, fine = (_network(state[name], encoding, name, path) for name in NETWORKS)
    same = all(torch.equal(a, b) for a, b in zip(coarse.state_dict().values(), fine.state_dict().values(), strict=True))
    return ANerfWeights(encoding, coarse, fine, same, _rest_pose(state.get("poseopt_layer_state_dict"), path))


def _rest_pose(layer: Any, path: Path) -> Tensor | None:
    """The first rest pose (24,3) of the pose layer, if it holds one."""
    if not isinstance(layer, dict) or layer.get("rest_pose") is None:
        return None
    rest = layer["rest_pose"]
    _check_weights({"rest_pose": rest}, f"{path}, poseopt_layer_state_dict")
    if not rest.numel() or rest.numel() % (3 * JOINTS):
        raise CheckpointError(f"rest_pose has shape {tuple(rest.shape)}, expected (N,{JOINTS},3)", where=path)
    return rest.reshape(-1, JOINTS, 3)[0].float()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError("the A-NeRF checkpoint does not exist", where=path)
    state = read_torch(path)
    if not isinstance(state, dict):
        raise CheckpointError("the file holds no dictionary of state dicts", where=path, choices=NETWORKS)
    return state


def _check_weights(weights: Any, where: object) -> None:
    """A dictionary of names and finite tensors."""
    if not isinstance(weights, dict):
        raise CheckpointError(f"a {type(weights).__name__} where a state dict belongs", where=where)
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}, not a tensor", where=where)
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{name} has values that are not finite", where=where)


def _check_keys(found: set[str], required: set[str], allowed: set[str], where: object) -> None:
    missing, over = sorted(required - found), sorted(map(str, found - allowed))
    if missing or over:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"left over {', '.join(over)}"] if over else []
        raise CheckpointError(f"this is no A-NeRF checkpoint: {'; '.join(parts)}", where=where, choices=sorted(allowed))


def _weight(state: Mapping[str, Any], name: str, path: Path) -> Tensor:
    """(outputs, inputs) of a layer of the first network."""
    network = state[NETWORKS[0]]
    if name not in network:
        raise CheckpointError(f"{NETWORKS[0]} lacks {name}", where=path)
    if network[name].ndim != 2:
        raise CheckpointError(f"{name} has shape {tuple(network[name].shape)}, expected two axes", where=path)
    return network[name]


def _frame_codes(saved: Mapping[str, Tensor], key: str, path: Path) -> Tensor | None:
    """(frames, width), or None of a network without them."""
    codes = saved.get("framecodes.codes.weight")
    if codes is not None and codes.ndim != 2:
        raise CheckpointError(f"{key}'s framecodes have shape {tuple(codes.shape)}, expected two axes", where=path)
    return codes


def _view_inputs(state: Mapping[str, Any], path: Path) -> int:
    width = _weight(state, "feature_linear.weight", path).shape[0]
    codes = _frame_codes(state[NETWORKS[0]], NETWORKS[0], path)
    return _weight(state, "views_linears.0.weight", path).shape[1] - width - (0 if codes is None else codes.shape[1])


def _frequencies(inputs: int, numbers: int, what: str, path: Path) -> int:
    count, rest = divmod(inputs // numbers - 1, 2)
    if rest or inputs % numbers or count < 0:
        raise CheckpointError(f"{inputs} inputs are no encoding of {numbers} {what}", where=path)
    return count


def _view_frequencies(state: Mapping[str, Any], path: Path) -> int:
    return _frequencies(_view_inputs(state, path), 3 * JOINTS, "ray directions", path)


def _distance_frequencies(state: Mapping[str, Any], config: ANerfConfig, path: Path) -> int:
    directions = 3 * JOINTS * (1 + 2 * config.multires_bones)
    inputs = _weight(state, "pts_linears.0.weight", path).shape[1] - directions
    return _frequencies(inputs, JOINTS, "joint distances", path)


def _encoding(
    state: Mapping[str, Any], key: str, per_joint: int, frequencies: int, config: ANerfConfig, path: Path
) -> nn.Module:
    """With a cut-off where the state holds one; the original saves nothing for encodings without."""
    saved = state[key]
    if not saved:
        return PlainEncoding(frequencies, per_joint)
    encoding = CutoffEncoding(frequencies, per_joint, config.cutoff_inputs, "sched_alpha" in saved)
    _load(encoding, saved, key, path)
    return encoding


def _network(saved: Mapping[str, Tensor], encoding: SkeletonEncoding, key: str, path: Path) -> ANerfNetwork:
    try:
        codes = _frame_codes(saved, key, path)
        width = saved["feature_linear.weight"].shape[0]
        depth = len([name for name in saved if name.startswith("pts_linears.") and name.endswith(".weight")])
    except (KeyError, AttributeError) as error:
        raise CheckpointError(f"{key} lacks {error}", where=path) from error
    network = ANerfNetwork(
        int(encoding.distance.width) + int(encoding.direction.width),  # type: ignore[arg-type]
        int(encoding.view.width),  # type: ignore[arg-type]
        width,
        depth,
        0 if codes is None else codes.shape[0],
        0 if codes is None else codes.shape[1],
    )
    _load(network, saved, key, path)
    return network


def _load(module: nn.Module, saved: Mapping[str, Tensor], key: str, path: Path) -> None:
    own = module.state_dict()
    _check_keys(set(saved), set(own), set(own), f"{path}, {key}")
    wrong = [
        f"{name} is {tuple(saved[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if saved[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(f"shapes differ: {'; '.join(wrong)}", where=f"{path}, {key}")
    module.load_state_dict(saved, strict=True)
