"""Readers of files: of any process, from sync and async code, and nothing but read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

from penstock import flow, history, task
from penstock._engine.engine import Engine
from penstock._engine.process import present_engine, shutdown, use_settings
from penstock._stores.sqlite import looks
from penstock._stores.sqlite.schema import MIGRATIONS
from penstock.cache_policies import INPUTS
from penstock.exceptions import (
    ConfigurationError,
    NotADatabase,
    ParameterError,
    SchemaTooNew,
    SchemaTooOld,
    StoreError,
    UsageError,
)
from penstock.settings import Settings, temporary_settings
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.needs_file("what is read is a file")
Read: TypeAlias = Callable[..., Any]
"""Calls a method of a fresh reader: `read(path, name, *args, storage=None, **keywords)`."""

LARGE = "x" * 200_000


@task(tags=["io"])
def one() -> int:
    return 1


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def large() -> str:
    return LARGE


@task(cache_policy=INPUTS)
def cached(x: int) -> tuple[int]:
    return (x,)


@flow(version="v1")
def child(x: int) -> int:
    return add(x, 1)


@flow
def parent(x: int) -> int:
    first = one.submit()
    return add.submit(first, x).result() + child(2)


def read_sync(path: Path | None, name: str, *args: Any, storage: Any = None, **more: Any) -> Any:
    with history.open(path, storage=storage) as reader:
        return getattr(reader, name)(*args, **more)


async def read_async(
    path: Path | None, name: str, *args: Any, storage: Any = None, **more: Any
) -> Any:
    async with history.open_async(path, storage=storage) as reader:
        return await getattr(reader, name)(*args, **more)


@pytest.fixture(params=["sync", "asyncio", "trio"])
def read(request: pytest.FixtureRequest) -> Read:
    """Each of the readers."""
    if request.param == "sync":
        return read_sync

    def read_in_loop(*args: Any, **more: Any) -> Any:
        async def run() -> Any:
            return await read_async(*args, **more)

        return anyio.run(run, backend=request.param)

    return read_in_loop


@pytest.fixture
def path(settings: Settings) -> Path:
    """A file with three flow runs, which nobody has open any more."""
    with use_settings(settings):
        parent(5)
        child(1)
        large()
        cached(3)
        cached(3)
    found = settings.database_path()
    assert found is not None
    return found


def seen(directory: Path) -> dict[str, tuple[int, bytes]]:
    """The files below a folder, and the folders, with their times and their contents."""
    return {
        str(file.relative_to(directory)): (
            file.stat().st_mtime_ns,
            file.read_bytes() if file.is_file() else b"",
        )
        for file in [directory, *directory.rglob("*")]
    }


def told(run: Any) -> tuple[Any, ...]:
    """What tells whether two records say the same."""
    return (run.id, run.name, run.tags, run.run_count, [str(state) for state in run.states])


# What they read


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("flow_runs", {}),
        ("flow_runs", {"flow": "child", "limit": 1}),
        ("flow_runs", {"state": "FAILED"}),
        ("task_runs", {}),
        ("task_runs", {"task": "add", "state": ["COMPLETED"]}),
        ("task_runs", {"tag": "io"}),
        ("task_runs", {"state": "Cached"}),
    ],
)
def test_a_reader_finds_what_the_history_finds(
    path: Path, read: Read, name: str, conditions: dict[str, Any]
) -> None:
    expected = getattr(history, name)(**conditions)
    assert [*map(told, read(path, name, **conditions))] == [*map(told, expected)]


def test_a_reader_gives_runs_by_their_ids_graphs_and_pictures(path: Path, read: Read) -> None:
    run, sub = history.flow_runs(flow="parent")[0], history.flow_runs(flow="child")[-1]
    first = history.task_runs(task="one")[0]
    assert told(read(path, "flow_run", str(run.id))) == told(run)
    assert told(read(path, "task_run", first.id)) == told(first)
    assert read(path, "flow_run", first.id) is None
    assert read(path, "task_run", run.id) is None
    graph = read(path, "graph", run)
    assert [one.task for one in graph.task_runs] == ["one", "add"]
    assert graph.edges == ((graph.task_runs[0].id, graph.task_runs[1].id),)
    assert [one.id for one in graph.subflow_runs] == [sub.id]
    assert read(path, "graph", first.id) is None
    assert str(read(path, "picture", run.id)) == str(history.picture(run))
    assert read(path, "picture", first.id) is None


def test_a_reader_refuses_what_the_history_refuses(path: Path, read: Read) -> None:
    with pytest.raises(ConfigurationError, match=r"no state 'FAILD' \(did you mean FAILED\?\)"):
        read(path, "task_runs", state="FAILD")
    with pytest.raises(ConfigurationError, match="limit must be"):
        read(path, "flow_runs", limit=0)
    with pytest.raises(ConfigurationError, match="run_id must be a UUID"):
        read(path, "graph", "x")
    with pytest.raises(ParameterError, match=r"flow_runs\(\) has no condition 'flw'; did you mean"):
        read(path, "flow_runs", flw="parent")


def test_results_are_read_when_they_are_asked_for_also_by_a_closed_reader(
    path: Path, read: Read
) -> None:
    """Inline, from their files, and those of another run."""
    values = {run.task: run.state.result() for run in read(path, "task_runs", state="Completed")}
    assert values["one"] == 1
    assert values["large"] == LARGE
    (hit,) = read(path, "task_runs", state="Cached")
    assert hit.state.result() == (3,)


# Which file


def test_without_a_path_it_is_the_file_of_the_settings(
    path: Path, read: Read, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", f"sqlite:///{path}")
    assert len(read(None, "flow_runs")) == 3
    monkeypatch.setenv("PENSTOCK_LOCAL_STORAGE_PATH", str(tmp_path / "elsewhere"))
    with temporary_settings(database_url=f"sqlite:///{tmp_path / 'other.db'}"):
        child(7)
        large()
        history.flow_runs()
        assert [run.parameters for run in read(None, "flow_runs")] == [{"x": 7}]
        for given in (None, tmp_path / "other.db"):
            (run,) = read(given, "task_runs", task="large")
            assert run.state.result() == LARGE
    assert list((tmp_path / "elsewhere").iterdir())


def test_large_results_are_beside_the_file_unless_the_reader_is_told_where(
    path: Path, read: Read, tmp_path: Path
) -> None:
    copy = tmp_path / "copied" / "runs.db"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    (run,) = read(copy, "task_runs", task="large")
    with pytest.raises(StoreError, match=r"copied.storage.* cannot be read"):
        run.state.result()
    (run,) = read(copy, "task_runs", task="large", storage=path.parent / "storage")
    assert run.state.result() == LARGE
    shutil.copytree(path.parent / "storage", copy.parent / "storage")
    (run,) = read(copy, "task_runs", task="large")
    assert run.state.result() == LARGE


def test_a_history_in_memory_is_refused_with_the_way_to_read_it(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", "memory:")
    with pytest.raises(ConfigurationError, match=r"in no file .*penstock\.history\.flow_runs\(\)"):
        read(None, "flow_runs")


@pytest.mark.parametrize("given", ["sqlite:///runs.db", "memory:", 5])
def test_what_is_no_path_is_refused(read: Read, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="path must be"):
        read(given, "flow_runs")
    with pytest.raises(ConfigurationError, match="storage must be"):
        read("runs.db", "flow_runs", storage=given)


@pytest.mark.parametrize("name", ["of the year 100%.db", "a?b#c.db"])
def test_a_name_may_have_any_characters(path: Path, read: Read, name: str) -> None:
    shutil.copy(path, path.with_name(name))
    assert len(read(path.with_name(name), "flow_runs")) == 3


def test_a_relative_path_stays_the_same_file_where_the_process_goes_elsewhere(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(path.parent)
    with history.open(path.name) as reader:
        monkeypatch.chdir(tmp_path)
        assert reader.path == path
        assert reader.task_runs(task="large")[0].state.result() == LARGE


# What is refused


Damage: TypeAlias = Callable[[Path], object]


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_of(content: bytes) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")


def make_foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text)")


def make_truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def make_old(path: Path) -> None:
    """As the first version made it."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute("PRAGMA application_id=0x50454E53")
        connection.execute("PRAGMA user_version=1")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (Path.unlink, StoreError, "There is no file"),
        (make_folder, StoreError, "is not a file"),
        (made_of(b"Dear diary, " * 1000), NotADatabase, "not a SQLite"),
        (made_of(b"ab"), NotADatabase, "not a SQLite"),
        (made_of(b""), NotADatabase, "no run has been recorded"),
        (make_foreign, NotADatabase, "another application"),
        (make_newer, SchemaTooNew, "version 99.*Upgrade"),
        (make_old, SchemaTooOld, r"version 1;.*flow_runs\(\) once"),
        (make_truncated, StoreError, "cannot be read: .*malformed"),
    ],
    ids=[
        "missing",
        "a folder",
        "a text",
        "two bytes",
        "empty",
        "foreign",
        "newer",
        "older",
        "truncated",
    ],
)
def test_what_is_no_history_is_refused_by_its_path_and_left_alone(
    path: Path, read: Read, damage: Damage, error: type[Exception], message: str
) -> None:
    damage(path)
    before = seen(path.parent)
    with pytest.raises(error, match=message) as caught:
        read(path, "task_runs", limit=1000)
    assert str(path) in str(caught.value)
    assert seen(path.parent) == before


