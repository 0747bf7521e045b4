"""What a file says of itself, and the refusals of what is no database that this Penstock knows.

They are the same for an engine, which may make and migrate the file, and for a reader, which may
not; only what to do instead differs.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from penstock.exceptions import NotADatabase, SchemaTooNew

APPLICATION_ID: Final = 0x50454E53  # "PENS", at byte 68 of the file


class Header(NamedTuple):
    """What a database says of itself.

    Attributes:
        application_id: whose it is.
        version: of its schema; 0: it has none yet.
        tables: how many tables and indexes it has.
    """

    application_id: int
    version: int
    tables: int

    @property
    def is_foreign(self) -> bool:
        """Whether another application made it."""
        return bool(self.tables) and self.application_id != APPLICATION_ID


def known_header(connection: sqlite3.Connection, path: Path, newest: int, instead: str) -> Header:
    """The header of a Penstock database, or of one in which there is nothing yet.

    Args:
        connection: to the file.
        path: of the file, for errors.
        newest: the last version of the schema that is known.
        instead: what to do where the file cannot be used, as in "open another file".

    Raises:
        NotADatabase: another application made it.
        SchemaTooNew: a newer Penstock wrote it.
        sqlite3.Error: it cannot be read.
    """
    header = _header_of(connection)
    if header.is_foreign:
        raise NotADatabase(
            f"{path} is a SQLite database of another application. {_sentence(instead)}"
        )
    if header.version > newest:
        raise SchemaTooNew(
            f"{path} has schema version {header.version}; this Penstock knows versions up to "
            f"{newest}. Upgrade Penstock, or {instead}."
        )
    return header


def _header_of(connection: sqlite3.Connection) -> Header:
    # In one statement, as another process may be making the tables.
    return Header(
        *connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id), "
            "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
        ).fetchone()
    )


def not_a_database(error: Exception, path: Path, instead: str) -> NotADatabase | None:
    """The refusal of a file that SQLite itself does not know; None: the error says something else.

    Args:
        error: what SQLite raised.
        path: of the file.
        instead: what to do, as in "open another file".
    """
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
        return None
    return NotADatabase(f"{path} is not a SQLite database. {_sentence(instead)}")


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
