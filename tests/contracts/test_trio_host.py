"""The host of trio: coroutines side by side, each with a task of its own once it waits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from penstock._waiting.trio_host import TrioHost
from tests.patience import PATIENCE_SECONDS

name: ContextVar[str] = ContextVar("name", default="nobody")
Main = Callable[[TrioHost], Coroutine[Any, Any, None]]


def in_trio(main: Main) -> None:
    async def run() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            await main(TrioHost())

    trio.run(run)


def nothing(_member: object) -> None: ...


def test_coroutines_that_wait_wait_side_by_side() -> None:
    arrived: list[int] = []

    async def main(host: TrioHost) -> None:
        opened, ended = trio.Event(), trio.Event()

        async def wait(number: int) -> None:
            arrived.append(number)
            if len(arrived) == 100:
                opened.set()
            await opened.wait()
            arrived.append(-number)
            if len(arrived) == 200:
                ended.set()

        for number in range(100):
            host.start(partial(wait, number), copy_context(), nothing)
        await ended.wait()

    in_trio(main)
    assert arrived[:100] == list(range(100))
    assert sorted(arrived[100:]) == [-number for number in range(99, -1, -1)]


def test_coroutines_that_do_not_wait_share_a_task_and_one_that_waits_has_its_own() -> None:
    tasks: dict[str, list[trio.lowlevel.Task]] = {"quick": [], "slow": []}

    async def main(host: TrioHost) -> None:
        ended = trio.Event()

        async def quick() -> None:
            tasks["quick"].append(trio.lowlevel.current_task())

        async def slow() -> None:
            before = trio.lowlevel.current_task()
            await trio.lowlevel.checkpoint()
            assert trio.lowlevel.current_task() is before
            tasks["slow"].append(before)
            if len(tasks["slow"]) == 2:
                ended.set()

        for start in (quick, quick, slow, quick, slow, quick):
            host.start(start, copy_context(), nothing)
        await ended.wait()

    in_trio(main)
    assert len(tasks["quick"]) == 4
    assert tasks["slow"][0] is not tasks["slow"][1]


def test_each_has_a_context_of_its_own_before_and_after_it_waits() -> None:
    seen: list[tuple[str, str]] = []

    async def main(host: TrioHost) -> None:
        ended = trio.Event()

        async def look(mine: str) -> None:
            assert name.get() == mine
            name.set(f"{mine} again")
            await trio.lowlevel.checkpoint()
            seen.append((mine, name.get()))
            if len(seen) == 3:
                ended.set()

        for mine in ("ann", "bob", "cy"):
            context = Context()
            context.run(name.set, mine)
            host.start(partial(look, mine), context, nothing)
        await ended.wait()
        assert name.get() == "nobody"

    in_trio(main)
    assert sorted(seen) == [("ann", "ann again"), ("bob", "bob again"), ("cy", "cy again")]


def test_one_that_is_cancelled_ends_alone() -> None:
    outcomes: dict[int, str] = {}

    async def main(host: TrioHost) -> None:
        waiting, ended = trio.Event(), trio.Event()

        async def sleep(number: int) -> None:
            if number == 2:
                waiting.set()
            try:
                await trio.sleep(0.02 if number != 1 else 60)
                outcomes[number] = "done"
            except trio.Cancelled:
                outcomes[number] = "cancelled"
                raise

        def note_end(_member: object) -> None:
            ends.append(1)
            if len(ends) == 3:
                ended.set()

        ends: list[int] = []
        cancels = [
            host.start(partial(sleep, number), copy_context(), note_end) for number in range(3)
        ]
        await waiting.wait()
        cancels[1]()
        await ended.wait()

    in_trio(main)
    assert outcomes == {0: "done", 1: "cancelled", 2: "done"}


def test_one_that_is_cancelled_before_it_begins_never_begins() -> None:
    begun: list[int] = []

    async def main(host: TrioHost) -> None:
        ended: list[object] = []

        async def begin() -> None:
            begun.append(1)

        cancel = host.start(begin, copy_context(), ended.append)
        cancel()
        host.start(begin, copy_context(), ended.append)
        await trio.testing.wait_all_tasks_blocked()
        assert len(ended) == 2

    in_trio(main)
    assert begun == [1]


@pytest.mark.parametrize("waits", [False, True])
def test_the_others_go_on_when_one_is_cancelled_from_within(waits: bool) -> None:
    """A cancel scope of its own is its own affair."""
    done: list[int] = []

    async def main(host: TrioHost) -> None:
        async def give_up(number: int) -> None:
            with trio.CancelScope() as scope:
                scope.cancel()
                if waits:
                    await trio.sleep(1)
            done.append(number)

        for number in range(5):
            host.start(partial(give_up, number), copy_context(), nothing)
        await trio.testing.wait_all_tasks_blocked()

    in_trio(main)
    assert sorted(done) == list(range(5))


def test_all_end_when_the_loop_does() -> None:
    ended: list[object] = []

    async def main(host: TrioHost) -> None:
        for _ in range(50):
            host.start(trio.sleep_forever, copy_context(), ended.append)
        await trio.sleep(0.01)

    in_trio(main)
    assert len(ended) == 50
