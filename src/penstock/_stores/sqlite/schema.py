"""The tables, and how an existing file is opened: made, migrated forward, or refused.

Why: docs/inside/store.md, "Few runs have index entries for their state".
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from penstock._model.rows import CacheRow, FlowRow, TaskRow
from penstock._stores.sqlite.headers import APPLICATION_ID, known_header, not_a_database
from penstock.exceptions import StoreError

BUSY_SECONDS: Final = 60.0
_INSTEAD: Final = "set PENSTOCK_DATABASE_URL to another file"

_VERSION_1 = """
CREATE TABLE definition (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    version TEXT,
    description TEXT,
    tags TEXT NOT NULL
);
CREATE INDEX definition_by_name ON definition (name, kind);

CREATE TABLE flow_run (
    id BLOB PRIMARY KEY,
    flow_id INTEGER NOT NULL,
    parent_id BLOB,
    name TEXT NOT NULL,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    run_count INTEGER NOT NULL,
    tags TEXT,
    parameters BLOB,
    history BLOB NOT NULL,
    result BLOB
) WITHOUT ROWID;
CREATE INDEX flow_run_by_flow ON flow_run (flow_id, id);
CREATE INDEX flow_run_by_state ON flow_run (state_type, id);
CREATE INDEX flow_run_by_parent ON flow_run (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE task_run (
    id BLOB PRIMARY KEY,
    task_id INTEGER NOT NULL,
    flow_run_id BLOB,
    parent_id BLOB,
    number INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    run_count INTEGER NOT NULL,
    tags TEXT,
    upstreams BLOB,
    history BLOB NOT NULL,
    result BLOB
) WITHOUT ROWID;
CREATE INDEX task_run_by_flow_run ON task_run (flow_run_id, id);
CREATE INDEX task_run_by_task ON task_run (task_id, id);
CREATE INDEX task_run_by_state ON task_run (state_type, id) WHERE state_type <> 'COMPLETED';

CREATE TABLE tag (
    tag TEXT NOT NULL,
    run_id BLOB NOT NULL,
    PRIMARY KEY (tag, run_id)
) WITHOUT ROWID;
CREATE INDEX tag_by_run ON tag (run_id);

CREATE TABLE cache (
    key TEXT PRIMARY KEY,
    run_id BLOB NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL
) WITHOUT ROWID;
CREATE INDEX cache_by_run ON cache (run_id);
"""

UNUSUAL: Final = "(state_type <> 'COMPLETED' OR state_name <> 'Completed')"
"""Nearly all runs end as Completed, and have no entry in the indexes with this condition."""
UNUSUAL_END: Final = (
    "(state_name <> 'Completed' AND state_type <> 'PENDING' AND state_type <> 'RUNNING'"
    " AND state_type <> 'SCHEDULED')"
)
"""Nor has a run on its way in these, as it would be made, and deleted soon after, for each run."""

_VERSION_2 = f"""
DROP INDEX flow_run_by_state;
CREATE INDEX flow_run_by_state ON flow_run (state_type, state_name, id) WHERE {UNUSUAL};
CREATE INDEX flow_run_by_flow_state ON flow_run (flow_id, state_type, state_name, id)
    WHERE {UNUSUAL_END};
DROP INDEX flow_run_by_parent;
CREATE INDEX flow_run_by_parent ON flow_run (parent_id, flow_id, id) WHERE parent_id IS NOT NULL;
CREATE INDEX flow_run_by_parent_state ON flow_run (parent_id, flow_id, state_type, state_name, id)
    WHERE parent_id IS NOT NULL AND {UNUSUAL_END};

DROP INDEX task_run_by_state;
CREATE INDEX task_run_by_state ON task_run (state_type, state_name, id) WHERE {UNUSUAL};
CREATE INDEX task_run_by_task_state ON task_run (task_id, state_type, state_name, id)
    WHERE {UNUSUAL_END};
DROP INDEX task_run_by_flow_run;
CREATE INDEX task_run_by_flow_run ON task_run (flow_run_id, task_id, id)
    WHERE flow_run_id IS NOT NULL;
CREATE INDEX task_run_by_flow_run_state
    ON task_run (flow_run_id, task_id, state_type, state_name, id)
    WHERE flow_run_id IS NOT NULL AND {UNUSUAL_END};

DROP TABLE tag;
ALTER TABLE flow_run DROP COLUMN tags;
ALTER TABLE task_run DROP COLUMN tags;
ALTER TABLE task_run ADD COLUMN name TEXT NOT NULL DEFAULT '';

ALTER TABLE cache ADD COLUMN task INTEGER;
ALTER TABLE cache ADD COLUMN parts BLOB;
CREATE INDEX cache_by_task ON cache (task, created_at) WHERE task IS NOT NULL;
"""

_COUNTS_OF_CHANGES = """
CREATE TABLE cache_changes (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL);
INSERT INTO cache_changes VALUES (1, 0);
CREATE TRIGGER cache_deleted AFTER DELETE ON cache BEGIN
    UPDATE cache_changes SET number = number + 1 WHERE id = 1;
END;
CREATE TRIGGER cache_replaced AFTER UPDATE ON cache
    WHEN old.expires_at IS NULL OR old.expires_at > new.created_at
BEGIN
    UPDATE cache_changes SET number = number + 1 WHERE id = 1;
END;
"""
"""A number that grows with each entry deleted, or replaced in its time; see `recent.py`."""

_LIMITS = """
CREATE TABLE concurrency_limit (
    name TEXT PRIMARY KEY,
    slots INTEGER NOT NULL,
    slot_decay_per_second REAL NOT NULL,
    decaying REAL NOT NULL DEFAULT 0,
    decaying_since REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE taken_slots (
    limit_name TEXT NOT NULL,
    holder BLOB NOT NULL,
    slots INTEGER NOT NULL,
    PRIMARY KEY (limit_name, holder)
) WITHOUT ROWID;
CREATE TABLE waiting_line (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    holder BLOB NOT NULL,
    limit_names TEXT NOT NULL,
    slots INTEGER NOT NULL,
    decays INTEGER NOT NULL
);
"""
"""The limits of concurrency, who has taken slots, and the first of those that wait.

The names of tables and columns are the format on disk. In Python a `ticket` is the position of an
entry in the queue, a `holder` a process, and the `waiting_line` that queue.
"""

MIGRATIONS: Final = (_VERSION_1, _VERSION_2 + _COUNTS_OF_CHANGES, _LIMITS)
"""One script a version; a file of version n has seen the first n."""
READABLE_FROM: Final = 2
"""The first version whose tables and indexes are those that reads need."""

DEFINITION_COLUMNS: Final = ("id", "kind", "name", "key", "version", "description", "tags")
_CHANGING = ("name", "state_type", "state_name", "run_count", "history", "result")
_CHANGING_OF_FLOWS = (*_CHANGING, "parameters")
"""The parameters of a submitted flow are known when its upstreams have ended."""


def upsert(row_type: type[FlowRow | TaskRow], rows: int) -> str:
    """The statement that writes that many runs, new ones or known ones."""
    is_flow = row_type is FlowRow
    table = "flow_run" if is_flow else "task_run"
    columns = _CHANGING_OF_FLOWS if is_flow else _CHANGING
    changes = ",".join(f"{column}=excluded.{column}" for column in columns)
    inserted = _insert("INSERT", table, row_type._fields, rows)
    return f"{inserted} ON CONFLICT (id) DO UPDATE SET {changes}"


def insert(table: str, columns: tuple[str, ...], rows: int) -> str:
    """The statement that writes that many rows, leaving known ones alone."""
    return _insert("INSERT OR IGNORE", table, columns, rows)


def upsert_cache(rows: int) -> str:
    """The statement that writes that many cache entries; of two under one key the newer stays."""
    changes = ",".join(f"{column}=excluded.{column}" for column in CacheRow._fields)
    inserted = _insert("INSERT", "cache", CacheRow._fields, rows)
    newer = "excluded.created_at >= cache.created_at"
    return f"{inserted} ON CONFLICT (key) DO UPDATE SET {changes} WHERE {newer}"


def _insert(verb: str, table: str, columns: tuple[str, ...], rows: int) -> str:
    one = f"({','.join('?' * len(columns))})"
    return f"{verb} INTO {table} ({','.join(columns)}) VALUES {','.join([one] * rows)}"


def prepare_file(path: Path, synchronous: str) -> None:
    """Make the database where there is none, and migrate an older one.

    Raises:
        NotADatabase: the file is something else.
        SchemaTooNew: a newer Penstock wrote it.
        StoreError: it cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(_unusable(path, error)) from error
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            _version(connection, path)  # a file that is not ours is left as it is
        with closing(connect(path, synchronous)) as connection:
            _migrate(connection, path)
    except sqlite3.Error as error:
        raise _refusal(path, error) from error


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """A connection that may write, with the settings that all writers share; any thread may."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _patiently(connection, "PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous.upper()}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path, *, is_immutable: bool = False) -> sqlite3.Connection:
    """A connection that cannot write; any thread may use it and close it.

    Args:
        path: the file.
        is_immutable: read it without a lock or a log, as a file to which nobody writes.
    """
    options = "mode=ro&immutable=1" if is_immutable else "mode=ro"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute what SQLite refuses at once, whatever the timeout, while another process opens."""
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(statement).close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection, path)
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        for script in MIGRATIONS[_version(connection, path) :]:
            for statement in _statements_of(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements_of(script: str) -> Iterator[str]:
    """The statements one by one; those of a trigger belong to it."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection, path: Path) -> int:
    return known_header(connection, path, len(MIGRATIONS), _INSTEAD).version


def _refusal(path: Path, error: sqlite3.Error) -> StoreError:
    return not_a_database(error, path, _INSTEAD) or StoreError(_unusable(path, error))


def _unusable(path: Path, error: Exception) -> str:
    return (
        f"The database {path} cannot be opened: {error}. Set PENSTOCK_DATABASE_URL or "
        "PENSTOCK_HOME to a place that can be written."
    )
