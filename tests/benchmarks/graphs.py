"""Runs that wait for runs: long chains and wide trees of futures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import anyio.to_thread

from penstock import flow
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample
from tests.benchmarks.works import add


class Chain(Case):
    name = "chain"
    what = "sync tasks, each taking the future before"
    count = 1_000
    quick_count = 300

    def bare_hops(self, count: int, /) -> Sample:
        async def hop(times: int) -> None:
            for number in range(times):
                await anyio.to_thread.run_sync(runs.noop.fn, number)

        async def measure() -> Sample:
            await hop(1)
            began = anyio.current_time()
            await hop(count)
            return Sample((anyio.current_time() - began) / count * 1e6)

        return anyio.run(measure)

    def references(self) -> Sequence[Reference]:
        return [Reference("to_thread hop, no rows", self.bare_hops, at_most=2)]


async def _async_chain_by_hand(count: int, writer: floor.Writer) -> int:
    value = 0
    for number in range(count):
        submitted_at = floor.now()
        started_at = floor.now()
        value = await asyncio.create_task(runs.async_noop.fn(value))
        writer.add(floor.completed_row(number, submitted_at, started_at, value))
    return value


class AsyncChain(Case):
    name = "chain-async"
    what = "async tasks, each taking the future before"
    count = 1_000
    quick_count = 300

    def by_hand(self, count: int, /) -> Sample:
        return floor.timed(lambda writer: asyncio.run(_async_chain_by_hand(count, writer)), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("create_task hop + rows", self.by_hand, at_most=3)]


@flow
def flat(count: int) -> int:
    futures = [add.submit(0, 1) for _ in range(count)]
    return sum(future.result() for future in futures)


class Tree(Case):
    name = "tree"
    what = "a binary tree of sync tasks by futures"
    count = 2**14
    quick_count = 2**11

    def flat(self, count: int, /) -> Sample:
        return runs.timed(lambda: flat(count - 1), count - 1)

    def references(self) -> Sequence[Reference]:
        return [Reference("as many, flat", self.flat, at_most=1.3)]
