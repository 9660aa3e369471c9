"""What 8 to 256 GPUs would do: a discrete-event simulation of renderers, a bounded buffer and trainers.

    renderers --rows--> object store (bounded) --rows--> trainers, in step with each other
                 ^------------- new weights every `sync_every_steps` steps --------------'

Time is a number in a heap; nothing is slept or rendered. Assumptions, all of them optimistic or neutral in ways that
are named, so that the answer is an upper bound on speed and a pointer to the next bottleneck:

* A renderer makes blocks of `block_rows` images one after another. A block's time varies by `variation` (its
  coefficient of variation, gamma distributed); GPUs of one kind do not differ otherwise.
* A finished block crosses the network of the renderer's node and then waits in the object store, which holds
  `store_mb` a node, pooled. A renderer whose block does not fit waits: Ray Data's backpressure.
* Each trainer takes `batch_rows` a step, and computes in proportion to them. Trainers of one run work in lock step, so
  a step begins when the slowest has its rows; it computes, then all-reduces.
* The all-reduce is a ring: each of N trainers sends 2 (N-1)/N times the gradient's bytes, plus `hop_us` for each of
  the 2 (N-1) hops (Patarasuk and Yuan 2009). The ring visits node after node, so one flow crosses each node's link;
  within one node the link is `nvlink_gbps`. Nothing overlaps with computation, as in plain averaging after backward.
* Every `sync_every_steps` steps new weights go to all renderers, as a binary tree over nodes; a renderer takes them
  between two blocks and pauses while its node receives them.
* The driver schedules one block at a time and needs `driver_ms` for each: the serial part of the system.
* No failures, no stragglers, no contention with other jobs, and storage keeps up.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from posegen.errors import ConfigError, PosegenError
from posegen.files.state import read_json

INFINITE = math.inf


@dataclass(frozen=True)
class Figures:
    """What a GPU and its network do. `measured` names those that come from a measurement; the rest are assumed."""

    render_ms: float = 6.0  # one image, forward only, one renderer on a share of a GPU
    train_ms: float = (
        60.0  # one step of fine-tuning on `train_rows` rows on one GPU; more rows take longer in proportion
    )
    train_rows: float = 64.0
    row_mb: float = 0.028  # one row in the object store: a 96 px image and its labels
    network_gbps: float = 25.0  # of one node, each direction
    nvlink_gbps: float = 2400.0  # between the GPUs of one node
    gradient_mb: float = 100.0  # all-reduced every step: 25 M parameters in float32
    weights_mb: float = 2.0  # generator, sent to renderers
    hop_us: float = 20.0  # latency of one hop of a collective
    driver_ms: float = 1.5  # of the driver's time, for each block
    variation: float = 0.2  # coefficient of variation of a block's render time
    measured: tuple[str, ...] = ()

    @property
    def assumed(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(self) if f.name != "measured" and f.name not in self.measured)


@dataclass(frozen=True)
class Layout:
    """How GPUs are shared out, and the settings a user can change."""

    gpus: int
    trainers: int  # one GPU each
    renderers_a_gpu: int = 4  # actors on each of the other GPUs, which share its time
    gpus_a_node: int = 8
    batch_rows: int = 64  # of one trainer, a step
    block_rows: int = 128
    store_mb: float = 8000.0  # of one node
    sync_every_steps: int = 50

    @property
    def render_gpus(self) -> int:
        return self.gpus - self.trainers

    @property
    def renderers(self) -> int:
        return self.render_gpus * self.renderers_a_gpu

    @property
    def nodes(self) -> int:
        return -(-self.gpus // self.gpus_a_node)


@dataclass(frozen=True)
class Outcome:
    """Throughput and where time went. Shares are of the measured time, after the warm-up."""

    layout: Layout
    rows_per_s: float
    steps_per_s: float
    trainer_busy: float  # computing
    trainer_waiting: float  # for rows
    trainer_reducing: float  # gradients
    renderer_busy: float
    renderer_blocked: float  # the store is full
    renderer_syncing: float  # taking new weights
    driver_busy: float
    store_mean: float  # fill, 0..1
    age_s: float  # mean time of a row from rendered to used
    bottleneck: str
    advice: str


def ring_allreduce_s(figures: Figures, layout: Layout) -> float:
    """Seconds of one ring all-reduce over the trainers, which are spread over nodes as densely as they fit."""
    n = layout.trainers
    if n < 2:
        return 0.0
    within = n <= layout.gpus_a_node
    share_gbps = figures.nvlink_gbps if within else figures.network_gbps
    return 2 * (n - 1) / n * figures.gradient_mb * 8e-3 / share_gbps + 2 * (n - 1) * figures.hop_us * 1e-6


def compute_s(figures: Figures, layout: Layout) -> float:
    """Seconds of one trainer's computation in a step."""
    return figures.train_ms * 1e-3 * layout.batch_rows / figures.train_rows


