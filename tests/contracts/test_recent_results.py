"""What a store serves from memory is what the file has, whoever changes it."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock._model.payloads import INLINE_LIMIT, encode_result
from penstock._stores import recent
from penstock._stores.port import FoundResult
from penstock._stores.recent import LEASE_SECONDS, FreshResults, RecentResults
from penstock._stores.sqlite.store import SqliteStore
from penstock._waiting.loops import LoopThread
from tests.contracts.sources import HandTaskRun, flush, open_sqlite, record_completed


@pytest.fixture
def other_store(
    database: Path, sqlite_store: SqliteStore, host: LoopThread
) -> Iterator[SqliteStore]:
    """The same file, as another process has it open."""
    made = open_sqlite(database, host)
    yield made
    made.close()


def put(store: SqliteStore, key: str, value: object, **times: Any) -> FoundResult:
    """Write a result under a key to the file."""
    run = HandTaskRun()
    record_completed(store, run, value, key=key, **times)
    flush(store)
    return FoundResult(run.run_id, encode_result(value), times.get("expires_at"))


def remember(store: SqliteStore, key: str) -> FoundResult | None:
    """What the store finds, and serves from memory from then on for a while."""
    store.look_up(key, 0.0)  # the first of all begins a lease
    return store.look_up(key, 0.0)


@pytest.fixture
def reads(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One item for each look into the file."""
    read, made = sqlite_store._look_into_file, list[object]()

    def noted(key: str, now: float) -> FoundResult | None:
        made.append(key)
        return read(key, now)

    monkeypatch.setattr(sqlite_store, "_look_into_file", noted)
    return made


@pytest.fixture
def long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease ends during the test."""
    monkeypatch.setattr(recent, "LEASE_SECONDS", 1000.0)


# What is served


@pytest.mark.usefixtures("long_leases")
def test_a_hit_on_what_was_read_lately_does_not_look_into_the_file(
    sqlite_store: SqliteStore, reads: list[object]
) -> None:
    found = put(sqlite_store, "a", 1)
    remember(sqlite_store, "a")
    before = len(reads)
    assert [sqlite_store.look_up("a", 0.0) for _ in range(5)] == [found] * 5
    assert len(reads) == before


def test_when_the_lease_has_ended_the_file_is_asked_again(
    sqlite_store: SqliteStore, reads: list[object]
) -> None:
    put(sqlite_store, "a", 1)
    remember(sqlite_store, "a")
    before = len(reads)
    time.sleep(LEASE_SECONDS)
    sqlite_store.look_up("a", 0.0)
    assert len(reads) == before + 1


@pytest.mark.usefixtures("long_leases")
def test_a_new_entry_of_another_key_leaves_the_others_in_memory(
    sqlite_store: SqliteStore, reads: list[object]
) -> None:
    put(sqlite_store, "a", 1)
    remember(sqlite_store, "a")
    put(sqlite_store, "b", 1)
    sqlite_store.look_up("b", 0.0)
    before = len(reads)
    sqlite_store.look_up("a", 0.0)
    assert len(reads) == before


@pytest.mark.usefixtures("long_leases")
def test_an_entry_in_memory_expires(sqlite_store: SqliteStore) -> None:
    found = put(sqlite_store, "a", 1, expires_at=60.0)
    assert remember(sqlite_store, "a") == found
    assert sqlite_store.look_up("a", 59.9) == found
    assert sqlite_store.look_up("a", 60.0) is None


@pytest.mark.usefixtures("long_leases")
def test_a_newer_entry_of_this_process_is_served_at_once(sqlite_store: SqliteStore) -> None:
    put(sqlite_store, "a", 1)
    remember(sqlite_store, "a")
    assert put(sqlite_store, "a", 2) == sqlite_store.look_up("a", 0.0)


@pytest.mark.usefixtures("long_leases")
def test_what_a_slow_reader_found_is_not_served_after_a_newer_entry(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the file, and goes on when the newer entry is there."""
    put(sqlite_store, "a", 1)
    remember(sqlite_store, "a")
    sqlite_store._recent.drop(["a"])
    newer: list[FoundResult] = []
    read = sqlite_store._read

    def slow(*args: Any) -> list[tuple[Any, ...]]:
        rows = read(*args)
        if not newer:
            newer.append(put(sqlite_store, "a", 2))
        return rows

    monkeypatch.setattr(sqlite_store, "_read", slow)
    sqlite_store.look_up("a", 0.0)
    assert [sqlite_store.look_up("a", 0.0)] == newer


