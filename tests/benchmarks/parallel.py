"""Many at once on one file: user threads, and processes, that each run flows."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.works import one_thread


class Threads(Case):
    name = "threads"
    what = "8 threads, each running flows of 100 calls"
    count = 16_000
    quick_count = 1_600

    def references(self) -> Sequence[Reference]:
        return [Reference("one thread", one_thread, at_most=1)]


class Processes(Case):
    name = "processes"
    what = "4 processes on one file, each running flows of 100 calls"
    count = 16_000
    quick_count = 1_600

    def references(self) -> Sequence[Reference]:
        return [Reference("one process", one_thread, at_most=1)]
