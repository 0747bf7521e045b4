"""What every store does with limits and slots; and the SQLite one between processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock._stores.port import Limit, SlotRequest, SlotStore, Store
from penstock._stores.recent import LEASE_SECONDS
from penstock._stores.sqlite.process_locks import ProcessLock, is_alive
from penstock._stores.sqlite.store import SqliteStore
from penstock._waiting.loops import LoopThread
from penstock.exceptions import StoreError
from tests.contracts.sources import open_sqlite

NOW = 1_000_000.0


@pytest.fixture
def slots(store: Store) -> SlotStore:
    """The slots of each store."""
    return store.slots


def queue(
    *numbers: int, names: str = "a", slots: int = 1, decays: bool = False
) -> list[SlotRequest]:
    return [SlotRequest(number, tuple(names), slots, decays) for number in numbers]


def take(slots: SlotStore, *queues: list[SlotRequest], now: float = NOW) -> list[int]:
    return list(slots.exchange({}, queues, (), now).granted)


# Limits


def test_limits_are_set_changed_and_deleted(slots: SlotStore) -> None:
    assert slots.limits() == {}
    slots.set_limit(Limit("b", 2))
    slots.set_limit(Limit("a", 1, 0.5))
    assert slots.limits() == {"a": Limit("a", 1, 0.5), "b": Limit("b", 2)}
    slots.set_limit(Limit("a", 7))
    assert list(slots.read_limits(NOW)) == [Limit("a", 7), Limit("b", 2)]
    assert slots.delete_limit("a")
    assert not slots.delete_limit("a")
    assert slots.limits() == {"b": Limit("b", 2)}


def test_what_is_taken_is_shown(slots: SlotStore) -> None:
    slots.set_limit(Limit("a", 5))
    slots.set_limit(Limit("b", 5))
    take(slots, queue(1, 2), queue(3, names="ab", slots=2))
    assert [limit.taken for limit in slots.read_limits(NOW)] == [4, 2]


# Slots


def test_slots_are_taken_and_given_back(slots: SlotStore) -> None:
    slots.set_limit(Limit("a", 2))
    assert take(slots, queue(1, 2, 3, 4)) == [1, 2]
    assert take(slots, queue(3, 4)) == []
    assert slots.exchange({"a": 1}, [queue(3, 4)], (), NOW).granted == [3]
    assert slots.exchange({"a": 2}, [queue(4)], (), NOW).granted == [4]
    assert [limit.taken for limit in slots.read_limits(NOW)] == [1]


def test_a_lower_limit_takes_no_slot_from_those_who_have_one(slots: SlotStore) -> None:
    slots.set_limit(Limit("a", 3))
    assert take(slots, queue(1, 2, 3)) == [1, 2, 3]
    slots.set_limit(Limit("a", 1))
    assert slots.exchange({"a": 2}, [queue(4)], (), NOW).granted == []
    assert slots.exchange({"a": 1}, [queue(4)], (), NOW).granted == [4]


def test_who_waits_goes_on_when_the_limit_is_deleted(slots: SlotStore) -> None:
    """What is held then counts for a limit of that name that is set later."""
    slots.set_limit(Limit("a", 1))
    assert take(slots, queue(1, 2)) == [1]
    slots.delete_limit("a")
    assert take(slots, queue(2)) == [2]
    slots.set_limit(Limit("a", 3))
    assert take(slots, queue(3, 4)) == [3]


def test_slots_that_decay_come_back_with_time_alone(slots: SlotStore) -> None:
    slots.set_limit(Limit("a", 2, 4.0))
    assert take(slots, queue(1, 2, 3, decays=True)) == [1, 2]
    exchanged = slots.exchange({}, [queue(3, decays=True)], (), NOW + 0.125)
    assert (exchanged.granted, exchanged.decays_in) == ([], 0.125)
    assert take(slots, queue(3, decays=True), now=NOW + 0.25) == [3]
    assert take(slots, queue(4, 5, 6, decays=True), now=NOW + 60) == [4, 5], (
        "no more than there are"
    )


def test_a_clock_that_is_set_back_brings_no_slot_back(slots: SlotStore) -> None:
    slots.set_limit(Limit("a", 1, 4.0))
    assert take(slots, queue(1, decays=True)) == [1]
    assert take(slots, queue(2, decays=True), now=NOW - 3600) == []


def test_threads_that_ask_at_once_exceed_no_limit(slots: SlotStore) -> None:
    slots.set_limit(Limit("a", 3))
    got: list[int] = []
    together = threading.Barrier(6)

    def ask(number: int) -> None:
        together.wait()
        got.extend(take(slots, queue(number)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 3


# Between processes; each store of a file is one


@pytest.fixture
def other(sqlite_store: SqliteStore, database: Path, host: LoopThread) -> Iterator[SqliteStore]:
    """Another process on the file of `sqlite_store`."""
    made = open_sqlite(database, host)
    yield made
    made.close()


def die(store: SqliteStore) -> None:
    """As a kill does it: the system takes the lock, and nothing is written."""
    lock = store.slots._process_lock
    assert lock is not None
    lock.leave_behind()
    store.slots._process_lock = None


def test_a_limit_is_known_to_all_when_the_call_returns(
    sqlite_store: SqliteStore, other: SqliteStore
) -> None:
    assert other.slots.limits() == {}
    sqlite_store.slots.set_limit(Limit("a", 1))
    assert other.slots.limits() == {"a": Limit("a", 1)}
    sqlite_store.slots.delete_limit("a")
    assert other.slots.limits() == {}


def test_within_a_lease_the_limits_are_read_once(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read, clock = sqlite_store.slots._read, [50.0]

    def count(sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        reads.append("read")
        return read(sql, values)

    monkeypatch.setattr(sqlite_store.slots, "_read", count)
    monkeypatch.setattr("penstock._stores.sqlite.slots.time.monotonic", lambda: clock[0])
    for _ in range(5):
        sqlite_store.slots.limits()
    assert reads == ["read"]
    clock[0] += LEASE_SECONDS
    sqlite_store.slots.limits()
    assert reads == ["read"] * 2


def test_processes_share_a_limit_and_stand_in_one_line(
    sqlite_store: SqliteStore, other: SqliteStore
) -> None:
    here, there = sqlite_store.slots, other.slots
    here.set_limit(Limit("a", 1))
    assert take(here, queue(1, 2)) == [1]
    assert take(there, queue(1, 2)) == []
    assert here.exchange({"a": 1}, [queue(2, 3)], (), NOW).granted == [2], "it stood there first"
    exchanged = here.exchange({"a": 1}, [queue(3)], (), NOW)
    assert exchanged.granted == []
    assert len(exchanged.in_turn) == 1, "it is the turn of the other one"
    assert here.exchange({}, [queue(3)], exchanged.in_turn, NOW).granted == [3], "who has missed it"
    assert take(there, queue(1, 2)) == []
    here.exchange({"a": 1}, [], (), NOW)
    assert take(there, queue(1, 2)) == [1]


def test_what_the_dead_held_is_free_and_their_position_is_gone(
    sqlite_store: SqliteStore, other: SqliteStore
) -> None:
    here, there = sqlite_store.slots, other.slots
    here.set_limit(Limit("a", 1))
    assert take(there, queue(1, 2)) == [1]
    assert take(here, queue(1)) == []
    die(other)
    assert take(here, queue(1)) == [1]
    assert [limit.taken for limit in here.read_limits(NOW)] == [1]


def test_what_a_process_holds_is_free_when_it_closes_its_store(
    sqlite_store: SqliteStore, database: Path, host: LoopThread
) -> None:
    sqlite_store.slots.set_limit(Limit("a", 1))
    other = open_sqlite(database, host)
    assert take(other.slots, queue(1)) == [1]
    other.close()
    assert take(sqlite_store.slots, queue(1)) == [1]


def test_a_process_that_lives_keeps_what_it_has(
    sqlite_store: SqliteStore, other: SqliteStore
) -> None:
    sqlite_store.slots.set_limit(Limit("a", 1))
    assert take(other.slots, queue(1)) == [1]
    for _ in range(3):
        assert take(sqlite_store.slots, queue(1)) == []


def test_a_look_at_what_is_taken_stands_in_nobodys_way(
    sqlite_store: SqliteStore, other: SqliteStore
) -> None:
    """While another process writes, who only waits does not wait for it."""
    here = sqlite_store.slots
    here.set_limit(Limit("a", 1))
    take(here, queue(1, 2))
    with other.slots._writing():
        assert take(here, queue(2)) == []


def test_slots_are_kept_across_a_pause(sqlite_store: SqliteStore) -> None:
    """A fork closes all connections."""
    slots = sqlite_store.slots
    slots.set_limit(Limit("a", 1))
    assert take(slots, queue(1)) == [1]
    sqlite_store.pause()
    sqlite_store.resume()
    assert take(slots, queue(2)) == []
    assert slots.exchange({"a": 1}, [queue(2)], (), NOW).granted == [2]


def test_a_file_that_cannot_be_used_is_a_store_error(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slots = sqlite_store.slots
    monkeypatch.setattr(slots, "_path", tmp_path / "nowhere" / "penstock.db")
    with pytest.raises(StoreError, match="cannot be used for slots"):
        slots.set_limit(Limit("a", 1))
    monkeypatch.setattr(slots, "_folder", tmp_path / "nowhere" / "holders")
    with pytest.raises(StoreError, match="No slot can be held"):
        take(slots, queue(1))


# The lock of a process


def test_a_process_is_alive_until_it_gives_its_lock_up_and_leaves_no_file(tmp_path: Path) -> None:
    lock, folder = ProcessLock(tmp_path / "holders"), tmp_path / "holders"
    assert is_alive(lock.id, folder)
    assert is_alive(lock.id, folder), "to look at it does not end it"
    lock.end()
    assert not is_alive(lock.id, folder)
    assert list(folder.iterdir()) == []


def test_the_file_of_a_dead_process_is_deleted(tmp_path: Path) -> None:
    lock, folder = ProcessLock(tmp_path / "holders"), tmp_path / "holders"
    os.close(lock._descriptor)
    assert not is_alive(lock.id, folder)
    assert list(folder.iterdir()) == []
