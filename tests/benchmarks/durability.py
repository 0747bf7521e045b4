"""Strict durability: no result is seen before its row is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiosqlite

from penstock._model.rows import TaskRow
from penstock._stores.sqlite.schema import upsert
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample
from tests.benchmarks.works import SUBMITS_AT_ONCE


class StrictCalls(Case):
    what = "strict durability, one task after another"
    count = 1_000
    quick_count = 300

    def __init__(self, synchronous: str) -> None:
        self.name = "strict" if synchronous == "normal" else f"strict-{synchronous}"
        self.what += "" if synchronous == "normal" else ", power loss included"
        self._synchronous = synchronous

    def by_hand(self, count: int, /) -> Sample:
        return asyncio.run(_commit_all(count, 1, self._synchronous))

    def references(self) -> Sequence[Reference]:
        return [Reference("call + aiosqlite commit", self.by_hand, at_most=1)]


async def _commit_all(count: int, at_once: int, synchronous: str) -> Sample:
    """Calls, and a commit by hand for so many of them."""
    loop = asyncio.get_running_loop()
    connection = await aiosqlite.connect(floor.prepare_database())
    await connection.execute(f"PRAGMA synchronous={synchronous}")
    began = loop.time()
    for first in range(0, count, at_once):
        values: list[Any] = []
        for number in range(first, first + at_once):
            submitted_at, started_at = floor.now(), floor.now()
            value = runs.noop.fn(number)
            values += floor.completed_row(number, submitted_at, started_at, value)
        await connection.execute(upsert(TaskRow, at_once), values)
        await connection.commit()
    await connection.close()
    return Sample((loop.time() - began) / count * 1e6, task_runs=count)


class StrictSubmits(Case):
    what = "strict durability, 100 submits at once"
    count = 5_000
    quick_count = 1_000

    def __init__(self, synchronous: str) -> None:
        self.name = "strict-100" if synchronous == "normal" else f"strict-100-{synchronous}"
        self.what += "" if synchronous == "normal" else ", power loss included"
        self._synchronous = synchronous

    def by_hand(self, count: int, /) -> Sample:
        return asyncio.run(_commit_all(count, SUBMITS_AT_ONCE, self._synchronous))

    def references(self) -> Sequence[Reference]:
        alone = StrictCalls(self._synchronous)
        return [
            Reference("one after another", alone.penstock, at_most=1 / 30, divisor=5),
            Reference("100 calls + aiosqlite commit", self.by_hand),
        ]
