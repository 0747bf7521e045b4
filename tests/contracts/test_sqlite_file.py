"""What holds for the SQLite store alone: the file, other processes' locks, large results."""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, history, task
from penstock._engine.engine import Engine
from penstock._engine.process import get_engine, use_settings
from penstock._model.payloads import INLINE_LIMIT, decode_result, encode_result
from penstock._model.rows import TaskRow
from penstock._stores.port import Pruned, Query
from penstock._stores.sqlite import batch_statements, pruning, schema, target
from penstock._stores.sqlite import store as sqlite
from penstock._stores.sqlite.headers import APPLICATION_ID
from penstock._stores.sqlite.store import SqliteStore
from penstock._stores.writing import batches, writer
from penstock._waiting import worker_lanes
from penstock._waiting.latch import Latch
from penstock._waiting.loops import LoopThread
from penstock.exceptions import NotADatabase, ResultUnavailable, SchemaTooNew, StoreError
from penstock.settings import Settings, load_settings
from tests.contracts.sources import (
    HandFlowRun,
    HandTaskRun,
    flow_definition,
    flush,
    open_sqlite,
    record,
    record_completed,
    task_definition,
)
from tests.patience import PATIENCE_SECONDS

LARGE = b"x" * INLINE_LIMIT
posix_only = pytest.mark.skipif(os.name == "nt", reason="modes are a matter of POSIX")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def count(database: Path, table: str) -> int:
    """How many rows another process would see."""
    with closing(sqlite3.connect(database)) as connection:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(rows)


