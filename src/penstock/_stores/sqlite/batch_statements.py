"""The statements that write a batch: few, and of few sizes.

A statement gives the GIL up once, however many rows it has, and its thread may wait long to get it
back; so rows go into statements of up to a thousand. SQLite compiles each size once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Final

import msgspec

from penstock._model.codecs import storable_text
from penstock._model.definition import Definition
from penstock._model.rows import CacheRow, FlowRow, Source, TaskRow
from penstock._stores.sqlite.schema import DEFINITION_COLUMNS, insert, upsert, upsert_cache
from penstock._stores.sqlite.statements import Statement
from penstock._stores.writing.batches import Batch

STATEMENT_SIZES: Final = (1000, 300, 100, 30, 10, 3, 1)
"""Rows of one statement; SQLite takes 32,766 values, and a row has at most 13."""


def statements_of(
    batch: Batch, files: Mapping[Source, bytes], known: AbstractSet[int]
) -> list[Statement]:
    """What writes a batch.

    Args:
        batch: what is to be written.
        files: what the rows hold of results that are in files.
        known: the definitions that are in the database.
    """
    definitions: dict[int, Definition] = {}
    flow_runs, task_runs = _Table(partial(upsert, FlowRow)), _Table(partial(upsert, TaskRow))
    ended = set(batch.ended)
    for run, length in batch.latest.items():
        payload = run.payload if run in ended else None
        row = run.row(length, files.get(run, payload) if files else payload)
        (task_runs if type(row) is TaskRow else flow_runs).add(row)
        definition = run.definition
        if definition.id not in known:
            definitions[definition.id] = definition
    return [
        *_definitions(definitions.values()).statements(),
        *flow_runs.statements(),
        *task_runs.statements(),
        *_cache(batch).statements(),
    ]


def _cache(batch: Batch) -> _Table:
    """The cache entries; of two for one key, the newer will stay."""
    table = _Table(upsert_cache)
    for run in batch.ended:
        if run.cache_row is not None:
            table.add(run.cache_row)
    return table


def _definitions(definitions: Iterable[Definition]) -> _Table:
    table = _Table(partial(insert, "definition", DEFINITION_COLUMNS))
    for definition in definitions:
        table.add(stored_definition(definition))
    return table


def stored_definition(definition: Definition) -> tuple[object, ...]:
    """A definition in the order of the columns."""
    return (
        definition.id,
        definition.kind.value,
        definition.name,
        definition.key,
        definition.version,
        definition.description,
        msgspec.json.encode(definition.tags).decode(),
    )


class _Table:
    """The rows for one table, as one list of values: no row of a long batch is an object."""

    def __init__(self, sql: Callable[[int], str]) -> None:
        self._sql = sql
        self._rows = 0
        self._values: list[Any] = []

    def add(self, row: FlowRow | TaskRow | CacheRow | tuple[object, ...]) -> None:
        self._rows += 1
        self._values += row

    def statements(self) -> Iterator[Statement]:
        if not self._rows:
            return
        # sqlite3 looks for an adapter for each bytes, which takes longer than binding it; it knows
        # that a bytearray has none.
        values = [bytearray(v) if type(v) is bytes else v for v in self._values]
        columns = len(values) // self._rows
        start = 0
        for size in _sizes(self._rows):
            end = start + size * columns
            yield Statement(self._sql(size), values[start:end])
            start = end


def _sizes(rows: int) -> Iterator[int]:
    for size in STATEMENT_SIZES:
        yield from [size] * (rows // size)
        rows %= size


def with_storable_texts(statements: Iterable[Statement]) -> list[Statement]:
    """The statements with all their texts in valid Unicode."""
    return [
        Statement(sql, [storable_text(v) if isinstance(v, str) else v for v in values])
        for sql, values in statements
    ]
