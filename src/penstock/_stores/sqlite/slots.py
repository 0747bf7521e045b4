"""Limits and slots in SQLite: each exchange is one transaction of its own.

They are not part of the group commit: a slot is taken when its row is committed, and nobody starts
before. What a process has taken is one row a limit, and its queue is one entry; so the tables stay
small, however many runs wait.

Why: docs/inside/limits.md, "Slots do not go through the queue".
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from typing_extensions import override

from penstock._stores.port import Exchanged, Limit, SlotRequest, SlotStore
from penstock._stores.recent import LEASE_SECONDS
from penstock._stores.slot_shares import (
    Decaying,
    Ledger,
    QueueEntry,
    Shares,
    decaying_left,
    share_out,
    taken_of,
)
from penstock._stores.sqlite.process_locks import ProcessLock, is_alive
from penstock._stores.sqlite.schema import connect
from penstock.exceptions import StoreError

Read: TypeAlias = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]


class SqliteSlots(SlotStore):
    """The limits and slots in a database that is there already.

    Args:
        path: the file.
        read: reads some rows, on a connection that never waits for one that writes.
    """

    def __init__(self, path: Path, read: Read) -> None:
        self._path = path
        self._read = read
        self._folder = path.with_name(f"{path.name}-holders")
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process_lock: ProcessLock | None = None
        self._leased: tuple[Mapping[str, Limit], float] = ({}, 0.0)
        """The limits, and until when they may be used without being read again."""

    # The limits

    @override
    def limits(self) -> Mapping[str, Limit]:
        # Threads read and set the pair without a lock. It is one object, so limits always come
        # with their own lease: one that began before they were read. Where a thread that is late
        # sets older limits, their lease is the shorter one, and ends while whoever has changed
        # them still waits a lease out.
        limits, lease_ends_at = self._leased
        now = time.monotonic()
        if now >= lease_ends_at:
            limits = {limit.name: limit for limit, _ in _limits_in(self._read(_LIMITS, ()))}
            self._leased = limits, now + LEASE_SECONDS
        return limits

    @override
    def read_limits(self, now: float) -> Sequence[Limit]:
        with self._reading() as connection:
            ledger = _read_ledger(connection)
        dead = self._dead(ledger)
        if dead:
            with self._writing() as connection:
                _remove(connection, dead)
                ledger = _read_ledger(connection)
        taken, decaying = taken_of(ledger), decaying_left(ledger, now)
        return [
            msgspec.structs.replace(limit, taken=taken[name] + decaying.get(name, 0.0))
            for name, limit in sorted(ledger.limits.items())
        ]

    @override
    def set_limit(self, limit: Limit) -> None:
        with self._writing() as connection:
            values = (limit.name, limit.slots, limit.slot_decay_per_second)
            connection.execute(_SET_LIMIT, values)
        self._wait_a_lease_out()

    @override
    def delete_limit(self, name: str) -> bool:
        with self._writing() as connection:
            deleted = connection.execute(
                "DELETE FROM concurrency_limit WHERE name = ?", (name,)
            ).rowcount
        self._wait_a_lease_out()
        return deleted > 0

    def _wait_a_lease_out(self) -> None:
        self._leased = {}, 0.0
        time.sleep(LEASE_SECONDS)

    # The slots

    @override
    def exchange(
        self,
        given_back: Mapping[str, int],
        queues: Sequence[Sequence[SlotRequest]],
        passed_over: Collection[int],
        now: float,
    ) -> Exchanged:
        process = self._own_id()
        if not given_back:  # perhaps there is nothing to write, and nobody's way to stand in
            with self._reading() as connection:
                ledger = _read_ledger(connection)
            shares = share_out(ledger, process, queues, passed_over, now)
            if shares.changes_nothing and not self._dead(ledger):
                return _exchanged(shares)
        with self._writing() as connection:
            _give_back(connection, process, given_back)
            ledger = _read_ledger(connection)
            shares = share_out(ledger, process, queues, passed_over, now)
            if len(shares.granted) < sum(map(len, queues)) and (dead := self._dead(ledger)):
                _remove(connection, dead)
                ledger = _read_ledger(connection)
                shares = share_out(ledger, process, queues, passed_over, now)
            _write_down(connection, process, shares, decaying_left(ledger, now), now)
        return _exchanged(shares)

    def _own_id(self) -> bytes:
        if self._process_lock is None:
            try:
                self._process_lock = ProcessLock(self._folder)
            except OSError as error:
                raise StoreError(f"No slot can be held in {self._folder}: {error}.") from error
        return self._process_lock.id

    def _dead(self, ledger: Ledger) -> Sequence[bytes]:
        """The processes in the ledger that have died."""
        processes = {entry.process for entry in ledger.entries}
        processes.update(process for _name, process in ledger.taken)
        if self._process_lock is not None:
            processes.discard(self._process_lock.id)
        try:
            return [process for process in processes if not is_alive(process, self._folder)]
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be read: {error}.") from error

    # The connection, which threads take turns with

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    # A slot need not survive a power loss, as who has taken it does not.
                    self._connection = connect(self._path, "normal")
                yield self._connection
            except sqlite3.Error as error:
                raise StoreError(f"{self._path} cannot be used for slots: {error}.") from error

    @contextmanager
    def _transaction(self, begin: str) -> Generator[sqlite3.Connection]:
        with self._connected() as connection:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._transaction("BEGIN")

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._transaction("BEGIN IMMEDIATE")

    def pause(self) -> None:
        """Close the connection, and let nobody open one until `resume`."""
        self._lock.acquire()
        self._close_connection()

    def resume(self) -> None:
        """Go on."""
        self._lock.release()

    def leave_behind(self) -> None:
        """Hold nothing of the parent's; this process is its forked child."""
        if self._process_lock is not None:
            self._process_lock.leave_behind()

    def close(self) -> None:
        """Give everything back."""
        if self._process_lock is not None:
            with suppress(StoreError), self._writing() as connection:
                _remove(connection, [self._process_lock.id])
            self._process_lock.end()
            self._process_lock = None
        with self._lock:
            self._close_connection()

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _exchanged(shares: Shares) -> Exchanged:
    return Exchanged(
        [request.number for request in shares.granted], shares.in_turn, shares.decays_in
    )


