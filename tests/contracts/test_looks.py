"""Looks at a file: what is written meanwhile is seen whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from penstock._stores.large_results import FolderOfResults
from penstock._stores.port import Query
from penstock._stores.reading.forks import pause_looks, resume_looks
from penstock._stores.sqlite import reading
from penstock._stores.sqlite.file import SqliteFile
from penstock._stores.sqlite.looks import FileChanged, FileState, Look
from penstock._stores.sqlite.statements import take
from penstock._stores.sqlite.store import SqliteStore
from penstock._waiting.loops import LoopThread
from tests.contracts.sources import HandTaskRun, flush, open_sqlite, record

Write: TypeAlias = Callable[..., SqliteStore]


@pytest.fixture
def write(host: LoopThread) -> Write:
    """Has another store record a run, and close the file again unless it leaves it open."""

    def record_one(path: Path, *, leaves_it_open: bool = False) -> SqliteStore:
        store = open_sqlite(path, host)
        record(store, HandTaskRun(), "Pending", "Completed")
        flush(store)
        if not leaves_it_open:
            store.close()
        return store

    return record_one


@pytest.fixture
def path(tmp_path: Path, write: Write) -> Path:
    """A file with one run, which nobody has open."""
    write(tmp_path / "penstock.db")
    return tmp_path / "penstock.db"


@pytest.fixture
def open_store(path: Path, write: Write) -> Iterator[SqliteStore]:
    """A store that has the file open; there are two runs in it now."""
    store = write(path, leaves_it_open=True)
    yield store
    store.close()


def count(connection: sqlite3.Connection) -> int:
    return len(take(connection, reading.task_runs(Query())))


def counting(meanwhile: Callable[[], object]) -> Callable[[sqlite3.Connection], int]:
    """Counts the runs, in the middle of which something happens."""

    def read(connection: sqlite3.Connection) -> int:
        before = count(connection)
        meanwhile()
        assert count(connection) == before, "a look sees one moment"
        return before

    return read


def test_a_look_at_a_file_that_nobody_writes_gives_what_it_has_read(path: Path) -> None:
    look = Look(path, count)
    look.open()
    assert look.take() == 1


def test_a_look_in_which_a_store_comes_and_goes_is_in_vain(path: Path, write: Write) -> None:
    look = Look(path, count)
    look.open()
    write(path)
    with pytest.raises(FileChanged):
        look.take()


@pytest.mark.parametrize("leaves_it_open", [True, False])
def test_a_look_in_which_a_store_begins_to_write_is_in_vain(
    path: Path, write: Write, leaves_it_open: bool
) -> None:
    stores: list[SqliteStore] = []
    look = Look(path, counting(lambda: stores.append(write(path, leaves_it_open=leaves_it_open))))
    look.open()
    with pytest.raises(FileChanged):
        look.take()
    for store in stores:
        store.close()


def test_a_look_beside_a_store_sees_the_moment_of_its_first_read(
    path: Path, open_store: SqliteStore
) -> None:
    def write_one() -> None:
        record(open_store, HandTaskRun(), "Pending")
        flush(open_store)

    look = Look(path, counting(write_one))
    look.open()
    assert look.take() == 2
    look = Look(path, count)
    look.open()
    assert look.take() == 3


def test_a_look_that_was_open_while_the_process_forked_is_in_vain(path: Path) -> None:
    """Nothing is open then, and looks that begin later wait until it is over."""
    look = Look(path, count)
    connection = look.open()
    pause_looks()
    try:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    finally:
        resume_looks()
    with pytest.raises(FileChanged):
        look.take()


def test_reading_looks_again_until_it_has_seen_one_moment(path: Path, write: Write) -> None:
    times: list[int] = []

    def write_twice() -> None:
        if len(times) < 2:
            write(path)
        times.append(1)

    file = SqliteFile(path, FolderOfResults(path.parent / "storage"))
    assert file._look(counting(write_twice)) == 3
    assert len(times) == 3


def test_an_error_of_a_file_that_was_written_to_meanwhile_is_none(path: Path, write: Write) -> None:
    def write_and_fail(_connection: sqlite3.Connection) -> None:
        write(path)
        raise sqlite3.DatabaseError("database disk image is malformed")

    look = Look(path, write_and_fail)
    look.open()
    with pytest.raises(FileChanged):
        look.take()


def test_the_state_tells_who_may_write_and_what_was_written(path: Path, write: Write) -> None:
    before = FileState.of(path)
    assert not before.has_log
    store = write(path, leaves_it_open=True)
    assert FileState.of(path).has_log
    store.close()
    after = FileState.of(path)
    assert not after.has_log
    assert after != before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_has_the_log_of_the_file_that_it_leads_to(
    path: Path, open_store: SqliteStore, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(path)
    assert FileState.of(link).has_log
    look = Look(link, count)
    look.open()
    assert look.take() == 2
    assert [file.name for file in link.parent.iterdir()] == ["link.db"]