def broadcast_s(figures: Figures, layout: Layout) -> float:
    """Seconds until new weights are on every node: a binary tree, one link a level."""
    levels = math.ceil(math.log2(layout.nodes)) if layout.nodes > 1 else 0
    return levels * (figures.weights_mb * 8e-3 / figures.network_gbps + figures.hop_us * 1e-6)


@dataclass
class _State:
    now: float = 0.0
    stored: float = 0.0  # rows in the store
    promised: float = 0.0  # rows of finished blocks that are on their way into the store
    steps: int = 0
    training: bool = False
    wanted_version: int = 0
    driver_free_at: float = 0.0
    links_free_at: list[float] = field(default_factory=list)
    arrivals: deque = field(default_factory=deque)  # (time finished, rows) in the store, oldest first
    blocked: deque = field(default_factory=deque)  # renderers with a block that does not fit


def simulate(figures: Figures, layout: Layout, steps: int = 400, seed: int = 0, warmup: float = 0.25) -> Outcome:  # noqa: PLR0915 - one clock and its events, which share all state
    """Runs `steps` training steps of simulated time; the first `warmup` share of them is not counted."""
    _check(figures, layout)
    rng = random.Random(seed)
    queue: list[tuple[float, int, str, int]] = []
    order = 0

    def at(time: float, kind: str, who: int = -1) -> None:
        nonlocal order
        order += 1
        heapq.heappush(queue, (time, order, kind, who))

    state = _State(links_free_at=[0.0] * layout.nodes)
    capacity = layout.store_mb * layout.nodes / figures.row_mb if math.isfinite(layout.store_mb) else INFINITE
    need = layout.batch_rows * layout.trainers
    block_s = layout.block_rows * figures.render_ms * 1e-3
    transfer_s = layout.block_rows * figures.row_mb * 8e-3 / figures.network_gbps
    reduce_s, sync_s, train_s = (
        ring_allreduce_s(figures, layout),
        broadcast_s(figures, layout),
        compute_s(figures, layout),
    )
    version = [0] * layout.renderers
    node_of = [index * layout.nodes // layout.renderers for index in range(layout.renderers)]
    spent = dict.fromkeys(("train", "wait", "reduce", "render", "blocked", "sync", "driver"), 0.0)
    blocked_since: dict[int, float] = {}
    waiting_since: float | None = 0.0
    counted_from, fill_time, last_fill, age, aged = 0.0, 0.0, 0.0, 0.0, 0.0
    first_counted = int(steps * warmup)

    def begin_block(who: int) -> None:
        start = max(state.now, state.driver_free_at)  # the driver hands out one block at a time
        state.driver_free_at = start + figures.driver_ms * 1e-3
        spent["driver"] += figures.driver_ms * 1e-3
        start = state.driver_free_at
        if version[who] < state.wanted_version:
            version[who] = state.wanted_version
            spent["sync"] += sync_s
            start += sync_s
        took = (
            block_s
            if figures.variation == 0
            else rng.gammavariate(figures.variation**-2, block_s * figures.variation**2)
        )
        spent["render"] += took
        at(start + took, "rendered", who)

    def send_block(who: int) -> None:
        """The block fits: it takes its node's link, and the renderer goes on with the next one."""
        state.promised += layout.block_rows
        link = node_of[who]
        state.links_free_at[link] = max(state.now, state.links_free_at[link]) + transfer_s
        at(state.links_free_at[link], "stored", who)
        begin_block(who)

    def try_step() -> None:
        nonlocal waiting_since, last_fill, fill_time, age, aged
        if state.training or state.stored < need:
            return
        spent["wait"] += state.now - (waiting_since or 0.0)
        left = need
        while left > 0:
            when, rows = state.arrivals[0]
            taken = min(rows, left)
            age, aged, left = age + taken * (state.now - when), aged + taken, left - taken
            if taken == rows:
                state.arrivals.popleft()
            else:
                state.arrivals[0] = (when, rows - taken)
        note_fill()
        state.stored -= need
        state.training = True
        spent["train"] += train_s
        spent["reduce"] += reduce_s
        at(state.now + train_s + reduce_s, "trained")
        while state.blocked and state.stored + state.promised + layout.block_rows <= capacity:
            who = state.blocked.popleft()
            spent["blocked"] += state.now - blocked_since.pop(who)
            send_block(who)

    def note_fill() -> None:
        nonlocal last_fill, fill_time
        fill_time += (state.now - last_fill) * state.stored
        last_fill = state.now

    for who in range(layout.renderers):
        begin_block(who)
    while state.steps < steps:
        state.now, _, kind, who = heapq.heappop(queue)
        if kind == "rendered":
            if state.stored + state.promised + layout.block_rows <= capacity:
                send_block(who)
            else:
                state.blocked.append(who)
                blocked_since[who] = state.now
        elif kind == "stored":
            note_fill()
            state.promised -= layout.block_rows
            state.stored += layout.block_rows
            state.arrivals.append((state.now, layout.block_rows))
            try_step()
        else:
            state.training = False
            state.steps += 1
            waiting_since = state.now
            if state.steps % layout.sync_every_steps == 0:
                state.wanted_version += 1
            if state.steps == first_counted:
                note_fill()
                spent = dict.fromkeys(spent, 0.0)
                counted_from, fill_time, age, aged = state.now, 0.0, 0.0, 0.0
                blocked_since = {w: state.now for w in blocked_since}
            try_step()
    note_fill()
    spent["blocked"] += sum(state.now - since for since in blocked_since.values())
    elapsed = state.now - counted_from
    done = steps - first_counted
    of_renderers = layout.renderers * elapsed
    shares: dict[str, Any] = {
        "rows_per_s": done * need / elapsed,
        "steps_per_s": done / elapsed,
        "trainer_busy": spent["train"] / elapsed,
        "trainer_waiting": spent["wait"] / elapsed,
        "trainer_reducing": spent["reduce"] / elapsed,
        "renderer_busy": min(1.0, spent["render"] / of_renderers),
        "renderer_blocked": min(1.0, spent["blocked"] / of_renderers),
        "renderer_syncing": spent["sync"] / of_renderers,
        "driver_busy": min(1.0, spent["driver"] / elapsed),
        "store_mean": 0.0 if math.isinf(capacity) else fill_time / elapsed / capacity,
        "age_s": age / aged if aged else 0.0,
    }
    bottleneck, advice = diagnose(shares, figures, layout, transfer_s)
    return Outcome(layout, bottleneck=bottleneck, advice=advice, **shares)


def diagnose(shares: dict[str, Any], figures: Figures, layout: Layout, transfer_s: float) -> tuple[str, str]:
    """Where the time goes, and the setting to change."""
    if shares["trainer_waiting"] > 0.1:
        renderers_a_node = layout.renderers / layout.nodes
        link_load = renderers_a_node * transfer_s / (layout.block_rows * figures.render_ms * 1e-3)
        if shares["driver_busy"] > 0.9:
            return "driver", f"larger blocks: dataset.rows_per_block above {layout.block_rows}"
        if link_load > 0.9:
            return "network", "fewer bytes a row: a smaller image_size"
        if shares["renderer_syncing"] > 0.1:
            return "weight sync", f"send weights less often than every {layout.sync_every_steps} steps"
        extra = shares["trainer_waiting"] / max(1e-9, 1 - shares["trainer_waiting"])
        return "rendering", f"engine.render_actors up by {100 * extra:.0f} %, or fewer finetune_workers"
    if shares["trainer_reducing"] > shares["trainer_busy"] / 3:
        return "all-reduce", f"finetune.batch up: more than {layout.batch_rows} rows a trainer between two reductions"
    if shares["renderer_blocked"] > 0.3:
        spare = shares["renderer_blocked"] * layout.render_gpus
        if spare < 1:
            return "training", "balanced to within one GPU"
        return "training", f"give {int(spare)} of {layout.render_gpus} rendering GPUs to engine.finetune_workers"
    return "training", "balanced: add GPUs of both kinds"


def balanced(figures: Figures, gpus: int, **settings: Any) -> Layout:
    """Shares `gpus` so that rendering just keeps up with training: one number of trainers, from the two rates."""
    share = Layout(gpus=gpus, trainers=1, **settings)
    wanted_rows = share.batch_rows / compute_s(figures, share)  # rows a second that one trainer takes
    made_rows = share.renderers_a_gpu * 1e3 / figures.render_ms
    trainers = max(1, min(gpus - 1, round(gpus * made_rows / (made_rows + wanted_rows))))
    return replace(share, trainers=trainers)


def scaleout(
    figures: Figures, gpus: tuple[int, ...] = (8, 16, 32, 64, 128, 256), seed: int = 0, **settings: Any
) -> list[Outcome]:
    """One outcome a cluster size, each with GPUs shared out by `balanced`."""
    return [simulate(figures, balanced(figures, count, **settings), seed=seed) for count in gpus]


def table(outcomes: list[Outcome]) -> str:
    heads = ("GPUs", "train", "rows/s", "x", "efficiency", "busy", "waits", "reduce", "driver")
    widths = (5, 5, 9, 6, 10, 5, 5, 6, 6)

    def line(cells: Sequence[str], last: str) -> str:
        return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths)) + f"  {last}"

    first = outcomes[0]
    lines = [line(heads, "bottleneck: what to change")]
    for outcome in outcomes:
        speedup = outcome.rows_per_s / first.rows_per_s
        efficiency = speedup * first.layout.gpus / outcome.layout.gpus
        shares = (outcome.trainer_busy, outcome.trainer_waiting, outcome.trainer_reducing, outcome.driver_busy)
        cells = (
            str(outcome.layout.gpus), str(outcome.layout.trainers), f"{outcome.rows_per_s:.0f}", f"{speedup:.2f}",
            *(f"{share:.0%}" for share in (efficiency, *shares)),
        )  # fmt: skip
        lines.append(line(cells, f"{outcome.bottleneck}: {outcome.advice}"))
    return "\n".join(lines)


