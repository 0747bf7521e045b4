"""What every clock promises to the engine, whatever its seconds are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.lowlevel
import pytest

from penstock._engine.process import use_settings
from penstock._waiting.clock import Clock
from penstock._waiting.latch import Latch
from penstock.settings import load_settings
from penstock.testing import FakeClock, engine
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS


class Sample(NamedTuple):
    """A clock, and what it calls a short and a long time."""

    clock: Clock
    short: float
    long: float


@pytest.fixture(params=["real", "fake"])
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sample]:
    """The clock of an engine."""
    if request.param == "fake":
        clock = FakeClock(patience_seconds=PATIENCE_SECONDS)
        with engine(clock):
            yield Sample(clock, 60, 3600)
    else:
        environ = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_DATABASE_URL": "memory:"}
        with use_settings(load_settings(environ)) as real:
            yield Sample(real.clock, 0.01, 20)


def seconds_of(clock: Clock, call: Callable[[], object]) -> float:
    """What a call takes by the clock."""
    began = clock.now()
    call()
    return clock.now() - began


def test_time_begins_now(sample: Sample) -> None:
    assert sample.clock.now() == pytest.approx(time.time(), abs=5)


def test_sleep_takes_its_time(sample: Sample) -> None:
    clock, short, long = sample
    assert short * 0.9 <= seconds_of(clock, partial(clock.sleep, short)) < long


def test_sleep_in_a_loop_takes_its_time(sample: Sample, run_loop: RunLoop) -> None:
    clock, short, long = sample
    took = seconds_of(clock, lambda: run_loop(clock.sleep_async, short))
    assert short * 0.9 <= took < long


def test_timers_are_called_in_the_order_of_their_times(sample: Sample) -> None:
    clock, short, _ = sample
    called: list[int] = []
    ended = Latch()
    clock.call_later(short * 3, ended.set)
    clock.call_later(short * 2, partial(called.append, 2))
    clock.call_later(short, partial(called.append, 1))
    ended.wait()
    assert called == [1, 2]


def test_latch_that_is_set_in_time(sample: Sample) -> None:
    clock, short, long = sample
    latch = Latch()
    clock.call_later(short, latch.set)
    began = clock.now()
    assert clock.wait_for(latch, long)
    assert short * 0.9 <= clock.now() - began < long


def test_latch_that_is_not_set_in_time(sample: Sample) -> None:
    clock, short, long = sample
    latch = Latch()
    clock.call_later(long, latch.set)
    assert not clock.wait_for(latch, short)


def test_latch_that_is_set_already(sample: Sample) -> None:
    latch = Latch()
    latch.set()
    assert seconds_of(sample.clock, lambda: sample.clock.wait_for(latch, sample.long)) < sample.long


def test_sleep_that_nothing_ends(sample: Sample) -> None:
    clock, short, long = sample
    began = clock.now()
    assert not clock.sleep_unless(Latch(), short)
    assert short * 0.9 <= clock.now() - began < long


def test_sleep_that_a_latch_ends(sample: Sample) -> None:
    clock, short, long = sample
    latch = Latch()
    clock.call_later(short, latch.set)
    began = clock.now()
    assert clock.sleep_unless(latch, long)
    assert clock.now() - began < long


def test_limit_is_called_at_unless_it_is_called_off(sample: Sample) -> None:
    clock, short, _ = sample
    called: list[str] = []
    clock.call_at_limit(short, partial(called.append, "reached"))
    call_off = clock.call_at_limit(short, partial(called.append, "called off"))
    call_off()
    clock.sleep(short * 3)
    assert called == ["reached"]


def test_what_takes_too_long_in_a_loop_is_cancelled(sample: Sample, run_loop: RunLoop) -> None:
    clock, short, long = sample
    reached: list[str] = []

    async def main() -> None:
        with clock.move_on_after(short):
            await clock.sleep_async(long)
            reached.append("the end")
        with clock.move_on_after(long):
            await clock.sleep_async(short)
            reached.append("in time")
        await anyio.lowlevel.checkpoint()
        reached.append("below")

    assert short * 1.8 <= seconds_of(clock, lambda: run_loop(main)) < long
    assert reached == ["in time", "below"]


def test_limit_that_was_kept_cancels_nothing_later(sample: Sample, run_loop: RunLoop) -> None:
    clock, short, _ = sample

    async def main() -> None:
        with clock.move_on_after(short):
            await anyio.lowlevel.checkpoint()
        await clock.sleep_async(short * 3)

    run_loop(main)


def test_sleeps_in_many_threads_are_side_by_side(sample: Sample) -> None:
    clock, short, long = sample
    threads = [threading.Thread(target=clock.sleep, args=(short,)) for _ in range(5)]
    began = clock.now()
    for thread in threads:
        thread.start()
    clock.sleep(short * 2)
    for thread in threads:
        thread.join()
    assert clock.now() - began < long
