"""Deleting old runs: slice by slice, so that the file is never locked for long.

A slice is a range of ids. The cache entries of its runs are found by their ids, and are deleted in
the same transaction; large results are deleted once that is committed. So whatever ends a pruning
early, what is left is whole.

Why: docs/inside/store.md, "Pruning goes slice by slice".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from penstock._model.payloads import referenced_file
from penstock._stores.port import Pruned

_ROWS_A_SLICE: Final = 5_000

_ENDED = (
    "(state_type IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED') OR state_name = 'NotReady')"
)
_NOT_CACHED = """NOT EXISTS (
    SELECT 1 FROM cache
    WHERE run_id = task_run.id AND (expires_at IS NULL OR expires_at > :now)
)"""
_IN_SLICE = "id >= :begin AND id < :end"
_NEXT_SLICE = """
SELECT id FROM {table} WHERE id >= :begin AND id < :bound ORDER BY id LIMIT 1 OFFSET :rows
"""
_FILES = "SELECT result FROM {table} WHERE {condition} AND substr(result, 1, 1) = x'66'"
_RUNS = "DELETE FROM {table} WHERE {condition}"
_ENTRIES = """
DELETE FROM cache WHERE run_id >= :begin AND run_id < :end
AND NOT EXISTS (SELECT 1 FROM task_run WHERE id = run_id)
"""


class Pruning:
    """Deletes the runs that have ended, with all that goes with them.

    Args:
        bound: only runs with lesser ids.
        keep_cache: not the task runs behind cache entries that have not expired.
        now: when they expire.
    """

    def __init__(self, bound: bytes, keep_cache: bool, now: float) -> None:
        self._bound = bound
        self._now = now
        condition = f"{_IN_SLICE} AND {_ENDED}"
        not_cached = f" AND {_NOT_CACHED}" if keep_cache else ""
        self._left = [("task_run", condition + not_cached), ("flow_run", condition)]
        self._begin = b""
        self.pruned: Pruned = Pruned(0, 0, 0)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to delete."""
        return not self._left

    def delete_slice(self, connection: sqlite3.Connection) -> list[str]:
        """Delete some runs, in the transaction that is open; the names of files to delete then."""
        table, condition = self._left[-1]
        following = self._next_slice(connection, table)
        values = {"begin": self._begin, "end": following or self._bound, "now": self._now}
        rows = connection.execute(_FILES.format(table=table, condition=condition), values)
        files = [reference.name for (payload,) in rows if (reference := referenced_file(payload))]
        self._delete(connection, table, condition, values)
        if following is None:
            self._left.pop()
        self._begin = following or b""
        return files

    def _next_slice(self, connection: sqlite3.Connection, table: str) -> bytes | None:
        """The id that the next slice begins with; None: this one is the last of the table."""
        values = {"begin": self._begin, "bound": self._bound, "rows": _ROWS_A_SLICE}
        for (id_,) in connection.execute(_NEXT_SLICE.format(table=table), values):
            found: bytes = id_
            return found
        return None

    def _delete(
        self,
        connection: sqlite3.Connection,
        table: str,
        condition: str,
        values: Mapping[str, object],
    ) -> None:
        runs = connection.execute(_RUNS.format(table=table, condition=condition), values).rowcount
        entries = connection.execute(_ENTRIES, values).rowcount
        so_far = self.pruned
        flow_runs, task_runs = (runs, 0) if table == "flow_run" else (0, runs)
        self.pruned = Pruned(
            so_far.flow_runs + flow_runs,
            so_far.task_runs + task_runs,
            so_far.cache_entries + entries,
        )
