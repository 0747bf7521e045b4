"""Work that waits: as much of it at once as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.settings import load_settings
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample
from tests.benchmarks.works import LOOP_SECONDS, THREAD_SECONDS, WORKS


class ThreadSleeps(Case):
    name = "sleep-threads"
    what = "sync tasks that sleep 50 ms, 40 workers"
    count = 1_000
    quick_count = 200

    def ideal(self, _count: int, /) -> Sample:
        return Sample(THREAD_SECONDS / load_settings().task_runner_max_workers * 1e6)

    def references(self) -> Sequence[Reference]:
        return [Reference("50 ms ÷ 40", self.ideal, at_most=1.15)]


class LoopSleeps(Case):
    name = "sleep-async"
    what = "async tasks that sleep 1 s, all at once"
    count = 10_000
    quick_count = 1_000

    def ideal(self, count: int, /) -> Sample:
        sample = WORKS["submit-asyncio"](count)
        return sample._replace(value=sample.value + LOOP_SECONDS / count * 1e6)

    def references(self) -> Sequence[Reference]:
        return [Reference("1 s + submits", self.ideal, at_most=1.15)]
