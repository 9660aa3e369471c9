"""Which scalars of a history deserve a panel, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Of the plausibility meter and its gate (posegen.adversarial.plausibility).
_PLAUSIBILITY = ("meter_", "plausib", "nearest", "violation", "diversity", "gate", "broken")
# How the work went, not what came of it.
_BOOKKEEPING = (
    "lr", "learning_rate", "rows_per", "images_per", "seconds", "time", "epoch", "grad", "world_size", "waited",
    "worked", "replay", "fresh",
)  # fmt: skip
_FIRST = ("error_mm", "loss", "loss_feedback", "loss_adversarial", "loss_discriminator")
_UNITS = {"mm": "mm", "rad": "rad", "deg": "°", "px": "px", "s": "s", "m": "m"}
_NAMES = {
    "error_mm": "estimator's error (mm)",
    "meter_nearest_mm": "distance to the nearest real pose (mm)",
    "nearest_mm": "distance to the nearest real pose (mm)",
    "meter_violation_rad": "joint-limit violation (rad)",
    "violation_rad": "joint-limit violation (rad)",
    "meter_diversity_mm": "diversity (mm)",
    "feedback_gate": "weight left to the feedback",
    "limits_broken": "limits broken",
    "loss": "loss, all terms",
}


def is_plausibility(key: str) -> bool:
    return not key.startswith("loss") and any(part in key.lower() for part in _PLAUSIBILITY)


def curve_keys(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, plausibility: bool, most: int = 9
) -> list[str]:
    """Scalars that vary, without bookkeeping: the error and the losses first."""
    seen: dict[str, set[float]] = {}
    for rows in histories.values():
        for row in rows:
            for key, value in row.items():
                if key != "step" and not any(key.lower().split("/")[-1].startswith(part) for part in _BOOKKEEPING):
                    seen.setdefault(key, set()).add(value)
    varying = [key for key, values in seen.items() if len(values) > 1 and is_plausibility(key) == plausibility]
    return sorted(varying, key=lambda key: (_rank(key), not key.startswith("loss")))[:most]


def _rank(key: str) -> int:
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def scalar_name(key: str) -> str:
    """`loss_adversarial` -> `loss: adversarial`, `nearest_mm` -> `... (mm)`."""
    if key in _NAMES:
        return _NAMES[key]
    if key.startswith("proposal_"):
        return f"{scalar_name(key.removeprefix('proposal_'))}, before training"
    if key.startswith("loss_"):
        return f"loss: {key.removeprefix('loss_').replace('_', ' ')}"
    words = key.removeprefix("meter_").replace("/", ": ").split("_")
    if len(words) > 1 and words[-1] in _UNITS:
        return f"{' '.join(words[:-1])} ({_UNITS[words[-1]]})"
    return " ".join(words)


def names_of(keys: Sequence[str]) -> dict[str, str]:
    return {key: scalar_name(key) for key in keys}