@contextmanager
def locked(database: Path) -> Generator[sqlite3.Connection]:
    """Another process is writing, and takes its time."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.close()


# The file


@posix_only
def test_all_files_can_be_read_by_their_owner_alone(
    sqlite_store: SqliteStore, database: Path
) -> None:
    """Also where the umask would allow more."""
    record_completed(sqlite_store, HandTaskRun(), LARGE)
    flush(sqlite_store)
    files = [path for path in database.parent.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"penstock.db", "penstock.db-wal", "penstock.db-shm"}
    assert len(files) == 4
    assert {mode_of(path) for path in files} == {0o600}


@posix_only
def test_the_folders_made_can_be_entered_by_their_owner_alone(
    tmp_path: Path, host: LoopThread
) -> None:
    before = os.umask(0)
    try:
        store = open_sqlite(tmp_path / "new" / "penstock.db", host)
        record_completed(store, HandTaskRun(), LARGE)
        store.close()
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "new") == 0o700
    assert mode_of(tmp_path / "new" / "storage") == 0o700
    assert mode_of(tmp_path / "new" / "penstock.db") == 0o600


def test_the_file_is_in_wal_mode_and_carries_our_mark(
    sqlite_store: SqliteStore, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_a_file_is_opened_again_with_all_that_was_in_it(tmp_path: Path, host: LoopThread) -> None:
    run = HandTaskRun(task_definition("red", ["warm"]))
    store = open_sqlite(tmp_path / "penstock.db", host)
    record_completed(store, run, "value", key="k")
    store.close()
    again = open_sqlite(tmp_path / "penstock.db", host)
    (found,) = again.task_runs(Query(tag="warm"))
    assert found.row == run.row(3, encode_result("value"))
    assert again.look_up("k", now=0.0) == (run.run_id, encode_result("value"), None)
    again.close()


def test_an_empty_file_becomes_a_database(tmp_path: Path, host: LoopThread) -> None:
    (tmp_path / "penstock.db").touch()
    store = open_sqlite(tmp_path / "penstock.db", host)
    record_completed(store, HandTaskRun())
    store.close()
    assert count(tmp_path / "penstock.db", "task_run") == 1


def test_a_file_name_with_characters_of_urls_in_it_is_a_file_name(
    tmp_path: Path, host: LoopThread
) -> None:
    path = tmp_path / "a b?mode=rw#100%" / "penstock ü.db"
    store = open_sqlite(path, host)
    run = HandTaskRun()
    record_completed(store, run)
    flush(store)
    assert [found.row.id for found in store.task_runs(Query())] == [run.run_id]
    store.close()
    assert path.exists()


def test_the_path_may_be_relative_and_the_process_may_change_its_folder(
    tmp_path: Path, host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_sqlite(Path("penstock.db"), host)
    run = HandTaskRun()
    record_completed(store, run, LARGE)
    flush(store)
    monkeypatch.chdir(tmp_path / "other")
    payload = store.payload_of(run.run_id)
    assert payload is not None
    assert decode_result(payload, store.load) == LARGE
    assert store.prune(None, keep_cache=False, now=0.0).task_runs == 1
    store.close()
    assert not list((tmp_path / "other").iterdir())


# Files that are refused


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, host: LoopThread) -> None:
    path = tmp_path / "penstock.db"
    open_sqlite(path, host).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(SchemaTooNew, match=r"schema version 99.*PENSTOCK_DATABASE_URL"):
        open_sqlite(path, host)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)


@pytest.mark.parametrize(
    "content",
    [b"Dear diary, " * 1000, b"SQLite format 3\x00" + b"\xff" * 5000, b"ab"],
    ids=["a text", "a damaged header", "two bytes"],
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, host: LoopThread, content: bytes
) -> None:
    path = tmp_path / "penstock.db"
    path.write_bytes(content)
    with pytest.raises(NotADatabase, match="PENSTOCK_DATABASE_URL") as caught:
        open_sqlite(path, host)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("application_id", [0, 0x0F055112])
def test_the_database_of_another_application_is_refused_and_left_alone(
    tmp_path: Path, host: LoopThread, application_id: int
) -> None:
    path = tmp_path / "penstock.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text)")
        connection.execute(f"PRAGMA application_id={application_id}")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(NotADatabase, match=r"another application.*PENSTOCK_DATABASE_URL"):
        open_sqlite(path, host)
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path: Path, host: LoopThread) -> None:
    (tmp_path / "penstock.db").mkdir()
    with pytest.raises(StoreError, match="PENSTOCK_DATABASE_URL"):
        open_sqlite(tmp_path / "penstock.db", host)


def test_a_path_below_a_file_is_refused(tmp_path: Path, host: LoopThread) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="PENSTOCK_DATABASE_URL"):
        open_sqlite(tmp_path / "file" / "penstock.db", host)


@linux_only
def test_a_place_that_cannot_be_written_is_refused(host: LoopThread) -> None:
    with pytest.raises(StoreError, match="PENSTOCK_DATABASE_URL"):
        open_sqlite(Path("/proc/penstock/penstock.db"), host)


def test_an_engine_on_a_refused_file_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "penstock.db").write_text("Dear diary")
    url = f"sqlite:///{tmp_path / 'penstock.db'}"
    settings = load_settings({"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_DATABASE_URL": url})
    before = set(threading.enumerate())
    with pytest.raises(NotADatabase, match="PENSTOCK_DATABASE_URL"):
        Engine(settings)
    assert set(threading.enumerate()) == before


# Migrations


def test_an_older_file_is_migrated_with_its_rows(
    tmp_path: Path, host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "penstock.db", HandTaskRun()
    store = open_sqlite(path, host)
    record_completed(store, run)
    store.close()
    present = len(schema.MIGRATIONS)
    newer = (*schema.MIGRATIONS, "CREATE TABLE a (x); CREATE TABLE b (y);")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    store = open_sqlite(path, host)
    assert [found.row.id for found in store.task_runs(Query())] == [run.run_id]
    store.close()
    assert (count(path, "a"), count(path, "b")) == (0, 0)
    monkeypatch.setattr(schema, "MIGRATIONS", newer[:present])
    with pytest.raises(SchemaTooNew):
        open_sqlite(path, host)


def test_a_file_of_version_1_is_migrated_and_answers_every_kind_of_question(
    tmp_path: Path, host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, present = tmp_path / "penstock.db", schema.MIGRATIONS
    # The rows of today have a name besides, which is taken away when they are written; entries of
    # the cache have columns more, so one is written by hand.
    name = "ALTER TABLE task_run ADD COLUMN name TEXT;"
    monkeypatch.setattr(schema, "MIGRATIONS", (present[0] + name,))
    store = open_sqlite(path, host)
    top = HandFlowRun(flow_definition("top", ["daily"]))
    called = HandFlowRun(flow_definition("sub"), parent_id=top.run_id)
    good = HandTaskRun(task_definition("red", ["warm"]), flow_run_id=top.run_id)
    bad = HandTaskRun(task_definition("red", ["warm"]), flow_run_id=top.run_id)
    record_completed(store, top)
    record(store, called, "Pending", "TimedOut")
    record_completed(store, good, "value")
    record(store, bad, "Pending", "Running", "Failed")
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE task_run DROP COLUMN name")
        connection.execute("INSERT INTO cache VALUES ('k', ?, 0.0, NULL)", (good.run_id,))
    monkeypatch.setattr(schema, "MIGRATIONS", present)
    store = open_sqlite(path, host)

    def tasks(**conditions: Any) -> list[bytes]:
        return [found.row.id for found in store.task_runs(Query(**conditions))]

    def flows(**conditions: Any) -> list[bytes]:
        return [found.row.id for found in store.flow_runs(Query(**conditions))]

    assert tasks() == tasks(name="red") == tasks(tag="warm") == [bad.run_id, good.run_id]
    assert tasks(flow_run_id=top.run_id) == [bad.run_id, good.run_id]
    assert tasks(states=("COMPLETED",), name="red") == [good.run_id]
    assert tasks(states=("FAILED",)) == tasks(states=("Failed",), name="red") == [bad.run_id]
    assert tasks(states=("FAILED",), flow_run_id=top.run_id, tag="warm") == [bad.run_id]
    assert flows(tag="daily") == flows(name="top") == [top.run_id]
    assert flows(parent_id=top.run_id) == flows(states=("TimedOut",)) == [called.run_id]
    assert flows(parent_id=top.run_id, states=("FAILED",), name="sub") == [called.run_id]
    assert store.look_up("k", now=0.0) == (good.run_id, encode_result("value"), None)
    record(store, bad, "Pending")
    flush(store)
    assert tasks(states=("FAILED",)) == []
    assert store.prune(None, keep_cache=False, now=0.0) == Pruned(2, 1, 1)
    store.close()


def test_a_migrated_file_has_the_tables_and_indexes_of_a_new_one(tmp_path: Path) -> None:
    schemas: list[list[tuple[Any, ...]]] = []
    for first in (1, len(schema.MIGRATIONS)):
        path = tmp_path / f"{first}.db"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:first])
            schema.prepare_file(path, "normal")
        schema.prepare_file(path, "normal")
        with closing(sqlite3.connect(path)) as connection:
            columns = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
            schemas.append(connection.execute(columns).fetchall())
    assert schemas[0] == schemas[1]


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, present = tmp_path / "penstock.db", schema.MIGRATIONS
    open_sqlite(path, host).close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*present, "CREATE TABLE a (x); CREATE NONSENSE;"))
    with pytest.raises(StoreError):
        open_sqlite(path, host)
    monkeypatch.setattr(schema, "MIGRATIONS", present)
    open_sqlite(path, host).close()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        count(path, "a")


@pytest.mark.parametrize("turn", range(8))
def test_another_process_may_make_the_file_between_any_two_steps_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """It comes before statement number `turn`, unless we hold the file's lock at that moment."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 1.0)
    path, steps, connect = tmp_path / "penstock.db", itertools.count(), sqlite3.connect

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if next(steps) == turn and not self.in_transaction:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(sqlite3, "connect", connect)
                    schema.prepare_file(path, "normal")
            return super().execute(sql, parameters)

    def connect_interrupted(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **{**options, "factory": Interrupted})
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_interrupted)
    schema.prepare_file(path, "normal")
    monkeypatch.undo()
    assert count(path, "task_run") == 0


