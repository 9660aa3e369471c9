"""Data sets that every arm is measured on, built once: their pictures and the true bodies stay in memory.

A run measures half a dozen estimators on the same few hundred pictures. What is read and posed for the first of them is
the same for all. Sets that are larger than some memory are read anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from posegen.benchmarks.protocol import Benchmark, EvalBatch
from posegen.benchmarks.suites import Entry, build_entry
from posegen.config.schema import PosegenConfig

MB = 2**20
KEPT_MB = 400.0  # of all sets together: ten times the quickstart's


class KeptSet(Benchmark):
    """A benchmark whose batches are kept, once they have been gone through.

    Args:
        benchmark: as which it is measured on.
        sets: asked whether there is room.
    """

    def __init__(self, benchmark: Benchmark, sets: KeptSets) -> None:
        self._benchmark, self._sets = benchmark, sets
        self._batches: dict[int, list[EvalBatch]] = {}
        self.name, self.protocol = benchmark.name, benchmark.protocol
        self.truth_of, self.truth_body = benchmark.truth_of, benchmark.truth_body
        self.vertex_subset = benchmark.vertex_subset

    def __len__(self) -> int:
        return len(self._benchmark)

    def batches(self, batch_size: int) -> Iterator[EvalBatch]:
        """The benchmark's own, in the same order."""
        if batch_size in self._batches:
            yield from self._batches[batch_size]
            return
        kept: list[EvalBatch] | None = []
        taken = 0.0
        for batch in self._benchmark.batches(batch_size):
            if kept is not None:
                taken += _mb(batch)
                if self._sets.has_room(taken):
                    kept.append(batch)
                else:
                    kept = None
            yield batch
        self.skipped = self._benchmark.skipped
        if kept is not None:
            self._batches[batch_size] = kept
            self._sets.taken_mb += taken

    def examples(self, ids: Sequence[str]) -> Iterator[EvalBatch]:
        return self._benchmark.examples(ids)

    def detection(self, metrics: dict[str, float], counted: dict[str, int]) -> dict[str, float]:
        return self._benchmark.detection(metrics, counted)


class KeptSets:
    """The data sets of a run's entries.

    Args:
        config: of the run.
        room_mb: memory for batches.
    """

    def __init__(self, config: PosegenConfig, room_mb: float = KEPT_MB) -> None:
        self.config, self.room_mb, self.taken_mb = config, room_mb, 0.0
        self._sets: dict[str, KeptSet] = {}

    def __call__(self, entry: Entry) -> KeptSet:
        """The benchmark of an entry."""
        key = repr(entry.as_plain())
        if key not in self._sets:
            self._sets[key] = KeptSet(build_entry(entry, self.config), self)
        return self._sets[key]

    def has_room(self, more_mb: float) -> bool:
        return self.taken_mb + more_mb <= self.room_mb


def _mb(batch: EvalBatch) -> float:
    tensors = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MB
