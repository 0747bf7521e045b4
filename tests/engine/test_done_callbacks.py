"""Done callbacks run where they may wait for the engine, whatever the durability."""

from __future__ import annotations

import threading
from typing import Literal

import msgspec
import pytest

from penstock import TaskFuture, flow, task
from penstock._engine.process import use_settings
from penstock.settings import Settings
from tests.patience import PATIENCE_SECONDS


@task
def square(x: int) -> int:
    return x * x


@pytest.mark.parametrize("durability", ["relaxed", "strict"])
def test_done_callbacks_do_not_run_in_the_loop_that_writes(
    settings: Settings, durability: Literal["relaxed", "strict"]
) -> None:
    """There, reading the history or calling a strict task would wait for itself for ever."""
    called, in_writer = threading.Event(), list[bool]()

    with use_settings(msgspec.structs.replace(settings, durability=durability)) as runtime:

        def note(_future: TaskFuture[int]) -> None:
            in_writer.append(runtime.host.is_current())
            called.set()

        @flow
        def f() -> int:
            first = threading.Event()

            @task
            def waits() -> int:
                return int(first.wait(5))

            future = waits.submit()
            future.add_done_callback(note)
            first.set()
            return square.submit(future).result()

        assert f() == 1
        assert called.wait(PATIENCE_SECONDS)
    assert in_writer == [False]
