"""Submits: runs beside the code that asks for them, all results gathered."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
from anyio.from_thread import start_blocking_portal

from penstock.settings import load_settings
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample, microseconds_a_task


def _submit_all_by_hand(count: int, writer: floor.Writer) -> None:
    def run(number: int, submitted_at: float) -> int:
        started_at = floor.now()
        value: int = runs.noop.fn(number)
        writer.add(floor.completed_row(number, submitted_at, started_at, value))
        return value

    with ThreadPoolExecutor(load_settings().task_runner_max_workers) as pool:
        futures = [pool.submit(run, number, floor.now()) for number in range(count)]
        sum(future.result() for future in futures)


class Submits(Case):
    name = "submit"
    what = "a sync flow submits a sync task"
    count = 20_000
    quick_count = 2_000

    def by_hand(self, count: int, /) -> Sample:
        return floor.timed(lambda writer: _submit_all_by_hand(count, writer), count)

    def bare_portal(self, count: int, /) -> Sample:
        async def run(number: int) -> int:
            return await anyio.to_thread.run_sync(runs.noop.fn, number)

        with start_blocking_portal() as portal:

            def submit_all() -> None:
                futures = [portal.start_task_soon(run, number) for number in range(count)]
                sum(future.result() for future in futures)

            portal.call(run, 0)
            return Sample(microseconds_a_task(submit_all, count))

    def references(self) -> Sequence[Reference]:
        return [
            Reference("ThreadPoolExecutor + rows", self.by_hand, at_most=1.3),
            Reference("bare to_thread, no rows", self.bare_portal, at_most=1, divisor=4),
        ]


async def _start_all_by_hand(count: int, writer: floor.Writer) -> None:
    values: list[int] = [0] * count

    async def run(number: int, submitted_at: float) -> None:
        started_at = floor.now()
        values[number] = value = await runs.async_noop.fn(number)
        writer.add(floor.completed_row(number, submitted_at, started_at, value))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(run, number, floor.now())
    sum(values)


class AsyncSubmits(Case):
    what = "an async flow submits an async task"
    count = 20_000
    quick_count = 2_000

    def __init__(self, backend: str) -> None:
        self.name = f"submit-{backend}"
        self._backend = backend

    def by_hand(self, count: int, /) -> Sample:
        return floor.timed(
            lambda writer: anyio.run(_start_all_by_hand, count, writer, backend=self._backend),
            count,
        )

    def references(self) -> Sequence[Reference]:
        return [Reference("start_soon + rows", self.by_hand, at_most=1.5)]