# What other processes do


def clear_one(store: SqliteStore) -> None:
    store.clear_cache("a")


def clear_all(store: SqliteStore) -> None:
    store.clear_cache(None)


def prune(store: SqliteStore) -> None:
    store.prune(None, keep_cache=False, now=0.0)


@pytest.mark.parametrize("delete", [clear_one, clear_all, prune])
def test_what_another_process_has_deleted_is_not_served(
    sqlite_store: SqliteStore, other_store: SqliteStore, delete: Callable[[SqliteStore], None]
) -> None:
    """However often it is asked for meanwhile."""
    put(sqlite_store, "a", 1)
    deleted = threading.Event()

    def work() -> None:
        delete(other_store)
        deleted.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not deleted.is_set():
        sqlite_store.look_up("a", 0.0)
    assert sqlite_store.look_up("a", 0.0) is None
    thread.join()


def test_a_newer_entry_of_another_process_is_served_a_lease_after_its_commit(
    sqlite_store: SqliteStore, other_store: SqliteStore
) -> None:
    for number in range(10):
        found = put(other_store, "a", number)
        time.sleep(LEASE_SECONDS)
        assert remember(sqlite_store, "a") == found


# Memory


@pytest.mark.usefixtures("long_leases")
def test_large_results_are_not_kept_in_memory(
    sqlite_store: SqliteStore, reads: list[object]
) -> None:
    """Nor are references to files, as the file may go before the entry does."""
    for key, size in (("a", 5000), ("b", INLINE_LIMIT)):
        put(sqlite_store, key, b"x" * size)
        remember(sqlite_store, key)
        before = len(reads)
        sqlite_store.look_up(key, 0.0)
        assert len(reads) == before + 1


@pytest.mark.usefixtures("long_leases")
def test_the_number_of_results_in_memory_is_bounded() -> None:
    results = RecentResults()
    for number in range(10_000):
        results.about_to_read().note(0, str(number), FoundResult(b"", b"mx", None))
        assert len(results._found) <= 4096
    assert results.get("9999", 0.0) is not None


# Two processes, any order


class TwoStores(RuleBasedStateMachine):
    """Two stores on one file; after each step, and a lease, both find what was written last."""

    keys = st.sampled_from("abc")
    which = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name)
        self.host = LoopThread("test-host")
        self.stores = [open_sqlite(path / "penstock.db", self.host) for _ in range(2)]
        self.model: dict[str, FoundResult] = {}
        self.clock = itertools.count()

    @rule(key=keys, which=which)
    def write(self, key: str, which: int) -> None:
        moment = next(self.clock)
        self.model[key] = put(self.stores[which], key, moment, created_at=float(moment))
        assert self.stores[which].look_up(key, 0.0) == self.model[key]
        time.sleep(LEASE_SECONDS)

    @rule(key=keys | st.none(), which=which)
    def clear(self, key: str | None, which: int) -> None:
        self.stores[which].clear_cache(key)
        for gone in self.model.keys() & (self.model.keys() if key is None else {key}):
            del self.model[gone]

    @rule(which=which)
    def prune(self, which: int) -> None:
        self.stores[which].prune(None, keep_cache=False, now=0.0)
        self.model.clear()

    @invariant()
    def both_find_what_is_there(self) -> None:
        for store, key in itertools.product(self.stores, "abc"):
            assert store.look_up(key, 0.0) == self.model.get(key)
            assert store.look_up(key, 0.0) == self.model.get(key)

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.host.stop()
        self._folder.cleanup()


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# What is on its way to the file


class Meddling(dict[str, Any]):
    """The fresh results, with another thread that comes in once one of them was looked at."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._meddle = meddle

    def get(self, key: str, default: object = None, /) -> Any:
        found = super().get(key, default)
        self._meddle()
        return found


def test_a_result_noted_while_an_older_one_is_dropped_stays() -> None:
    fresh, older, newer = FreshResults(), HandTaskRun(), HandTaskRun()
    older.complete(1, key="key")
    newer.complete(2, key="key")
    thread = threading.Thread(target=fresh.note, args=(newer, b"2"))

    def note_the_newer() -> None:
        if thread.ident is None:
            thread.start()
            thread.join(0.05)

    fresh._found = Meddling(note_the_newer)
    fresh.note(older, b"1")
    assert older.cache_row is not None
    fresh.drop(older.cache_row)
    thread.join()
    assert fresh.get("key") == FoundResult(newer.run_id, b"2", None)
