"""The history in async code: the same as in sync code, and the loop goes on."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import flow, history, task
from penstock._engine.engine import Engine
from penstock._engine.process import get_engine, present_engine
from penstock._stores.port import FoundTaskRun, Query
from penstock._stores.reading import reads
from penstock._stores.reading.conversion import flow_record, task_record
from penstock.cache_policies import INPUTS
from penstock.exceptions import ConfigurationError
from penstock.testing import FakeClock
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS


@task(cache_policy=INPUTS)
def add(x: int, y: int) -> int:
    return x + y


@flow
def sums(x: int) -> int:
    return add.submit(add.submit(x, 1), 2).result()


def told(runs: list[Any]) -> list[tuple[Any, ...]]:
    return [(run.id, run.name, [str(state) for state in run.states]) for run in runs]


def test_each_function_that_reads_or_deletes_has_a_twin_of_the_same_signature() -> None:
    names = {name for name in history.__all__ if inspect.isfunction(getattr(history, name))}
    sync = {name for name in names if not name.endswith("_async")}
    assert {f"{name}_async" for name in sync} == names - sync
    for name in sync - {"open"}:
        twin = getattr(history, f"{name}_async")
        assert inspect.signature(twin) == inspect.signature(getattr(history, name))
        assert inspect.iscoroutinefunction(twin)


@pytest.mark.usefixtures("engine")
def test_the_twins_read_what_the_others_read(run_loop: RunLoop) -> None:
    assert sums(1) == 4
    run, added = history.flow_runs()[0], history.task_runs()[0]

    async def read() -> None:
        assert told(await history.flow_runs_async(flow="sums")) == told([run])
        assert told(await history.task_runs_async(limit=1)) == told([added])
        assert told([await history.flow_run_async(run.id)]) == told([run])
        assert told([await history.task_run_async(str(added.id))]) == told([added])
        assert await history.flow_run_async(added.id) is None
        graph = await history.graph_async(run)
        assert graph is not None and len(graph.task_runs) == 2
        assert str(await history.picture_async(run.id)) == str(history.picture(run))
        with pytest.raises(ConfigurationError, match="limit must be"):
            await history.task_runs_async(limit=0)

    run_loop(read)


@pytest.mark.usefixtures("engine")
def test_the_twins_delete_what_the_others_delete(run_loop: RunLoop) -> None:
    async def delete() -> None:
        sums(1)
        assert await history.prune_async(older_than=timedelta(hours=1)) == (0, 0, 0)
        assert await history.clear_cache_async() == 2
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert await history.prune_async(until=later, keep_cache=False) == (1, 2, 0)
        add(5, 5)
        assert (await history.clear_async()).task_runs == 1
        with pytest.raises(ConfigurationError, match="either older_than or until"):
            await history.prune_async()

    run_loop(delete)


def test_what_an_async_flow_has_recorded_is_seen(run_loop: RunLoop, engine: Engine) -> None:
    @flow
    async def outer() -> list[str]:
        add(1, 1)
        add.submit(2, 2)
        return [run.state.name for run in await history.flow_runs_async(flow="outer")]

    assert run_loop(outer) == ["Running"]
    assert engine is present_engine()


def test_the_first_call_of_a_process_makes_its_engine(run_loop: RunLoop) -> None:
    assert present_engine() is None
    assert run_loop(history.flow_runs_async) == []
    assert present_engine() is not None


@pytest.fixture
def reading_threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads in which a record is made."""
    threads: set[int] = set()

    def noting(make: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            threads.add(threading.get_ident())
            return make(*given)

        return noted

    for make in (flow_record, task_record):
        monkeypatch.setattr(reads, make.__name__, noting(make))
    return threads


def test_the_loop_goes_on_while_they_read(
    run_loop: RunLoop, engine: Engine, reading_threads: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of the loop lets the read go on, which nobody could if it held the loop."""
    sums(1)
    may_read = threading.Event()
    flow_runs = engine.store.flow_runs
    waited: list[bool] = []

    def held(query: Any) -> Any:
        waited.append(may_read.wait(PATIENCE_SECONDS))
        return flow_runs(query)

    monkeypatch.setattr(engine.store, "flow_runs", held)

    async def let_read() -> None:
        may_read.set()

    async def read() -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(let_read)
            assert len(await history.flow_runs_async()) == 1
        await history.graph_async((await history.flow_runs_async())[0])
        return threading.get_ident()

    assert run_loop(read) not in reading_threads
    assert reading_threads and all(waited)


def test_other_threads_have_their_turn_while_records_are_made(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread is interrupted in the time of this test, and the store reads nothing."""
    sums(1)
    history.flow_runs()
    found = [*engine.store.task_runs(Query())] * 1000
    begun, is_over = threading.Event(), False
    turns: list[int] = []

    def given(_query: Query) -> list[FoundTaskRun]:
        return found

    monkeypatch.setattr(engine.store, "task_runs", given)

    def take_turns() -> None:
        begun.set()
        while not is_over:
            turns.append(1)
            time.sleep(0.0001)

    other = threading.Thread(target=take_turns)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        other.start()
        begun.wait()
        before = len(turns)
        assert len(reads.Reads(engine.store, engine.results).task_runs()) == 2000
        assert len(turns) > before + 2
    finally:
        is_over = True
        sys.setswitchinterval(interval)
        other.join()


def test_a_cancelled_call_ends_at_once(
    run_loop: RunLoop, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums(1)
    may_read = threading.Event()
    flow_runs = engine.store.flow_runs

    def held(query: Any) -> Any:
        may_read.wait(PATIENCE_SECONDS)
        return flow_runs(query)

    monkeypatch.setattr(engine.store, "flow_runs", held)

    async def read() -> None:
        with anyio.move_on_after(0.01) as scope:
            await history.flow_runs_async()
        assert scope.cancelled_caught
        may_read.set()
        assert len(await history.flow_runs_async()) == 1

    run_loop(read)


def test_the_time_of_a_fake_clock_stands_still_while_they_read(
    run_loop: RunLoop, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sleeps, and is not woken before the read is over."""
    store = get_engine().store
    flow_runs = store.flow_runs

    def slowly(query: Any) -> Any:
        time.sleep(0.05)
        return flow_runs(query)

    monkeypatch.setattr(store, "flow_runs", slowly)

    async def read() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(clock.sleep_async, 60)
            await anyio.lowlevel.checkpoint()
            await history.flow_runs_async()
            assert clock.elapsed_seconds == 0

    run_loop(read)
    assert clock.elapsed_seconds == 60
