"""What a loop notices of a page of the history that is read in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import anyio.lowlevel

from penstock import flow, history, task
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample

_RUNS: Final = 100


@task
def _step(x: int) -> int:
    return x


@flow
def _steps() -> None:
    for number in range(_RUNS):
        _step(number)


class LoopReads(Case):
    name = "read-async"
    what = "the longest that reading 100 runs keeps a loop from going on, ms"
    count = 50
    quick_count = 10
    unit = "ms"
    limit = 1
    on_request = True

    def penstock(self, count: int, /) -> Sample:
        return _held(lambda: history.task_runs_async(limit=_RUNS), count)

    def by_reader(self, count: int, /) -> Sample:
        return _held(history.open_async().task_runs, count)

    def in_the_loop(self, count: int, /) -> Sample:
        async def read() -> object:
            return history.task_runs(limit=_RUNS)

        return _held(read, count)

    def references(self) -> Sequence[Reference]:
        return [
            Reference("history.open_async()", self.by_reader),
            Reference("history.task_runs()", self.in_the_loop),
        ]


def _held(read: Callable[[], Awaitable[object]], count: int) -> Sample:
    _steps()
    history.task_runs(limit=1)

    async def longest_of_each() -> list[float]:
        await read()  # what is imported and opened
        return [await _longest_step(read) for _ in range(count)]

    held = anyio.run(longest_of_each)
    return Sample(statistics.median(held) * 1e3, task_runs=_RUNS, flow_runs=1)


async def _longest_step(read: Callable[[], Awaitable[object]]) -> float:
    """The longest time between two turns of a task beside the read."""
    longest, is_over = 0.0, False

    async def take_turns() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not is_over:
            await anyio.lowlevel.checkpoint()
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as group:
        group.start_soon(take_turns)
        await anyio.lowlevel.checkpoint()
        await read()
        is_over = True
    return longest
