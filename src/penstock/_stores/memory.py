"""A store in memory: everything is durable at once, and gone with the process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final, TypeVar

import msgspec
from typing_extensions import override

from penstock._model.definition import Definition
from penstock._model.ids import id_bound
from penstock._model.payloads import FileReference
from penstock._model.rows import CacheRow, FlowRow, Source, TaskRow
from penstock._model.settings import Settings
from penstock._stores.port import (
    Backlog,
    Exchanged,
    FoundFlowRun,
    FoundResult,
    FoundTaskRun,
    Limit,
    Pruned,
    Query,
    SlotRequest,
    SlotStore,
    Store,
)
from penstock._stores.slot_shares import Decaying, Ledger, decaying_left, share_out
from penstock._waiting.latch import Latch
from penstock._waiting.loops import LoopThread
from penstock.exceptions import ResultUnavailable
from penstock.states import FINAL_TYPES

F = TypeVar("F", FoundFlowRun, FoundTaskRun)


class MemoryStore(Store):
    """Keeps the rows in dicts."""

    def __init__(self) -> None:
        self.backlog = Backlog()  # never full, as nothing waits to be written
        self._slots = MemorySlots()
        self._lock = threading.Lock()
        self._flow_runs: dict[bytes, FoundFlowRun] = {}
        self._task_runs: dict[bytes, FoundTaskRun] = {}
        self._cache: dict[str, CacheRow] = {}

    @property
    @override
    def slots(self) -> MemorySlots:
        return self._slots

    @override
    def record(self, source: Source, length: int) -> None:
        final = source.is_final(length)
        row = source.row(length, source.payload if final else None)
        with self._lock:
            if isinstance(row, FlowRow):
                self._flow_runs[row.id] = FoundFlowRun(row, source.definition)
            else:
                self._task_runs[row.id] = FoundTaskRun(row, source.definition)
            if final and source.cache_row is not None:
                self._cache[source.cache_row.key] = source.cache_row
        if final:
            source.settle()

    @override
    def room(self) -> None:
        return

    @override
    def barrier(self) -> Latch:
        latch = Latch()
        latch.set()
        return latch

    @override
    def check(self) -> None:
        """Nothing can fail."""

    @override
    def look_up(self, key: str, now: float) -> FoundResult | None:
        with self._lock:
            entry = self._cache.get(key)
            if entry is None or (entry.expires_at is not None and entry.expires_at <= now):
                return None
            payload = self._task_runs[entry.run_id].row.result
        return None if payload is None else FoundResult(entry.run_id, payload, entry.expires_at)

    @override
    def entries_of(self, task: int, limit: int) -> Sequence[CacheRow]:
        with self._lock:
            found = [entry for entry in self._cache.values() if entry.task == task]
        return sorted(found, key=attrgetter("created_at"), reverse=True)[:limit]

    @override
    def flow_runs(self, query: Query) -> Sequence[FoundFlowRun]:
        with self._lock:
            found = list(self._flow_runs.values())
        return _page((f for f in found if query.parent_id in (None, f.row.parent_id)), query)

    @override
    def task_runs(self, query: Query) -> Sequence[FoundTaskRun]:
        with self._lock:
            found = list(self._task_runs.values())
        return _page(
            (f for f in found if query.flow_run_id in (None, f.row.flow_run_id)),
            query,
        )

    @override
    def subflow_runs(self, flow_run_id: bytes) -> Sequence[FoundFlowRun]:
        with self._lock:
            tasks = (f.row for f in self._task_runs.values())
            callers = {flow_run_id, *(row.id for row in tasks if row.flow_run_id == flow_run_id)}
            found = [f for f in self._flow_runs.values() if f.row.parent_id in callers]
        return sorted(found, key=lambda f: f.row.id)

    @override
    def payload_of(self, run_id: bytes) -> bytes | None:
        found = self._task_runs.get(run_id)  # no lock: one step, and rows are never changed
        return None if found is None else found.row.result

    @override
    def load(self, reference: FileReference) -> bytes:
        raise ResultUnavailable(f"There is no {reference.name} in memory.")

    @override
    def prune(self, until: datetime | None, keep_cache: bool, now: float) -> Pruned:
        with self._lock:
            kept = {
                entry.run_id
                for entry in self._cache.values()
                if keep_cache and (entry.expires_at is None or entry.expires_at > now)
            }
            flows = _delete(self._flow_runs, lambda f: _is_old(f.row, until))
            tasks = _delete(
                self._task_runs, lambda f: f.row.id not in kept and _is_old(f.row, until)
            )
            entries = _delete(self._cache, lambda entry: entry.run_id not in self._task_runs)
        return Pruned(flows, tasks, entries)

    @override
    def clear_cache(self, key: str | None) -> int:
        with self._lock:
            return _delete(self._cache, lambda entry: key in (None, entry.key))

    @override
    def pause(self) -> None:
        """There are no files."""

    @override
    def resume(self) -> None:
        """There are no files."""

    @override
    def leave_behind(self) -> None:
        """There are no files."""

    @override
    def close(self) -> None:
        """There are no files."""


def open_store(_settings: Settings, _host: LoopThread) -> Store:
    """The store that `memory:` asks for."""
    return MemoryStore()


class MemorySlots(SlotStore):
    """Keeps the limits in dicts; this process alone has slots of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[str, Limit] = {}
        self._taken: Counter[str] = Counter()
        self._decaying: dict[str, Decaying] = {}

    @override
    def limits(self) -> Mapping[str, Limit]:
        return self._limits  # no lock: a change replaces the dict, and never changes it

    @override
    def read_limits(self, now: float) -> Sequence[Limit]:
        with self._lock:
            decaying = decaying_left(self._ledger(), now)
            return [
                msgspec.structs.replace(limit, taken=self._taken[name] + decaying.get(name, 0.0))
                for name, limit in sorted(self._limits.items())
            ]

    @override
    def set_limit(self, limit: Limit) -> None:
        with self._lock:
            self._limits = {**self._limits, limit.name: limit}

    @override
    def delete_limit(self, name: str) -> bool:
        with self._lock:
            kept = {other: limit for other, limit in self._limits.items() if other != name}
            was_there = len(kept) < len(self._limits)
            self._limits = kept
            self._decaying.pop(name, None)
        return was_there

    @override
    def exchange(
        self,
        given_back: Mapping[str, int],
        queues: Sequence[Sequence[SlotRequest]],
        passed_over: Collection[int],
        now: float,
    ) -> Exchanged:
        with self._lock:
            self._taken.subtract(given_back)
            ledger = self._ledger()
            shares = share_out(ledger, _ME, queues, passed_over, now)
            decaying = decaying_left(ledger, now)
            for request in shares.granted:
                for name in request.names:
                    if request.decays:
                        decaying[name] = decaying.get(name, 0.0) + request.slots
                        self._decaying[name] = Decaying(decaying[name], now)
                    else:
                        self._taken[name] += request.slots
        return Exchanged([request.number for request in shares.granted], decays_in=shares.decays_in)

    def _ledger(self) -> Ledger:
        taken = {(name, _ME): slots for name, slots in self._taken.items()}
        return Ledger(self._limits, self._decaying, taken, ())


_ME: Final = b""
K = TypeVar("K")
V = TypeVar("V")


def _delete(table: dict[K, V], unwanted: Callable[[V], bool]) -> int:
    keys = [key for key, value in table.items() if unwanted(value)]
    for key in keys:
        del table[key]
    return len(keys)


def _is_old(row: FlowRow | TaskRow, until: datetime | None) -> bool:
    ended = row.state_type in FINAL_TYPES or row.state_name == "NotReady"
    return ended and (until is None or row.id < id_bound(until))


def _page(found: Iterable[F], query: Query) -> list[F]:
    matching = (f for f in found if _matches(f.row, f.definition, query))
    return sorted(matching, key=lambda f: f.row.id, reverse=True)[: query.limit]


def _matches(row: FlowRow | TaskRow, definition: Definition, query: Query) -> bool:
    return (
        query.run_id in (None, row.id)
        and query.name in (None, definition.name)
        and (not query.states or bool({row.state_type, row.state_name} & set(query.states)))
        and (query.tag is None or query.tag in definition.tags)
        and (query.since is None or row.id >= id_bound(query.since))
        and (query.until is None or row.id < id_bound(query.until))
        and (query.before is None or row.id < query.before)
    )
