"""Calls of tasks, run inline."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample


def _call_all_by_hand(count: int, writer: floor.Writer) -> None:
    for number in range(count):
        submitted_at = floor.now()
        started_at = floor.now()
        value = runs.noop.fn(number)
        writer.add(floor.completed_row(number, submitted_at, started_at, value))


class DirectCalls(Case):
    name = "direct"
    what = "a sync flow calls a sync task"
    count = 20_000
    quick_count = 2_000

    def by_hand(self, count: int, /) -> Sample:
        return floor.timed(lambda writer: _call_all_by_hand(count, writer), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("call + rows", self.by_hand, at_most=1.6)]