def load_figures(path: Path) -> Figures:
    """Measured figures from a JSON object `{"figures": {"render_ms": ..., ...}}`; what it leaves out is assumed."""
    try:
        given = read_json(path, "the file of measured figures", nan=False)
        given = given.get("figures", given)
        names = {f.name for f in fields(Figures)} - {"measured"}
        known = {key: float(value) for key, value in given.items() if key in names}
        if not all(map(math.isfinite, known.values())):
            raise ValueError("a figure is not finite")
    except (OSError, ValueError, TypeError, AttributeError, PosegenError) as error:
        raise ConfigError(f"not a file of measured figures: {error}", where=path) from error
    if not known:
        raise ConfigError("holds no figure that the simulation takes", where=path, choices=sorted(names))
    return Figures(**known, measured=tuple(sorted(known)))  # type: ignore[arg-type]


def as_dict(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome)


def _check(figures: Figures, layout: Layout) -> None:
    if layout.trainers < 1 or layout.renderers < 1:
        raise ConfigError(
            f"{layout.gpus} GPUs, {layout.trainers} trainers, {layout.renderers} renderers: one of each at least"
        )
    if layout.block_rows * figures.row_mb > layout.store_mb * layout.nodes:
        raise ConfigError("the object store does not hold one block: raise store_mb or lower block_rows")
    if layout.batch_rows * layout.trainers > layout.store_mb * layout.nodes / figures.row_mb - layout.block_rows + 1:
        raise ConfigError("the object store does not hold one step's rows: raise store_mb or lower batch_rows")
