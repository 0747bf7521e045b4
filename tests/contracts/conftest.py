"""What the contract suites share: every implementation is one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock._stores.memory import MemoryStore
from penstock._stores.port import Store
from penstock._stores.sqlite.store import SqliteStore
from penstock._waiting.loops import LoopThread
from tests.contracts.sources import open_sqlite

StoreMaker = Callable[[Path, LoopThread], Store]


def _memory_store(_folder: Path, _host: LoopThread) -> Store:
    return MemoryStore()


def _sqlite_store(folder: Path, host: LoopThread) -> Store:
    return open_sqlite(folder / "penstock.db", host)


STORES: dict[str, StoreMaker] = {
    "memory": _memory_store,
    "sqlite": _sqlite_store,
}


@pytest.fixture
def host() -> Iterator[LoopThread]:
    """A loop in a thread of its own, as the engine has one."""
    thread = LoopThread("test-host")
    yield thread
    thread.stop()


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path, host: LoopThread) -> Iterator[Store]:
    """Each store, fresh."""
    made = STORES[str(request.param)](tmp_path, host)
    yield made
    made.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where `sqlite_store` keeps its file."""
    return tmp_path / "penstock.db"


@pytest.fixture
def sqlite_store(database: Path, host: LoopThread) -> Iterator[SqliteStore]:
    """A SQLite store on a fresh file."""
    made = open_sqlite(database, host)
    yield made
    made.close()
