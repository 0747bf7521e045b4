"""Results that this process has in memory: a hit on one of them asks nothing of SQLite.

Fresh ones are on their way to the file. Recent ones were read from it lately.

Each statement gives the GIL up several times, and under load its thread waits for the writer to
give it back; that took longer than all the rest of a hit.

The law: a recent entry is served no longer than a lease after another process has deleted or
replaced it. So who deletes waits a lease out before saying that it is done; what this process
itself replaces is forgotten at once. A lease begins when the file says that no entry has been
deleted or replaced since these were read: triggers count that in `cache_changes`. An entry that had
expired does not count, as nobody serves it.

Why: docs/inside/store.md, "What is not written yet is found in memory".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final, TypeAlias

from penstock._model.payloads import referenced_file
from penstock._model.rows import CacheRow, Source
from penstock._stores.port import FoundResult

LEASE_SECONDS: Final = 0.02
"""Longer than a thread waits for the GIL, or leases would end before they are of use."""
_ENTRIES: Final = 4096
_PAYLOAD_BYTES: Final = 4096
"""So all payloads together are at most 16 MiB."""

Found: TypeAlias = dict[str, FoundResult]


class FreshResults:
    """Results that are not in the file yet, by cache key; every method from any thread.

    Those that change the dict hold a lock: without it, the writer might drop the result that
    another thread notes under the same key just after the writer has looked which one is there.
    Those that read it hold none, as each takes one step of the interpreter: a look-up finds the
    result from before the change or the one from after it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, tuple[CacheRow, bytes]] = {}

    def note(self, source: Source, payload: bytes) -> None:
        """Have the result found that a run has, before it is recorded."""
        row = source.cache_row
        if row is not None:
            with self._lock:
                self._found[row.key] = (row, payload)

    def drop(self, row: CacheRow) -> None:
        """Forget the result behind an entry, once it is found in the file; a newer one stays."""
        with self._lock:
            found = self._found.get(row.key)
            if found is not None and found[0] is row:
                del self._found[row.key]

    def get(self, key: str) -> FoundResult | None:
        """The result, which may have expired."""
        found = self._found.get(key)
        if found is None:
            return None
        row, payload = found
        return FoundResult(row.run_id, payload, row.expires_at)

    def rows_of(self, task: int) -> list[CacheRow]:
        """The entries of a task."""
        return [row for row, _payload in tuple(self._found.values()) if row.task == task]


class RecentResults:
    """Results by cache key, as the file had them.

    A dict of results is filled only by those who had it before they read, and replaced where one
    of its entries may be out of date: so a slow reader fills one that nobody uses any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Found = {}
        self._changes: int | None = None
        self._ends_at = 0.0

    def get(self, key: str, now: float) -> FoundResult | None:
        """The result, if it may still be served."""
        if time.monotonic() >= self._ends_at:
            return None
        found = self._found.get(key)
        return None if found is None or found.is_expired(now) else found

    def about_to_read(self) -> Reading:
        """To be asked for before the file is read."""
        return Reading(self)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these, once their entries are replaced in the file."""
        with self._lock:
            found = self._found.copy()
            for key in keys:
                found.pop(key, None)
            self._found = found

    def _note_changes(self, changes: int, read_at: float) -> None:
        """Serve on for a lease; what was read before another change is forgotten."""
        with self._lock:
            if changes != self._changes:
                self._changes, self._found = changes, {}
            self._ends_at = read_at + LEASE_SECONDS


class Reading:
    """One look into the file."""

    __slots__ = ("_began_at", "_found", "_recent")

    def __init__(self, recent: RecentResults) -> None:
        self._recent = recent
        self._found = recent._found
        self._began_at = time.monotonic()

    def note(self, changes: int, key: str, result: FoundResult) -> None:
        """What the file had: its number of changes, and the result under a key."""
        self._recent._note_changes(changes, self._began_at)
        found = self._found
        if _is_small(result.payload):
            if len(found) >= _ENTRIES:
                found.clear()
            found[key] = result


def _is_small(payload: bytes) -> bool:
    return len(payload) <= _PAYLOAD_BYTES and referenced_file(payload) is None
