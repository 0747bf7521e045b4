"""A look at a file: one read of it as it is, which makes, changes and locks nothing.

While anybody has the file open for writing, its write-ahead log is beside it, and SQLite's own
locks tell what is to be read. SQLite would make a log, and leave it behind, where there is none.
So there the file is opened as one that never changes (`immutable`), which takes no lock and does
not see what others write; and afterwards the look holds the file against what it was. A process
that writes has to make a log first, and to put what it wrote into the file before it deletes the
log. So a file that has no log, and is the same file, of the same size and times, was not written
meanwhile. Otherwise the look was in vain, and has to be repeated.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from typing_extensions import override

from penstock._stores.reading.forks import PausableLook, register_look
from penstock._stores.sqlite.headers import known_header, not_a_database
from penstock._stores.sqlite.schema import MIGRATIONS, READABLE_FROM, connect_to_read
from penstock.exceptions import NotADatabase, SchemaTooOld, StoreError

T = TypeVar("T")
_LOGS: Final = ("-wal", "-journal")
_INSTEAD: Final = "open another file"


class FileChanged(Exception):
    """The look was in vain, as the file was written to meanwhile, or the process has forked."""


class FileState(NamedTuple):
    """What tells whether a file was written to.

    Attributes:
        identity: which file it is, its size and its times.
        has_log: whether a log is beside it, so that it may be written to at any moment.
    """

    identity: tuple[int, ...]
    has_log: bool

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state in which a file is now.

        Raises:
            StoreError: there is none, or it cannot be got at.
        """
        try:
            found = path.stat()
        except FileNotFoundError:
            raise StoreError(
                f"There is no file {path}. Name the file of a Penstock database; it is made when "
                "the first run is recorded."
            ) from None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}.") from error
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is not a file. Name the file of a Penstock database.")
        # SQLite puts the logs of a link beside the file that it leads to.
        beside = os.path.realpath(path)
        identity = (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )
        return cls(identity, any(os.path.lexists(f"{beside}{log}") for log in _LOGS))


class Look(PausableLook, Generic[T]):
    """One read of a file, on a connection of its own, all of it at one moment.

    It is opened and then taken, once, and maybe in different threads.

    Args:
        path: the file.
        read: makes of a connection what is asked for.
    """

    def __init__(self, path: Path, read: Callable[[sqlite3.Connection], T]) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._before: FileState | None = None
        self._failure: Exception = FileChanged()
        register_look(self)

    def open(self) -> sqlite3.Connection:
        """The connection; where there can be none, one to nothing, and `take` says why.

        It never fails, as a thread of aiosqlite's does not take it well: it would end later, and
        tell that to a loop which may be closed by then.
        """
        with self._lock:
            try:
                self._before = FileState.of(self._path)
                with self._explaining(self._before):
                    is_immutable = not self._before.has_log
                    self._connection = connect_to_read(self._path, is_immutable=is_immutable)
            except (StoreError, FileChanged) as failure:
                self._failure = failure
            return self._connection or sqlite3.connect(":memory:", check_same_thread=False)

    def take(self) -> T:
        """Read, and close the connection.

        Raises:
            StoreError: there is no such file, or it is no history that can be read.
            FileChanged: the look was in vain, and there has to be another one.
        """
        with self._lock:
            connection, before = self._connection, self._before
            if connection is None or before is None:  # it could not be opened, or a fork closed it
                raise self._failure
            try:
                with self._explaining(before):
                    found = self._read_at_one_moment(connection)
            finally:
                self._close()
            if not before.has_log and FileState.of(self._path) != before:
                raise FileChanged
            return found

    def _read_at_one_moment(self, connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN")
        _refuse_unreadable(connection, self._path)
        return self._read(connection)

    @contextmanager
    def _explaining(self, before: FileState) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.DecodeError) as error:
            now = FileState.of(self._path)
            # What is wrong with a file that others write to all the time is not that they do.
            if now.has_log != before.has_log or (not now.has_log and now != before):
                raise FileChanged from error
            raise _refusal(self._path, error) from error

    def close(self) -> None:
        """Close the connection, if it is open."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @override
    def pause(self) -> None:
        self._lock.acquire()
        self._close()

    @override
    def resume(self) -> None:
        self._lock.release()


# What is refused


def _refuse_unreadable(connection: sqlite3.Connection, path: Path) -> None:
    header = known_header(connection, path, len(MIGRATIONS), _INSTEAD)
    if not header.tables:
        raise NotADatabase(f"{path} is empty: no run has been recorded there yet.")
    if header.version < READABLE_FROM:
        raise SchemaTooOld(
            f"{path} has schema version {header.version}; it can be read from version "
            f"{READABLE_FROM} on. Migrate it first, which an engine does when it opens the file: "
            "set PENSTOCK_DATABASE_URL to it, and call penstock.history.flow_runs() once."
        )


def _refusal(path: Path, error: Exception) -> StoreError:
    return not_a_database(error, path, _INSTEAD) or StoreError(_unreadable(path, error))


def _unreadable(path: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_CANTOPEN and os.access(path, os.R_OK):
        return (
            f"{path} cannot be read: its write-ahead log ({path.name}-wal) has to be read with it, "
            "and SQLite cannot do so in a folder in which you cannot write. Copy both files to "
            "another folder, and open the copy."
        )
    return f"{path} cannot be read: {error}."
