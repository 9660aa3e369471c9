"""What a stage asks of the cluster against what there is: said within seconds, never waited for in silence."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from posegen.engine.private_ray import free_by_node
from posegen.errors import EngineError

logger = logging.getLogger(__name__)


def describe(resources: Mapping[str, float]) -> str:
    """Resources in words, without those that only name nodes or places held for a group (CPU_group_0_f875...)."""
    parts = [
        f"{value / 2**30:.1f} GB {name}" if "memory" in name else f"{value:g} {name}"
        for name, value in sorted(resources.items())
        if ":" not in name and "_group_" not in name and value
    ]
    return ", ".join(parts) or "nothing"


def total_of(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, value in bundle.items():
            total[name] = total.get(name, 0.0) + value
    return {name: value for name, value in total.items() if value > 0}


def unplaced(bundles: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """The bundles that do not fit on the nodes (largest first onto the first node with room)."""
    room = [dict(node) for node in nodes]
    left = []
    for bundle in sorted(bundles, key=lambda b: -sum(b.values())):
        for node in room:
            if all(node.get(name, 0.0) + 1e-9 >= value for name, value in bundle.items()):
                for name, value in bundle.items():
                    node[name] = node.get(name, 0.0) - value
                break
        else:
            left.append(bundle)
    return left


def require(
    bundles: Sequence[Mapping[str, float]],
    purpose: str,
    *,
    wait_s: float = 0.0,
    free_within_s: float = 60.0,
    progress: Callable[[str], None] | None = None,
) -> None:
    """EngineError unless the cluster can give each bundle a place, and gives it within `free_within_s` seconds.

    Args:
        bundles: what each worker or actor asks, e.g. [{"CPU": 1}, {"CPU": 1, "GPU": 0.5}].
        purpose: for the message: "fine-tuning".
        wait_s: how long an autoscaler may take to add nodes; what is waited for is said every ten seconds.
        free_within_s: how long others may take to give back what they hold; infinite: as long as they like.
    """
    import ray

    say = progress or logger.warning
    asked = describe(total_of(bundles))
    hint = "lower engine.train_workers, engine.render_actors or what each takes, or add nodes (engine.wait_for_nodes_s)"

    def poll(view: Callable[[], list[dict[str, float]]], seconds: float, what: str) -> bool:
        deadline, next_word = time.monotonic() + seconds, time.monotonic() + min(5.0, seconds / 2)
        while unplaced(bundles, view()):
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= next_word:
                say(f"{purpose} asks for {asked}: {what} ({describe(ray.available_resources())} free)")
                next_word = now + 10
            time.sleep(min(0.25, deadline - now))
        return True

    with _asked_of_autoscaler(bundles if wait_s > 0 and unplaced(bundles, _node_resources("Resources")) else []):
        enough = poll(lambda: _node_resources("Resources"), wait_s, f"waiting up to {wait_s:.0f} s for nodes")
    if not enough:
        have = [describe(node) for node in _node_resources("Resources")]
        raise EngineError(
            f"not enough resources for {purpose}: asked for {asked} ({len(bundles)} x at most "
            f"{describe(max(bundles, key=lambda b: sum(b.values())))}), the cluster has "
            f"{describe(ray.cluster_resources())} on {len(have)} node(s)",
            choices=have,
            next_command=hint,
        )
    patience = f" up to {free_within_s:.0f} s" if math.isfinite(free_within_s) else ""
    if not poll(free_resources, free_within_s, f"waiting{patience} for others to finish"):
        raise EngineError(
            f"the resources for {purpose} are in use: asked for {asked}, free {describe(ray.available_resources())} of "
            f"{describe(ray.cluster_resources())}",
            next_command=f"wait for the other runs to end (ray status), or {hint}",
        )


@contextmanager
def _asked_of_autoscaler(bundles: Sequence[Mapping[str, float]]) -> Iterator[None]:
    """Asks for nodes with room, and takes it back: what stays asked for keeps idle nodes up for ever."""
    if not bundles:
        yield
        return
    from ray.autoscaler import sdk

    sdk.request_resources(bundles=[dict(bundle) for bundle in bundles])
    try:
        yield
    finally:
        sdk.request_resources(bundles=[])


def _node_resources(key: str) -> list[dict[str, float]]:
    import ray

    return [dict(node[key]) for node in ray.nodes() if node["Alive"]]


def free_resources() -> list[dict[str, float]]:
    """What is free on each node."""
    return free_by_node()