# Reading


def _read_ledger(connection: sqlite3.Connection) -> Ledger:
    limits: dict[str, Limit] = {}
    decaying: dict[str, Decaying] = {}
    for limit, left in _limits_in(connection.execute(_LIMITS)):
        limits[limit.name] = limit
        if left.slots:
            decaying[limit.name] = left
    taken = connection.execute("SELECT limit_name, holder, slots FROM taken_slots")
    return Ledger(
        limits,
        decaying,
        {(name, process): slots for name, process, slots in taken},
        list(_read_entries(connection)),
    )


def _limits_in(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Limit, Decaying]]:
    for name, slots, per_second, decaying, since in rows:
        yield Limit(name, slots, per_second), Decaying(decaying, since)


def _read_entries(connection: sqlite3.Connection) -> Iterator[QueueEntry]:
    rows = connection.execute(
        "SELECT ticket, holder, limit_names, slots, decays FROM waiting_line ORDER BY ticket"
    )
    for position, process, names, slots, decays in rows:
        limit_names = msgspec.json.decode(names, type=tuple[str, ...])
        yield QueueEntry(position, process, SlotRequest(0, limit_names, slots, bool(decays)))


# Writing


def _give_back(connection: sqlite3.Connection, process: bytes, slots: Mapping[str, int]) -> None:
    for name, count in slots.items():
        connection.execute(_GIVE_BACK, (count, name, process))


def _remove(connection: sqlite3.Connection, processes: Iterable[bytes]) -> None:
    for process in processes:
        connection.execute("DELETE FROM taken_slots WHERE holder = ?", (process,))
        connection.execute("DELETE FROM waiting_line WHERE holder = ?", (process,))


def _write_down(
    connection: sqlite3.Connection,
    process: bytes,
    shares: Shares,
    decaying: Mapping[str, float],
    now: float,
) -> None:
    held, used = Counter[str](), Counter[str]()
    for request in shares.granted:
        for name in request.names:
            (used if request.decays else held)[name] += request.slots
    for name, count in held.items():
        connection.execute(_TAKE, (name, process, count))
    for name, count in used.items():
        connection.execute(_USE, (decaying.get(name, 0.0) + count, now, name))
    for position in shares.used_up:
        connection.execute("DELETE FROM waiting_line WHERE ticket = ?", (position,))
    for position, _, request in shares.moved:
        connection.execute(
            "UPDATE waiting_line SET slots = ? WHERE ticket = ?", (request.slots, position)
        )
    for request in shares.unqueued:
        names = msgspec.json.encode(request.names).decode()
        connection.execute(_QUEUE, (process, names, request.slots, request.decays))


_LIMITS: Final = (
    "SELECT name, slots, slot_decay_per_second, decaying, decaying_since FROM concurrency_limit"
)
_SET_LIMIT: Final = """
INSERT INTO concurrency_limit (name, slots, slot_decay_per_second) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE
SET slots = excluded.slots, slot_decay_per_second = excluded.slot_decay_per_second
"""
_TAKE: Final = """
INSERT INTO taken_slots (limit_name, holder, slots) VALUES (?, ?, ?)
ON CONFLICT (limit_name, holder) DO UPDATE SET slots = taken_slots.slots + excluded.slots
"""
_GIVE_BACK: Final = "UPDATE taken_slots SET slots = slots - ? WHERE limit_name = ? AND holder = ?"
_USE: Final = "UPDATE concurrency_limit SET decaying = ?, decaying_since = ? WHERE name = ?"
_QUEUE: Final = "INSERT INTO waiting_line (holder, limit_names, slots, decays) VALUES (?, ?, ?, ?)"
