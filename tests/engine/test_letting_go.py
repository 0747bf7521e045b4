"""What has ended goes with its last user: no run waits for a garbage collection."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import pytest

from penstock import flow, task
from penstock._drivers.loop_tasks import LoopRun
from penstock._drivers.parked import ParkedRun
from penstock._engine.engine import Engine
from penstock._rules.run import Run
from tests.conftest import RunLoop

KINDS = (Run, LoopRun, ParkedRun)


Count = Callable[[], int]


@pytest.fixture
def runs_alive() -> Iterator[Count]:
    """How many runs there are that this test has made; nothing is collected meanwhile."""

    def runs() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, KINDS)]

    gc.collect()
    others = runs()
    gc.disable()
    yield lambda: len(runs()) - len(others)
    gc.enable()


@task
def double(number: int) -> int:
    return 2 * number


@task
def fail(_number: int) -> int:
    return 1 // 0


@task(retries=1)
def fail_twice() -> None:
    raise ValueError("no")


@task
async def triple(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 3 * number


@flow
def calls() -> int:
    return sum(double(number) for number in range(20))


@flow
def returns_none() -> None:
    calls()
    double.map(range(20))


@flow
def submits() -> int:
    return sum(double.map(double.map(range(20))).result())


@flow
def streams() -> int:
    return sum(double.imap(range(20))) + sum(double.imap_unordered(range(20)))


@flow
async def waits() -> int:
    futures = triple.map(range(20))
    return sum(await futures) + await triple(1) + await double.submit(triple.submit(1))


@pytest.mark.parametrize("works", [calls, returns_none, submits, streams])
def test_no_run_is_left_when_its_flow_has_ended(
    engine: Engine, works: Callable[[], object], runs_alive: Count
) -> None:
    works()
    engine.commit().wait()
    # The writer still has its last batch in hand.
    double(1)
    engine.commit().wait()
    assert runs_alive() <= 1


def test_no_run_of_an_event_loop_is_left(
    engine: Engine, run_loop: RunLoop, runs_alive: Count
) -> None:
    run_loop(waits)
    engine.commit().wait()
    double(1)
    engine.commit().wait()
    assert runs_alive() <= 1


def test_the_state_of_a_flow_keeps_the_states_of_its_runs_and_not_the_runs(
    engine: Engine, runs_alive: Count
) -> None:
    state = returns_none.call_state()
    engine.commit().wait()
    double(1)
    engine.commit().wait()
    assert len(state.child_states) == 21
    assert runs_alive() <= 1


def test_futures_keep_their_runs(engine: Engine, runs_alive: Count) -> None:
    futures = double.map(range(20))
    futures.wait()
    engine.commit().wait()
    assert runs_alive() >= 20
    assert futures.result() == [2 * number for number in range(20)]


# What a held future takes

HELD = 2_000
MOST_BYTES = 1_000

Memory = Callable[[], float]


@pytest.fixture
def bytes_held() -> Iterator[Memory]:
    """How many bytes have been allocated since the first call and are still there."""
    before: list[int] = []

    def allocated() -> float:
        gc.collect()
        before.append(tracemalloc.get_traced_memory()[0])
        return before[-1] - before[0]

    tracemalloc.start()
    yield allocated
    tracemalloc.stop()


@flow
def hold_of_sync_tasks(engine: Engine, bytes_held: Memory) -> float:
    double.map(range(200)).wait()
    engine.commit().wait()
    bytes_held()
    futures = double.map(range(HELD))
    futures.wait()
    engine.commit().wait()
    return bytes_held() / len(futures)


@flow
async def hold_of_async_tasks(engine: Engine, bytes_held: Memory) -> float:
    await triple.map(range(200))
    engine.commit().wait()
    bytes_held()
    futures = triple.map(range(HELD))
    await futures
    engine.commit().wait()
    return bytes_held() / len(futures)


@pytest.mark.needs_file("a store in memory holds the rows besides")
def test_a_held_future_takes_less_than_a_kilobyte(engine: Engine, bytes_held: Memory) -> None:
    assert 0 < hold_of_sync_tasks(engine, bytes_held) < MOST_BYTES


@pytest.mark.needs_file("a store in memory holds the rows besides")
def test_a_held_future_of_an_event_loop_takes_less_than_a_kilobyte(
    engine: Engine, run_loop: RunLoop, bytes_held: Memory
) -> None:
    assert 0 < run_loop(hold_of_async_tasks, engine, bytes_held) < MOST_BYTES
