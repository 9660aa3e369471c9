"""Files of weights: read without running code in them, loaded strictly, written so that the original's code reads
them.

Formats: `.npz` (numpy, never pickled) and torch's own (`.pt`, `.pth`, `.tar`, ...; read by
posegen.files.torch_files). The state may lie at the top, or under one of STATE_KEYS.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posegen.errors import CheckpointError
from posegen.files.arrays import read_all_npz
from posegen.files.atomic import replacing
from posegen.files.torch_files import read_torch
from posegen.files.versions import checked_format, save_torch

LOGGER = logging.getLogger(__name__)

# Where projects put the state dict: SPIN and HMR `model`, PoseGen's fine-tunes `model_state_dict`, Lightning
# `state_dict`. Our own files use `model` too.
STATE_KEYS = ("model", "model_state_dict", "state_dict")
WEIGHTS_FORMAT = 1  # of the files that save_checkpoint writes
_SHOWN = 8


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, with `module.` prefixes (DataParallel) taken off.

    Raises:
        CheckpointError: missing, unreadable, or holding no tensors.
    """
    return state_of(read_file(path), where=path)


def read_file(path: str | Path) -> dict[str, Any]:
    """Everything in a checkpoint file (torch or npz), as a dictionary."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError("no such checkpoint file", where=path, next_command="posegen doctor")
    if path.suffix == ".npz":
        arrays = read_all_npz(path, what="the checkpoint", error=CheckpointError)
        return {key: torch.from_numpy(array) for key, array in arrays.items()}
    content = read_torch(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"expected a dictionary, found {type(content).__name__}", where=path)
    if isinstance(ours := content.get("posegen"), Mapping):
        checked_format(
            ours.get("format"), WEIGHTS_FORMAT, "the checkpoint", path, "take other weights", CheckpointError
        )
    return dict(content)


def state_of(content: Mapping[str, Any], where: object = None) -> dict[str, Tensor]:
    """Finds the state dict in a checkpoint's content (see STATE_KEYS)."""
    for key in STATE_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(
            "the checkpoint holds no tensors at its top level nor under a known key",
            where=where,
            choices=STATE_KEYS,
        )
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    architecture: str,
    where: object = None,
    ignored: Iterable[str] = (),
) -> None:
    """Copies a state dict into a module; every key and shape must fit.

    Args:
        architecture: what the module is, for the message.
        ignored: prefixes of keys that may be left over (buffers that can be computed again).

    Raises:
        CheckpointError: says which keys are missing, left over or of another shape. Nothing is loaded then.
    """
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(state))
    # BatchNorm's step counter came with torch 0.4.1; older checkpoints lack it and evaluation does not use it.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    extra = sorted(key for key in set(state) - set(wanted) if not key.startswith(tuple(ignored)))
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or extra or shapes:
        problems = [
            f"{len(found)} {what}: {', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''}"
            for found, what in ((missing, "missing keys"), (extra, "left-over keys"), (shapes, "other shapes"))
            if found
        ]
        share = 1 - len(missing) / max(len(wanted), 1)
        reason = "another architecture" if share < 0.5 else "another version of it, or it was cut"
        raise CheckpointError(
            f"the checkpoint does not fit {architecture} ({reason}); " + "; ".join(problems), where=where
        )
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"the checkpoint has values that are not finite in {key}", where=where)
    module.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def write_torch(content: Mapping[str, Any], path: str | Path) -> Path:
    """torch.save to a temporary name, then rename: a killed run leaves the old file or the new one, never half."""
    path = Path(path).expanduser()
    with replacing(path) as partial:
        save_torch(dict(content), partial)
    return path


def write_npz(state: Mapping[str, Tensor], path: str | Path, half: bool = True) -> Path:
    """A state dict as a compressed npz; floats as fp16 if `half` (for weights shipped in the package)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().numpy()
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path
