"""One run of the fuzzer: which cases, what is shown of them while they go by, and what is kept of the wrong ones."""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .format import Case, Format
from .formats import all_formats
from .judge import LOADED, REFUSED
from .known import folder_again
from .minimise import smallest
from .pool import Ended, Trial, run

KEPT = 2  # files of one signature


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    cases: int
    seed: int = 0
    names: tuple[str, ...] = ()
    only: int | None = None
    workers: int = 1
    save: Path = Path("fuzz-findings")
    listing: bool = False
    files: Path | None = None  # a folder of damaged files, instead of cases
    minutes: float = float("inf")  # no case is begun after them


@dataclass
class Tally:
    """Of one format: how its cases ended."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    seconds: float = 0.0

    def add(self, ended: Ended) -> None:
        self.counts[ended.outcome.kind] += 1
        self.slowest_s = max(self.slowest_s, ended.seconds)
        self.seconds += ended.seconds

    @property
    def wrong(self) -> int:
        return sum(count for kind, count in self.counts.items() if kind not in (LOADED, REFUSED))


def chosen(formats: Mapping[str, Format], names: Sequence[str]) -> dict[str, Format]:
    """Those named, or whose names hold one of the words."""
    if not names:
        return dict(formats)
    found = {name: form for name, form in formats.items() if any(word == name for word in names)}
    found |= {name: form for name, form in formats.items() if not found and any(word in name for word in names)}
    if not found:
        raise SystemExit(f"no such format; there are: {', '.join(formats)}")
    return found


def cases_of(formats: Mapping[str, Format], count: int, seed: int) -> list[Trial]:
    """`count` cases, shared out by the formats' weights; the valid file of each is the first."""
    total = sum(form.weight for form in formats.values())
    trials = []
    for form in formats.values():
        share = round(count * form.weight / total)
        share = max(2, share) if form.weight >= 0.1 else share  # the slowest only where there are many
        trials += [Trial(Case(form.name, seed, number)) for number in range(share)]
    return trials


def signature(ended: Ended) -> str:
    """What findings of one fault have in common; also the name of the saved file."""
    outcome = ended.outcome
    told = f"{ended.trial.case.format}_{outcome.kind}_{outcome.where}"
    return re.sub(r"[^A-Za-z0-9_.]+", "_", told).strip("_")[:150]


def table(tallies: Mapping[str, Tally]) -> str:
    """The result, a line a format."""
    lines = [f"{'format':26}{'cases':>7}{'loaded':>8}{'refused':>9}{'wrong':>7}{'slowest s':>11}"]
    whole = Tally()
    for name, tally in sorted(tallies.items()):
        lines.append(_line(name, tally))
        whole.counts.update(tally.counts)
        whole.slowest_s = max(whole.slowest_s, tally.slowest_s)
    return "\n".join([*lines, _line("all", whole)])


def _line(name: str, tally: Tally) -> str:
    counts = tally.counts
    told = f"   { ({k: v for k, v in counts.items() if k not in (LOADED, REFUSED)}) }" if tally.wrong else ""
    numbers = f"{sum(counts.values()):7d}{counts[LOADED]:8d}{counts[REFUSED]:9d}{tally.wrong:7d}{tally.slowest_s:11.2f}"
    return f"{name:26}{numbers}{told}"


def campaign(plan: Plan) -> int:
    """Runs the cases, prints and saves what went wrong; the exit status."""
    torch.set_num_threads(1)
    formats = chosen(all_formats(), plan.names)
    if plan.listing:
        print("\n".join(formats))
        return 0
    if plan.files is not None:
        return folder_again(formats, plan.files)
    if plan.only is not None:
        trials = [Trial(Case(name, plan.seed, plan.only)) for name in formats]
    else:
        trials = cases_of(formats, plan.cases, plan.seed)
        random.Random(plan.seed).shuffle(trials)
    start = time.monotonic()
    tallies: dict[str, Tally] = defaultdict(Tally)
    findings: dict[str, list[Ended]] = defaultdict(list)
    done = 0
    for number, ended in enumerate(run(formats, trials, plan.workers), 1):
        done = number
        tallies[ended.trial.case.format].add(ended)
        if plan.only is not None:
            print(f"{ended.trial.case}: {ended.outcome.kind} {ended.outcome.where}\n{ended.outcome.text}")
        if not ended.outcome.right:
            findings[signature(ended)].append(ended)
            if len(findings[signature(ended)]) == 1:
                print(f"\n{signature(ended)}\n  {ended.trial.case}\n  {ended.outcome.text[-700:]}", flush=True)
        if sys.stdout.isatty() and number % 500 == 0:
            print(f"{number}/{len(trials)} cases, {number / (time.monotonic() - start):.0f} a second", flush=True)
        if time.monotonic() - start > 60 * plan.minutes:
            break
    seconds = time.monotonic() - start
    print(f"\n{table(tallies)}")
    told = f"{done} cases" if done == len(trials) else f"{done} of {len(trials)} cases"
    print(f"{told} in {seconds:.0f} s, {done / seconds:.0f} a second; seed {plan.seed}", flush=True)
    for name, found in findings.items():
        _save(formats, plan, name, found)
    if findings:
        print(f"{len(findings)} faults; their files are in {plan.save}")
    return 1 if findings else 0


def _save(formats: Mapping[str, Format], plan: Plan, name: str, found: Sequence[Ended]) -> None:
    """The smallest files of a fault, each with how to make it again."""
    plan.save.mkdir(parents=True, exist_ok=True)
    for number, ended in enumerate(sorted(found, key=lambda e: len(e.content or b""))[:KEPT], 1):
        form = formats[ended.trial.case.format]
        small = smallest(formats, ended, lambda other: signature(other) == name)
        file = plan.save / f"{name}-{number}{form.suffix}"
        file.write_bytes(small.content or b"")
        case = ended.trial.case
        file.with_name(file.name + ".txt").write_text(
            f"python -m tests.fuzz --format {case.format} --seed {case.seed} --only {case.number}\n\n"
            f"{small.outcome.text}\n"
        )
