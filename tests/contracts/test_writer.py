"""The writer in the engine's loop: what ends its waits, and that nothing ends it too early."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from penstock._stores.sqlite.store import SqliteStore
from penstock._stores.writing import writer
from penstock._waiting.latch import Latch
from penstock._waiting.loops import AsyncioPort, LoopThread
from penstock.exceptions import StoreError
from tests.contracts.sources import HandTaskRun, flush, open_sqlite, record, record_completed
from tests.contracts.test_sqlite_file import count, locked
from tests.patience import PATIENCE_SECONDS, soon


def until(condition: Callable[[], bool]) -> None:
    """Wait, with nothing that would wake a writer."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


def until_idle(store: SqliteStore) -> None:
    """Wait until the writer sleeps in the loop."""
    until(lambda: store._writer._idleness is not None)


# Waking


def test_what_is_recorded_is_written_though_nobody_waits_for_it(
    sqlite_store: SqliteStore, database: Path
) -> None:
    """Again and again, also while the writer is about to fall asleep."""
    for expected in range(1, 31):
        if expected % 3:
            until_idle(sqlite_store)
        record(sqlite_store, HandTaskRun(), "Pending")
        until(lambda expected=expected: count(database, "task_run") == expected)  # type: ignore[misc]  # a default that binds


