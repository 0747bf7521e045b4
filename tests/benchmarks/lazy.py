"""The lazy map: a million items, in time that grows with them and memory that does not."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.cases import Case, Reference


class LazyMap(Case):
    name = "lazy-map"
    what = "a lazy map over a million items, all results taken"
    count = 1_000_000
    quick_count = 20_000

    def references(self) -> Sequence[Reference]:
        return [Reference("half as many", self.penstock, at_most=1.1, divisor=2)]


class LazyMemory(Case):
    name = "lazy-memory"
    what = "peak RSS of the same"
    count = 1_000_000
    quick_count = 20_000
    unit = "MB"
    limit = 200