@pytest.mark.usefixtures("engine")
def test_a_copy_that_sqlite_has_made_of_a_file_in_use_is_read(
    settings: Settings, read: Read, tmp_path: Path
) -> None:
    """Such a copy has no write-ahead log, and another journal."""
    child(1)
    history.flow_runs()
    path, copy = settings.database_path(), tmp_path / "copy" / "runs.db"
    assert path is not None
    copy.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    before = seen(copy.parent)
    assert [run.flow for run in read(copy, "flow_runs")] == ["child"]
    assert seen(copy.parent) == before


def test_a_file_of_the_version_before_is_read_as_it_is(path: Path, read: Read) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for table in ("concurrency_limit", "taken_slots", "waiting_line"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version=2")
        connection.commit()
    before = seen(path.parent)
    assert len(read(path, "flow_runs")) == 3
    assert len(read(path, "graph", read(path, "flow_runs", flow="parent")[0]).task_runs) == 2
    assert seen(path.parent) == before


# What they leave alone


def test_a_file_that_nobody_writes_is_read_without_a_trace(path: Path, read: Read) -> None:
    before = seen(path.parent)
    assert len(read(path, "flow_runs")) == 3
    assert read(path, "task_runs", task="large")[0].state.result() == LARGE
    assert seen(path.parent) == before


def test_a_file_that_an_engine_has_open_is_read_without_a_change(
    engine: Engine, read: Read
) -> None:
    parent(5)
    history.flow_runs()
    path = engine.settings.database_path()
    assert path is not None
    files = {name: content for name, content in seen(path.parent).items() if "-shm" not in name}
    assert len(read(path, "flow_runs")) == 2
    after = {name: content for name, content in seen(path.parent).items() if "-shm" not in name}
    assert after == files
    engine.store.pause()  # nobody has it open any more, and the log was folded into it
    assert not path.with_name(f"{path.name}-wal").exists()
    engine.store.resume()


def ended_but(before: set[threading.Thread]) -> bool:
    """Whether only these threads are left, within seconds: what has told its last may be ending."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while set(threading.enumerate()) - before and time.monotonic() < ends_at:
        time.sleep(0.001)
    return not set(threading.enumerate()) - before


def test_reading_starts_no_engine_and_leaves_no_thread(path: Path, read: Read) -> None:
    before = set(threading.enumerate())
    read(path, "flow_runs")
    assert ended_but(before)
    assert present_engine() is None


def test_an_open_reader_has_no_thread_but_on_trio(path: Path, backend: str) -> None:
    async def names() -> set[str]:
        async with history.open_async(path) as reader:
            await reader.flow_runs()
            own = {t for t in threading.enumerate() if t.name == "penstock-reader"}
            assert ended_but(before | own)
            return {thread.name for thread in own}

    before = set(threading.enumerate())
    found = anyio.run(names, backend=backend)
    assert found == ({"penstock-reader"} if backend == "trio" else set())
    assert ended_but(before)


# How long they can be used


def test_a_closed_reader_says_so_and_may_be_closed_again(path: Path) -> None:
    with history.open(path) as reader:
        assert repr(reader) == f"<Reader of {str(path)!r}>"
    reader.close()
    assert repr(reader) == f"<closed Reader of {str(path)!r}>"
    with pytest.raises(UsageError, match=r"closed.*history\.open\(\)"):
        reader.flow_runs()
    with pytest.raises(UsageError, match="closed"), reader:
        pass


def test_a_closed_async_reader_says_so_and_may_be_closed_again(
    path: Path, run_loop: RunLoop
) -> None:
    async def use() -> None:
        async with history.open_async(path) as reader:
            pass
        await reader.close()
        with pytest.raises(UsageError, match=r"closed.*history\.open_async\(\)"):
            await reader.flow_runs()
        with pytest.raises(UsageError, match="closed"):
            async with reader:
                pass

    run_loop(use)


def test_a_reader_needs_no_with(path: Path, run_loop: RunLoop) -> None:
    assert len(history.open(path).flow_runs()) == 3

    async def use() -> int:
        reader = history.open_async(path)
        found = await reader.flow_runs()
        await reader.close()
        return len(found)

    assert run_loop(use) == 3


def test_a_reader_sees_what_comes_into_the_file(path: Path) -> None:
    with history.open(path) as reader:
        assert len(reader.flow_runs()) == 3
        child(3)
        history.flow_runs()
        assert len(reader.flow_runs()) == 4
        shutdown()
        assert len(reader.flow_runs()) == 4
        assert not path.with_name(f"{path.name}-wal").exists()


def test_threads_share_a_reader(path: Path) -> None:
    with history.open(path) as reader, ThreadPoolExecutor(8) as pool:
        pages = [pool.submit(reader.task_runs) for _ in range(64)]
        expected = [*map(told, reader.task_runs())]
        assert all([*map(told, page.result())] == expected for page in pages)


def test_tasks_share_an_async_reader_and_it_outlives_its_loop(path: Path, backend: str) -> None:
    reader = history.open_async(path)
    counts: list[int] = []

    async def count() -> None:
        counts.append(len(await reader.flow_runs()))

    async def use() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(count)

    anyio.run(use, backend=backend)
    anyio.run(use, backend="asyncio")
    anyio.run(use, backend="trio")
    anyio.run(reader.close, backend=backend)
    assert counts == [3] * 30


# Async code


class Gate:
    """Holds reads up, once it is closed; in which threads anybody has read."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.reached = threading.Event()
        self.threads: set[int] = set()

    def pass_through(self) -> None:
        self.threads.add(threading.get_ident())
        self.reached.set()
        assert self.opened.wait(PATIENCE_SECONDS)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """What all that is read of files has to pass through."""
    made = Gate()
    state_of = looks.FileState.of

    def state_through_gate(path: Path) -> looks.FileState:
        made.pass_through()
        return state_of(path)

    monkeypatch.setattr(looks.FileState, "of", state_through_gate)
    yield made
    made.opened.set()


def test_nothing_is_read_in_the_thread_of_the_loop(
    path: Path, run_loop: RunLoop, gate: Gate
) -> None:
    """Not even whether the file is there."""

    async def use() -> int:
        async with history.open_async(path) as reader:
            run = (await reader.flow_runs(flow="parent"))[0]
            await reader.graph(run)
        return threading.get_ident()

    assert run_loop(use) not in gate.threads
    assert gate.threads


def test_a_reader_is_fit_for_use_after_a_call_was_cancelled(
    path: Path, run_loop: RunLoop, gate: Gate
) -> None:
    """The call ends at once, whatever the disk does, and closing waits for what it has left."""

    async def use() -> None:
        async with history.open_async(path) as reader:
            gate.opened.clear()
            gate.reached.clear()
            with anyio.move_on_after(0.01) as scope:
                await reader.flow_runs()
            assert scope.cancelled_caught
            assert gate.reached.wait(PATIENCE_SECONDS)
            gate.opened.set()
            assert len(await reader.flow_runs()) == 3
            gate.opened.clear()
            with anyio.move_on_after(0.01):
                await reader.flow_runs()
            threading.Timer(0.05, gate.opened.set).start()

    before = set(threading.enumerate())
    run_loop(use)
    assert ended_but(before)


def test_a_cancelled_task_leaves_its_reader_closed(path: Path, run_loop: RunLoop) -> None:
    async def use() -> None:
        reader = history.open_async(path)
        with anyio.CancelScope() as scope:
            async with reader:
                scope.cancel()
                await reader.flow_runs()
        with pytest.raises(UsageError, match="closed"):
            await reader.flow_runs()

    before = set(threading.enumerate())
    run_loop(use)
    assert ended_but(before)


def test_entering_is_cancelled_in_the_middle_and_leaves_no_thread(
    path: Path, run_loop: RunLoop, gate: Gate
) -> None:
    async def use() -> None:
        gate.opened.clear()
        threading.Timer(0.05, gate.opened.set).start()
        with anyio.move_on_after(0.01) as scope:
            async with history.open_async(path):
                raise AssertionError("it was cancelled before")
        assert scope.cancelled_caught

    before = set(threading.enumerate())
    run_loop(use)
    assert ended_but(before)
