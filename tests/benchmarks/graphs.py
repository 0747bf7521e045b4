"""Runs that wait for runs: long chains and wide trees of futures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import anyio.to_thread

from penstock import flow, task
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference, Sample


@flow
def chain(count: int) -> int:
    future = runs.noop.submit(0)
    for _ in range(count - 1):
        future = runs.noop.submit(future)
    return future.result()


class Chain(Case):
    name = "chain"
    what = "sync tasks, each taking the future before"
    count = 1_000
    quick_count = 300

    def penstock(self, count: int, /) -> Sample:
        return runs.timed(lambda: chain(count), count)

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


@flow
async def async_chain(count: int) -> int:
    future = runs.async_noop.submit(0)
    for _ in range(count - 1):
        future = runs.async_noop.submit(future)
    return await future


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

    def penstock(self, count: int, /) -> Sample:
        return runs.timed(lambda: anyio.run(async_chain, count), count)

    def by_hand(self, count: int, /) -> Sample:
        return floor.timed(lambda writer: asyncio.run(_async_chain_by_hand(count, writer)), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("create_task hop + rows", self.by_hand, at_most=3)]


@task
def add(left: int, right: int) -> int:
    return left + right


@flow
def tree(leaves: int) -> int:
    level = [add.submit(0, 1) for _ in range(leaves)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [add.submit(left, right) for left, right in pairs]
    return level[0].result()


@flow
def flat(count: int) -> int:
    futures = [add.submit(0, 1) for _ in range(count)]
    return sum(future.result() for future in futures)


class Tree(Case):
    name = "tree"
    what = "a binary tree of sync tasks by futures"
    count = 2**14
    quick_count = 2**11

    def penstock(self, count: int, /) -> Sample:
        return runs.timed(lambda: tree(count // 2), count - 1)

    def flat(self, count: int, /) -> Sample:
        return runs.timed(lambda: flat(count - 1), count - 1)

    def references(self) -> Sequence[Reference]:
        return [Reference("as many, flat", self.flat, at_most=1.3)]
