"""Strict durability: no result is seen before its row is committed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import aiosqlite

from penstock import flow
from penstock.records import TaskRow
from penstock.stores.schema import upsert
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference, Sample
from tests.benchmarks.direct import call_all

_AT_ONCE = 100


class StrictCalls(Case):
    name = "strict"
    what = "strict durability, one task after another"
    count = 1_000
    quick_count = 300

    def penstock(self, count: int, /) -> Sample:
        os.environ["PENSTOCK_DURABILITY"] = "strict"
        return runs.timed(lambda: call_all(count), count)

    def by_hand(self, count: int, /) -> Sample:
        return asyncio.run(_commit_each(count))

    def references(self) -> Sequence[Reference]:
        return [Reference("call + aiosqlite commit", self.by_hand, at_most=1.3)]


async def _commit_each(count: int) -> Sample:
    loop = asyncio.get_running_loop()
    connection = await aiosqlite.connect(floor.prepare_database())
    await connection.execute("PRAGMA synchronous=normal")
    began = loop.time()
    for number in range(count):
        submitted_at = floor.now()
        started_at = floor.now()
        value = runs.noop.fn(number)
        row = floor.completed_row(number, submitted_at, started_at, value)
        await connection.execute(upsert(TaskRow, 1), row)
        await connection.commit()
    await connection.close()
    return Sample((loop.time() - began) / count * 1e6, task_runs=count)


@flow
def submit_rounds(rounds: int) -> None:
    for _ in range(rounds):
        for future in [runs.noop.submit(number) for number in range(_AT_ONCE)]:
            future.result()


class StrictSubmits(Case):
    name = "strict-100"
    what = "strict durability, 100 submits at once"
    count = 5_000
    quick_count = 1_000

    def penstock(self, count: int, /) -> Sample:
        os.environ["PENSTOCK_DURABILITY"] = "strict"
        return runs.timed(lambda: submit_rounds(count // _AT_ONCE), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("one after another", StrictCalls().penstock, at_most=1 / 30, divisor=5)]