def test_many_may_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    """Ten times: none of them fails, and the tables are made once."""
    failures: list[BaseException] = []

    def open_file(path: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            schema.prepare_file(path, "normal")
        except BaseException as error:
            failures.append(error)

    for attempt in range(10):
        path, together = tmp_path / f"{attempt}.db", threading.Barrier(4)
        threads = [threading.Thread(target=open_file, args=(path, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert count(path, "task_run") == 0


# Writing


def test_a_barrier_is_set_only_after_another_connection_can_see_the_rows(
    sqlite_store: SqliteStore, database: Path
) -> None:
    """It looks at the very moment in which the barrier is set."""
    for expected in range(1, 21):
        record_completed(sqlite_store, HandTaskRun())
        seen: list[int] = []
        looked = threading.Event()

        def look(seen: list[int] = seen, looked: threading.Event = looked) -> None:
            seen.append(count(database, "task_run"))
            looked.set()

        sqlite_store.barrier().add_callback(look)
        assert looked.wait(PATIENCE_SECONDS)
        assert seen == [expected]


def test_a_locked_file_delays_the_rows_and_loses_none(
    sqlite_store: SqliteStore, database: Path
) -> None:
    """No barrier is set as long as another connection keeps the writer out."""
    runs = [HandTaskRun() for _ in range(50)]
    with locked(database):
        for run in runs:
            record_completed(sqlite_store, run)
        barrier = sqlite_store.barrier()
        assert not barrier.wait(0.2)
        assert sqlite_store.task_runs(Query()) == []
        for run in runs[:3]:
            assert sqlite_store.payload_of(run.run_id) is None
        time.sleep(0.1)
        assert not barrier.is_set()
    assert barrier.wait(PATIENCE_SECONDS)
    sqlite_store.check()
    assert {f.row.id for f in sqlite_store.task_runs(Query())} == {run.run_id for run in runs}


def test_results_are_found_while_the_file_is_locked(
    sqlite_store: SqliteStore, database: Path
) -> None:
    on_disk, in_queue = HandTaskRun(), HandTaskRun()
    record_completed(sqlite_store, on_disk, 1, key="on disk")
    flush(sqlite_store)
    with locked(database):
        record_completed(sqlite_store, in_queue, 2, key="in queue")
        assert sqlite_store.look_up("on disk", now=0.0) is not None
        assert sqlite_store.look_up("in queue", now=0.0) is not None


def test_a_deletion_that_a_lock_keeps_out_closes_its_connection(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush(sqlite_store)
    made: list[sqlite3.Connection] = []

    def connect_impatiently(path: Path, _synchronous: str) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, timeout=0, isolation_level=None))
        return made[0]

    monkeypatch.setattr(sqlite, "connect", connect_impatiently)
    with locked(database), pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite_store.clear_cache(None)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_a_new_file_that_another_process_is_just_making_is_waited_for(
    tmp_path: Path, host: LoopThread
) -> None:
    path = tmp_path / "penstock.db"
    with locked(path) as other:
        release = threading.Timer(0.1, other.execute, ["ROLLBACK"])
        release.start()
        store = open_sqlite(path, host)
        release.join()
    record_completed(store, HandTaskRun())
    store.close()
    assert count(path, "task_run") == 1


class GoingOn(HandTaskRun):
    """A run that ends in the moment in which the store is writing an earlier state of it."""

    store: SqliteStore | None = None

    def row(self, length: int, payload: bytes | None) -> TaskRow:
        row = super().row(length, payload)
        store, self.store = self.store, None
        if store is not None:
            store.record(self, self.complete("value", key="k"))
        return row


def test_a_result_is_in_sight_while_an_earlier_state_of_its_run_is_written(
    sqlite_store: SqliteStore,
) -> None:
    """The look-up comes when the earlier state is on disk and the result is in the queue."""
    run = GoingOn()
    run.store = sqlite_store
    seen: list[object] = []
    record(sqlite_store, run, "Pending", "Running")
    barrier = sqlite_store.barrier()
    barrier.add_callback(lambda: seen.append(sqlite_store.look_up("k", now=0.0)))
    flush(sqlite_store)
    flush(sqlite_store)
    assert seen == [(run.run_id, encode_result("value"), None)]
    assert sqlite_store.look_up("k", now=0.0) == seen[0]


def test_a_batch_of_more_rows_than_a_statement_takes_is_written_whole(
    sqlite_store: SqliteStore, database: Path
) -> None:
    rows = 2 * batches.RUNS_A_BATCH + batch_statements.STATEMENT_SIZES[0] + 197
    with locked(database):
        for _ in range(rows):
            record(sqlite_store, HandTaskRun(), "Pending")
            record(sqlite_store, HandFlowRun(), "Pending")
    flush(sqlite_store)
    assert (count(database, "task_run"), count(database, "flow_run")) == (rows, rows)


def test_two_rows_of_one_run_in_one_batch_leave_the_later_one(
    sqlite_store: SqliteStore, database: Path
) -> None:
    """So it is when a flow's retry runs a task once more in the place of a failed one."""
    first = HandTaskRun()
    record(sqlite_store, first, "Pending", "Running", "Failed")
    again = HandTaskRun(first.definition, first.run_id)
    again.states = list(first.states)
    record(sqlite_store, again, "Pending", "Running", "Completed")
    flush(sqlite_store)
    (found,) = sqlite_store.task_runs(Query())
    assert found.row == again.row(6, None)


def test_the_newest_of_two_processes_results_wins_whoever_writes_last(
    sqlite_store: SqliteStore, database: Path, host: LoopThread
) -> None:
    """One process is held up between its result and its commit."""
    other = open_sqlite(database, host)
    older, newer = HandTaskRun(), HandTaskRun()
    sqlite_store.pause()
    record_completed(sqlite_store, older, "older", key="k", created_at=1.0)
    record_completed(other, newer, "newer", key="k", created_at=2.0)
    flush(other)
    sqlite_store.resume()
    flush(sqlite_store)
    newest = (newer.run_id, encode_result("newer"), None)
    assert other.look_up("k", now=0.0) == newest
    assert sqlite_store.look_up("k", now=0.0) == newest
    other.close()


def test_definitions_are_written_once(tmp_path: Path, host: LoopThread) -> None:
    """However many runs, batches and stores there are."""
    path = tmp_path / "penstock.db"
    tasks = [task_definition(name) for name in ("red", "blue")]
    works = flow_definition()
    for _ in range(2):
        store = open_sqlite(path, host)
        for _ in range(3):
            for definition in tasks:
                record_completed(store, HandTaskRun(definition))
            record_completed(store, HandFlowRun(works))
            flush(store)
        store.close()
    assert count(path, "definition") == 3
    assert (count(path, "task_run"), count(path, "flow_run")) == (12, 6)


# Back-pressure


def test_a_store_that_cannot_follow_asks_for_relief_until_half_is_written(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_ITEMS_IN_QUEUE", 100)
    monkeypatch.setattr(batches, "RUNS_A_BATCH", 5)
    with locked(database):
        for _ in range(120):
            record(sqlite_store, HandTaskRun(), "Pending")
        room = sqlite_store.room()
        assert room is not None
        assert sqlite_store.room() is room
        assert not room.wait(0.05)
    assert room.wait(PATIENCE_SECONDS)
    assert len(sqlite_store._writer._queue) <= 50
    flush(sqlite_store)
    assert sqlite_store.room() is None


def test_large_results_count_by_their_bytes(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_BYTES_IN_QUEUE", 10 * 5000)
    with locked(database):
        for _ in range(9):
            record_completed(sqlite_store, HandTaskRun(), b"x" * 5000)
        assert sqlite_store.room() is None
        for _ in range(2):
            record_completed(sqlite_store, HandTaskRun(), b"x" * 5000)
        room = sqlite_store.room()
        assert room is not None
        assert not room.wait(0.05)
    assert room.wait(PATIENCE_SECONDS)
    flush(sqlite_store)
    assert sqlite_store.room() is None
    assert sqlite_store._writer._bytes == 0


def test_relief_comes_also_where_the_writer_was_faster_than_the_one_who_asks(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written between the look at the queue and the decision to wait."""
    monkeypatch.setattr(writer, "_BYTES_IN_QUEUE", 4 * 5000)
    for _ in range(5):
        record_completed(sqlite_store, HandTaskRun(), b"x" * 5000)
    check = sqlite_store._writer.check

    def check_slowly() -> None:
        sqlite_store.barrier().wait(5)
        check()

    monkeypatch.setattr(sqlite_store._writer, "check", check_slowly)
    room = sqlite_store.room()
    assert room is None or room.wait(PATIENCE_SECONDS)


def test_flows_wait_for_a_store_that_cannot_follow_and_lose_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the file is locked the queue stays short, whatever a flow has to record."""
    monkeypatch.setattr(writer, "_ITEMS_IN_QUEUE", 60)
    store = engine.store
    assert isinstance(store, SqliteStore)
    lengths: list[int] = []

    @task
    def step(index: int) -> int:
        lengths.append(len(store._writer._queue))
        return index

    @flow
    def steps() -> int:
        return sum(step(index) for index in range(200))

    results: list[int] = []
    step(0)  # the definition's first row
    flush(store)
    with locked(store.path):
        thread = threading.Thread(target=lambda: results.append(steps()))
        thread.start()
        thread.join(0.2)
        held_up = thread.is_alive()
    thread.join(PATIENCE_SECONDS)
    assert held_up
    assert results == [sum(range(200))]
    assert max(lengths) <= 60 + 10
    assert len(history.task_runs(limit=1000)) == 201


# Forks


@linux_only
def test_a_paused_store_has_no_file_open(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """SQLite keeps its locks in the memory of the process, which a fork would copy."""
    record_completed(sqlite_store, HandTaskRun(), 1, key="k")
    flush(sqlite_store)
    sqlite_store.task_runs(Query())
    sqlite_store.pause()
    record_completed(sqlite_store, HandTaskRun(), 1)
    opened = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    time.sleep(0.01)
    assert count(sqlite_store.path, "task_run") == 1
    sqlite_store.resume()
    assert [path for path in opened if str(tmp_path) in path] == []


# What cannot be written


def test_a_store_that_cannot_write_any_more_says_so_and_holds_nobody_up(
    tmp_path: Path, host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "_GIVE_UP_SECONDS", 0.0)
    path = tmp_path / "penstock.db"
    store = open_sqlite(path, host)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE task_run")
        connection.commit()
    record_completed(store, HandTaskRun())
    assert store.barrier().wait(PATIENCE_SECONDS)
    with pytest.raises(StoreError, match="task_run"):
        store.check()
    record_completed(store, HandTaskRun())
    assert store.barrier().wait(PATIENCE_SECONDS)
    with pytest.raises(StoreError, match="task_run"):
        store.close()


def test_a_store_whose_writer_dies_says_so_and_holds_nobody_up(
    tmp_path: Path, host: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the writer meets, a barrier of its batch is not left unset."""
    store = open_sqlite(tmp_path / "penstock.db", host)

    class Broken(HandTaskRun):
        def row(self, length: int, payload: bytes | None) -> TaskRow:  # noqa: ARG002  # as all
            raise AssertionError("no such row")

    record(store, Broken(), "Pending")
    assert store.barrier().wait(PATIENCE_SECONDS)
    assert store.barrier().wait(PATIENCE_SECONDS)
    with pytest.raises(StoreError):
        store.check()
    with pytest.raises(StoreError):
        store.close()


def test_an_unwritable_storage_folder_loses_large_results_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The call gives its value, the log names the folder, and the history says what is missing."""
    (tmp_path / "storage").touch()

    @task(cache_key_fn=lambda _context, parameters: parameters["size"])
    def result(size: int) -> bytes:
        return b"x" * size

    settings = load_settings(
        {
            "PENSTOCK_HOME": str(tmp_path),
            "PENSTOCK_LOCAL_STORAGE_PATH": str(tmp_path / "storage"),
        }
    )
    with use_settings(settings):
        assert len(result(INLINE_LIMIT)) == INLINE_LIMIT
        assert result(5) == b"x" * 5
        small, large = (run.state for run in history.task_runs())
        assert small.result() == b"x" * 5
        with pytest.raises(ResultUnavailable, match=r"was not stored: .*storage"):
            large.result()
        assert len(result(INLINE_LIMIT)) == INLINE_LIMIT
        assert [run.state.name for run in history.task_runs()] == ["Completed"] * 3
    assert str(tmp_path / "storage") in caplog.text


# Large results


def test_small_results_are_in_the_file_and_large_ones_beside_it(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    small, large = HandTaskRun(), HandTaskRun()
    record_completed(sqlite_store, small, b"x" * (INLINE_LIMIT - 10))
    record_completed(sqlite_store, large, LARGE)
    flush(sqlite_store)
    files = list((tmp_path / "storage").iterdir())
    assert [path.name.startswith(large.run_id.hex()) for path in files] == [True]
    assert files[0].stat().st_size >= INLINE_LIMIT
    for run, size in ((small, INLINE_LIMIT - 10), (large, INLINE_LIMIT)):
        payload = sqlite_store.payload_of(run.run_id)
        assert payload is not None
        assert decode_result(payload, sqlite_store.load) == b"x" * size


@pytest.fixture
def large_result(engine: Engine) -> Path:
    """The file of a large result of a finished task run."""

    @task
    def large() -> tuple[bytes, int]:
        return LARGE, 1

    assert large() == (LARGE, 1)
    (run,) = history.task_runs()
    assert run.state.result() == (LARGE, 1)
    (path,) = engine.settings.local_storage_path.iterdir()
    return path


def damaged(content: bytes) -> bytes:
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


@pytest.mark.parametrize("harm", ["one bit", "cut short", "emptied", "deleted"])
def test_a_damaged_result_file_is_noticed(large_result: Path, harm: str) -> None:
    content = large_result.read_bytes()
    if harm == "deleted":
        large_result.unlink()
    else:
        harmed = {"one bit": damaged(content), "cut short": content[:-1], "emptied": b""}
        large_result.write_bytes(harmed[harm])
    (run,) = history.task_runs()
    with pytest.raises(ResultUnavailable) as caught:
        run.state.result()
    assert str(large_result) in str(caught.value)


def test_a_cached_result_whose_file_is_gone_is_computed_again(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def key(_context: object, _parameters: object) -> str:
        return "large"

    @task(cache_key_fn=key)
    def large() -> bytes:
        calls.append(1)
        return LARGE

    assert large() == LARGE
    flush(engine.store)
    for path in engine.settings.local_storage_path.iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING, "penstock"):
        assert large() == LARGE
    assert len(calls) == 2
    assert "computed again" in caplog.text
    flush(engine.store)
    assert large() == LARGE
    assert len(calls) == 2


def test_pruning_removes_the_files_of_what_it_deletes_and_no_others(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    gone, gone_flow, cached = HandTaskRun(), HandFlowRun(), HandTaskRun()
    record_completed(sqlite_store, gone, LARGE)
    record_completed(sqlite_store, gone_flow, LARGE)
    record_completed(sqlite_store, cached, LARGE, key="k")
    flush(sqlite_store)
    (tmp_path / "storage" / "letter.txt").write_text("not ours")
    assert len(list((tmp_path / "storage").iterdir())) == 4
    assert sqlite_store.prune(None, keep_cache=True, now=0.0) == Pruned(1, 1, 0)
    left = {path.name for path in (tmp_path / "storage").iterdir()}
    assert {name[:32] for name in left} == {cached.run_id.hex(), "letter.txt"}
    payload = sqlite_store.payload_of(cached.run_id)
    assert payload is not None
    assert decode_result(payload, sqlite_store.load) == LARGE


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_pruning_in_slices_deletes_what_pruning_in_one_would(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Runs of all kinds in turn, so that each slice has some that stay."""
    monkeypatch.setattr(pruning, "_ROWS_A_SLICE", rows)
    staying: set[bytes] = set()
    for number in range(9):
        kept, gone = HandTaskRun(task_definition("red", ["warm"])), HandTaskRun()
        alive, called = HandTaskRun(), HandFlowRun(flow_definition("top", ["warm"]))
        record_completed(sqlite_store, kept, number, key=f"kept {number}")
        record_completed(sqlite_store, gone, LARGE, key=f"gone {number}", expires_at=1.0)
        record(sqlite_store, alive, "Pending", "Running")
        record_completed(sqlite_store, called)
        staying |= {kept.run_id, alive.run_id}
    assert sqlite_store.prune(None, keep_cache=True, now=2.0) == Pruned(9, 9, 9)
    assert {found.row.id for found in sqlite_store.task_runs(Query())} == staying
    assert count(database, "cache") == 9
    assert not list((database.parent / "storage").iterdir())


def test_others_read_and_write_between_the_slices_of_a_pruning(
    sqlite_store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_ROWS_A_SLICE", 10)
    monkeypatch.setattr(sqlite, "_PRUNING_PAUSE_SECONDS", 0.002)
    for _ in range(1000):
        record_completed(sqlite_store, HandTaskRun())
    flush(sqlite_store)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: sqlite_store.prune(None, keep_cache=True, now=0.0))
    thread.start()
    while thread.is_alive():
        record(sqlite_store, HandTaskRun(), "Pending")
        flush(sqlite_store)
        seen.append(len(sqlite_store.task_runs(Query(limit=2000, states=("COMPLETED",)))))
    thread.join()
    assert len(set(seen)) > 3 and seen == sorted(seen, reverse=True)
    assert count(database, "task_run") == len(seen)


def test_no_half_written_file_is_left_behind(
    sqlite_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for a moment: the result is there in the end, and nothing else."""
    failures = [OSError(28, "No space left on device")] * 2
    replace = os.replace

    def replace_at_last(source: str, target: str) -> None:
        if failures:
            raise failures.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_at_last)
    run = HandTaskRun()
    record_completed(sqlite_store, run, LARGE)
    flush(sqlite_store)
    assert [path.name[:32] for path in (tmp_path / "storage").iterdir()] == [run.run_id.hex()]


# Closing


@linux_only
def test_closing_lets_go_of_all_files(tmp_path: Path, host: LoopThread) -> None:
    """Those of the threads that have read from it, too."""
    store = open_sqlite(tmp_path / "penstock.db", host)
    record_completed(store, HandTaskRun(), 1, key="k")
    flush(store)
    stay, read = threading.Event(), threading.Event()

    def look_up() -> None:
        store.look_up("k", now=0.0)
        read.set()
        stay.wait(10)

    thread = threading.Thread(target=look_up)
    thread.start()
    assert read.wait(PATIENCE_SECONDS)
    store.task_runs(Query())
    store.close()
    opened = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    stay.set()
    thread.join()
    assert [path for path in opened if str(tmp_path) in path] == []


def test_closing_an_engine_leaves_none_of_its_threads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_lanes, "_IDLE_SECONDS", 0.05)
    before = set(threading.enumerate())

    @task
    def work(index: int) -> int:
        return index

    @task
    async def async_work(index: int) -> int:
        return index

    @flow
    def works() -> int:
        futures = [*work.map(range(5)), *async_work.map(range(5))]
        return sum(future.result() for future in futures)

    with use_settings(settings):
        assert works() == 20
        assert {thread.name for thread in set(threading.enumerate()) - before} >= {
            "penstock-engine",
            "penstock-async",
        }
    deadline = time.monotonic() + 2
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [thread.name for thread in set(threading.enumerate()) - before] == []


def test_what_is_recorded_is_on_disk_when_an_engine_is_closed(settings: Settings) -> None:
    @task
    def work(index: int) -> int:
        return index

    with use_settings(settings) as engine:
        for index in range(50):
            work(index)
        assert get_engine() is engine
    path = settings.database_path()
    assert path is not None
    assert count(path, "task_run") == 50


def test_a_latch_that_nobody_set_is_not_set() -> None:
    """What the waits of this module would not notice otherwise."""
    assert not Latch().wait(0.01)
