"""Read by every Python of a struck run (by PYTHONPATH): counts steps and rows where they are made, one line each.

What a killed run has made twice cannot be seen from its results, which are the same. So each step and each block of
rows appends its name to the file $POSEGEN_CHAOS_COUNT.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder

COUNT = os.environ.get("POSEGEN_CHAOS_COUNT")


def note(line):
    descriptor = os.open(COUNT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())  # one write: lines of several processes do not mix
    finally:
        os.close(descriptor)


def count_steps(module):
    plain = module.loop_class

    def counted(kind):
        made = plain(kind)

        class Counted(made):
            def step(self, *batch):
                metrics = super().step(*batch)
                note(f"step {kind} {self.step_index}")
                return metrics

        return Counted

    module.loop_class = counted


def count_rows(module):
    plain = module.BlockRenderer._make

    def counted(self, ids):
        table = plain(self, ids)
        for row in ids:
            note(f"row {os.path.basename(str(self.rendering.folder))} {row}")
        return table

    module.BlockRenderer._make = counted


WATCHED = {"posegen.engine.worker": count_steps, "posegen.experiment.rendering": count_rows}


class Counting(Loader):
    """A module's own loader, and then the counting."""

    def __init__(self, loader, change):
        self.loader, self.change = loader, change

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        self.change(module)


class Finder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in WATCHED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Counting(spec.loader, WATCHED[name])
        return spec


if COUNT:
    sys.meta_path.insert(0, Finder())
