"""Runs that find their result under a cache key, each key many times."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Sequence

import msgspec

from penstock._model.rows import TaskRow
from penstock._stores.sqlite.schema import connect, upsert
from tests.benchmarks import floor
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample
from tests.benchmarks.works import CACHE_KEYS


class CacheHits(Case):
    count = 10_000
    quick_count = 1_000

    def __init__(self, *, restarted: bool) -> None:
        self.name = "cache-restart" if restarted else "cache"
        self.what = "cache hits after a restart" if restarted else "cache hits in the process"

    def by_hand(self, count: int, /) -> Sample:
        _fill()
        reader = sqlite3.connect(f"{floor.database().as_uri()}?mode=ro", uri=True)
        sample = floor.timed(lambda writer: _find_all(count, reader, writer), count)
        return Sample(sample.value, sample.task_runs + CACHE_KEYS)

    def references(self) -> Sequence[Reference]:
        return [Reference("hash + SELECT + rows", self.by_hand)]


def _key_of(number: int) -> str:
    return hashlib.sha256(b"tests.noop:" + msgspec.msgpack.encode({"number": number})).hexdigest()


def _fill() -> None:
    connection = connect(floor.prepare_database(), "normal")
    connection.execute("BEGIN")
    for number in range(CACHE_KEYS):
        key = _key_of(number)
        row = floor.completed_row(number, floor.now(), floor.now(), number, {"cache_key": key})
        connection.execute(upsert(TaskRow, 1), row)
        entry = (key, row.id, time.time(), None)
        connection.execute(_INSERT, entry)
    connection.execute("COMMIT")
    connection.close()


_INSERT = "INSERT INTO cache (key, run_id, created_at, expires_at) VALUES (?,?,?,?)"
_LOOK_UP = """
SELECT c.run_id, t.result, c.expires_at FROM cache c JOIN task_run t ON t.id = c.run_id
WHERE c.key = ? AND (c.expires_at IS NULL OR c.expires_at > ?)
"""


def _find_all(count: int, reader: sqlite3.Connection, writer: floor.Writer) -> None:
    for number in range(count):
        submitted_at = floor.now()
        key = _key_of(number % CACHE_KEYS)
        run_id, payload, _ = reader.execute(_LOOK_UP, (key, time.time())).fetchone()
        msgspec.msgpack.decode(payload[1:])
        writer.add(floor.cached_row(number, submitted_at, key, run_id))