def test_an_interrupt_while_the_writer_is_woken_lets_the_next_record_wake_it(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_idle(sqlite_store)

    def interrupted(*_args: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AsyncioPort, "call_soon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record(sqlite_store, HandTaskRun(), "Pending")
    time.sleep(0.02)
    assert count(database, "task_run") == 0
    record(sqlite_store, HandTaskRun(), "Pending")
    until(lambda: count(database, "task_run") == 2)


def test_a_barrier_waits_for_no_more_runs(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the writer is idle, or waits for its batch to grow."""
    monkeypatch.setattr(writer, "_GATHER_SECONDS", 60.0)
    for _ in range(20):
        record(sqlite_store, HandTaskRun(), "Pending")
        time.sleep(0.001)
        assert sqlite_store.barrier().wait(PATIENCE_SECONDS)


# The engine's loop


def test_the_loop_is_never_held_up(
    sqlite_store: SqliteStore, database: Path, host: LoopThread
) -> None:
    """The timers of retries are there: they fire while the writer waits for another process."""
    with locked(database):
        record_completed(sqlite_store, HandTaskRun(), b"x" * 100_000)
        barrier = sqlite_store.barrier()
        longest = 0.0
        for _ in range(50):
            answered, asked_at = Latch(), time.monotonic()
            host.port.call_soon(answered.set)
            assert answered.wait(PATIENCE_SECONDS)
            longest = max(longest, time.monotonic() - asked_at)
            time.sleep(0.005)
        assert not barrier.is_set()
    assert soon(longest, 1.0), "and not the seconds for which SQLite waits"
    assert barrier.wait(PATIENCE_SECONDS)


def test_a_busy_loop_delays_what_is_written_and_loses_nothing(
    sqlite_store: SqliteStore, database: Path, host: LoopThread
) -> None:
    until_idle(sqlite_store)
    host.port.call_soon(time.sleep, 0.1)
    for _ in range(10):
        record_completed(sqlite_store, HandTaskRun())
    flush(sqlite_store)
    assert count(database, "task_run") == 10


def test_a_loop_that_is_stopped_before_the_store_is_closed_has_all_written(
    tmp_path: Path, host: LoopThread
) -> None:
    """So it is when Ctrl-C comes while the engine is being closed."""
    path = tmp_path / "penstock.db"
    store = open_sqlite(path, host)
    with locked(path) as other:
        for _ in range(100):
            record_completed(store, HandTaskRun())
        time.sleep(0.02)
        threading.Timer(0.1, other.execute, ["ROLLBACK"]).start()
        for _ in range(100):
            record_completed(store, HandTaskRun())
        host.stop()
    assert count(path, "task_run") == 200
    store.close()


def test_a_store_whose_loop_is_closed_says_so_and_holds_nobody_up(
    tmp_path: Path, host: LoopThread
) -> None:
    store = open_sqlite(tmp_path / "penstock.db", host)
    host.stop()
    record_completed(store, HandTaskRun())
    assert store.barrier().wait(PATIENCE_SECONDS)
    host = LoopThread("test-closed")
    host.stop()
    with pytest.raises(StoreError, match="has stopped"):
        open_sqlite(tmp_path / "penstock.db", host)


# The thread of the connection


def test_the_thread_of_the_connection_is_a_daemon_and_ends_with_it(
    tmp_path: Path, host: LoopThread
) -> None:
    """The end of a script waits for all other threads before it calls what atexit knows."""
    store = open_sqlite(tmp_path / "penstock.db", host)
    (thread,) = (t for t in threading.enumerate() if t.name == "penstock-writer")
    assert thread.daemon
    store.pause()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    store.resume()
    record_completed(store, HandTaskRun())
    store.close()
    until(lambda: "penstock-writer" not in {t.name for t in threading.enumerate()})


# Closing


def test_a_store_is_closed_from_any_thread_and_more_than_once(
    tmp_path: Path, host: LoopThread
) -> None:
    path = tmp_path / "penstock.db"
    store = open_sqlite(path, host)
    for _ in range(50):
        record_completed(store, HandTaskRun())
    errors: list[BaseException] = []

    def close() -> None:
        try:
            store._writer.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    store.close()
    store.close()
    assert errors == []
    assert count(path, "task_run") == 50


def test_a_barrier_after_the_end_is_set_at_once(tmp_path: Path, host: LoopThread) -> None:
    store = open_sqlite(tmp_path / "penstock.db", host)
    store.close()
    assert store.barrier().is_set()


def test_closing_while_a_batch_is_being_written_waits_for_it(
    tmp_path: Path, host: LoopThread
) -> None:
    path = tmp_path / "penstock.db"
    store = open_sqlite(path, host)
    with locked(path) as other:
        record_completed(store, HandTaskRun())
        until(lambda: not store._writer._queue)
        threading.Timer(0.1, other.execute, ["ROLLBACK"]).start()
        store.close()
    assert count(path, "task_run") == 1


# Pausing


def test_a_pause_that_is_too_short_for_the_batch_leaves_one_writer(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on by itself once it has found out that nobody waits any more."""
    monkeypatch.setattr(writer, "_PATIENCE_SECONDS", 0.02)
    with locked(database):
        record_completed(sqlite_store, HandTaskRun())
        until(lambda: not sqlite_store._writer._queue)
        for _ in range(3):
            sqlite_store.pause()
            sqlite_store.resume()
    record_completed(sqlite_store, HandTaskRun())
    flush(sqlite_store)
    assert count(database, "task_run") == 2
    until(lambda: [t.name for t in threading.enumerate()].count("penstock-writer") == 1)


def test_what_is_recorded_in_a_pause_is_written_after_it(
    sqlite_store: SqliteStore, database: Path
) -> None:
    for expected in range(1, 21):
        sqlite_store.pause()
        record_completed(sqlite_store, HandTaskRun())
        barrier = sqlite_store.barrier()
        assert not barrier.is_set()
        sqlite_store.resume()
        assert barrier.wait(PATIENCE_SECONDS)
        assert count(database, "task_run") == expected


def test_a_file_that_is_gone_after_a_pause_is_said_and_holds_nobody_up(
    tmp_path: Path, host: LoopThread
) -> None:
    path = tmp_path / "folder" / "penstock.db"
    store = open_sqlite(path, host)
    store.pause()
    record_completed(store, HandTaskRun())
    barrier = store.barrier()
    path.parent.rename(tmp_path / "elsewhere")
    store.resume()
    assert barrier.wait(PATIENCE_SECONDS)
    with pytest.raises(StoreError, match="has stopped"):
        store.check()
    with pytest.raises(StoreError, match="has stopped"):
        store.close()
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "penstock.db")) as connection:
        assert connection.execute("SELECT count(*) FROM task_run").fetchone() == (0,)
