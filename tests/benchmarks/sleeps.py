"""Work that waits: as much of it at once as there is room for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio

from penstock import flow, task
from penstock.settings import load_settings
from tests.benchmarks import runs
from tests.benchmarks.cases import Case, Reference, Sample
from tests.benchmarks.submits import async_submit_all

_THREAD_SECONDS = 0.05
_LOOP_SECONDS = 1.0


@task
def sleep() -> None:
    time.sleep(_THREAD_SECONDS)


@flow
def sleep_on_threads(count: int) -> None:
    for future in [sleep.submit() for _ in range(count)]:
        future.result()


class ThreadSleeps(Case):
    name = "sleep-threads"
    what = "sync tasks that sleep 50 ms, 40 workers"
    count = 1_000
    quick_count = 200

    def penstock(self, count: int, /) -> Sample:
        return runs.timed(lambda: sleep_on_threads(count), count)

    def ideal(self, _count: int, /) -> Sample:
        return Sample(_THREAD_SECONDS / load_settings().task_runner_max_workers * 1e6)

    def references(self) -> Sequence[Reference]:
        return [Reference("50 ms ÷ 40", self.ideal, at_most=1.15)]


@task
async def async_sleep() -> None:
    await anyio.sleep(_LOOP_SECONDS)


@flow
async def sleep_in_loop(count: int) -> None:
    for future in [async_sleep.submit() for _ in range(count)]:
        await future


class LoopSleeps(Case):
    name = "sleep-async"
    what = "async tasks that sleep 1 s, all at once"
    count = 10_000
    quick_count = 1_000

    def penstock(self, count: int, /) -> Sample:
        return runs.timed(lambda: anyio.run(sleep_in_loop, count), count)

    def ideal(self, count: int, /) -> Sample:
        sample = runs.timed(lambda: anyio.run(async_submit_all, count), count)
        return sample._replace(value=sample.value + _LOOP_SECONDS / count * 1e6)

    def references(self) -> Sequence[Reference]:
        return [Reference("1 s + submits", self.ideal, at_most=1.15)]
