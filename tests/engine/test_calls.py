"""The table of calls: each kind of function, from each kind of code, by each verb."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import sys
import threading
import time
import traceback
from typing import Any, NoReturn, cast

import anyio
import anyio.lowlevel
import pytest

from penstock import AsyncTask, Task, TaskFuture, allow_failure, flow, task, unmapped
from penstock._calls import verbs
from penstock._rules.current_run import current_run
from penstock._rules.flow_run import FlowRun
from penstock.exceptions import (
    ConfigurationError,
    ParameterError,
    RunCancelled,
    RunNotReady,
    StoreError,
    UsageError,
    WouldDeadlock,
)
from penstock.states import Completed
from penstock.task_runners import ConcurrentTaskRunner, SequentialTaskRunner
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


@task
def double(x: int) -> int:
    return 2 * x


@task
async def triple(x: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 3 * x


@task
def thread_name() -> str:
    return threading.current_thread().name


@task
async def async_thread_name() -> str:
    return threading.current_thread().name


def here() -> str:
    return threading.current_thread().name


# Sync tasks


def test_a_sync_task_called_in_a_sync_flow_runs_in_its_thread() -> None:
    @flow
    def f() -> tuple[int, str]:
        return double(2), thread_name()

    assert f() == (4, here())


def test_a_sync_task_called_outside_of_flows_runs_here() -> None:
    assert (double(2), thread_name()) == (4, here())


def test_a_submitted_sync_task_runs_on_a_worker_thread_of_anyio() -> None:
    @flow
    def f() -> tuple[int, str]:
        return double.submit(2).result(), thread_name.submit().result()

    value, name = f()
    assert value == 4
    assert "AnyIO" in name


def test_a_sync_task_can_be_submitted_outside_of_flows() -> None:
    assert double.submit(2).result() == 4
    assert double.map([1, 2, 3]).result() == [2, 4, 6]


def test_a_sync_task_called_in_an_async_flow_runs_inline(run_loop: RunLoop) -> None:
    @flow
    async def f() -> tuple[int, str]:
        return double(2), thread_name()

    assert run_loop(f) == (4, here())


def test_run_async_leaves_the_loop_free(run_loop: RunLoop) -> None:
    @task
    def blocks(seconds: float) -> str:
        time.sleep(seconds)
        return threading.current_thread().name

    @flow
    async def f() -> tuple[str, int]:
        ticks = 0
        done = anyio.Event()
        names: list[str] = []
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                names.append(await blocks.run_async(0.1))
                done.set()

            group.start_soon(wait)
            while not done.is_set():
                ticks += 1
                await anyio.sleep(0.01)
        return names[0], ticks

    name, ticks = run_loop(f)
    assert "AnyIO" in name
    assert ticks > 2


def test_a_sync_task_submitted_in_an_async_flow_leaves_the_loop_free(run_loop: RunLoop) -> None:
    @flow
    async def f() -> tuple[int, str]:
        return await double.submit(2), await thread_name.submit()

    value, name = run_loop(f)
    assert value == 4
    assert name != here()


# Async tasks


def test_an_async_task_awaited_in_an_async_flow_runs_in_its_loop(run_loop: RunLoop) -> None:
    @flow
    async def f() -> tuple[int, str]:
        return await triple(2), await async_thread_name()

    assert run_loop(f) == (6, here())


def test_a_submitted_async_task_runs_in_the_flows_own_loop(run_loop: RunLoop) -> None:
    @flow
    async def f() -> tuple[int, str, list[int]]:
        name = async_thread_name.submit()
        return await triple.submit(2), await name, await triple.map([1, 2])

    assert run_loop(f) == (6, here(), [3, 6])


def test_submit_does_not_run_the_task_before_the_flow_yields(run_loop: RunLoop) -> None:
    started: list[int] = []

    @task
    async def note(x: int) -> None:
        started.append(x)

    @flow
    async def f() -> list[int]:
        note.submit(1)
        return list(started)

    assert run_loop(f) == []
    assert started == [1]


def test_an_async_task_in_a_sync_flow_runs_in_the_engines_loop() -> None:
    @flow
    def f() -> tuple[int, int, str]:
        return (
            triple.submit(2).result(),
            triple.run_sync(3),
            async_thread_name.submit().result(),
        )

    one, two, name = f()
    assert (one, two) == (6, 9)
    assert name == "penstock-async"


def test_an_async_task_can_be_submitted_outside_of_flows(run_loop: RunLoop) -> None:
    async def main() -> tuple[int, str]:
        return await triple.submit(2), await async_thread_name.submit()

    assert run_loop(main) == (6, here())
    assert triple.submit(2).result() == 6


@pytest.mark.parametrize("inside_flow", [True, False])
def test_an_async_task_called_from_sync_code_says_what_to_do(inside_flow: bool) -> None:
    def call() -> Any:
        return triple(1)

    caller: Any = flow(call) if inside_flow else call
    with pytest.raises(UsageError, match=r"triple\.run_sync\(\.\.\.\).*triple\.submit\(\.\.\.\)"):
        caller()


def test_an_async_flow_called_from_a_sync_flow_says_what_to_do() -> None:
    @flow
    async def inner() -> None: ...

    @flow
    def outer() -> object:
        return inner()

    with pytest.raises(UsageError, match=r"inner\.run_sync"):
        outer()


# Flows


def test_an_async_flow_can_be_given_to_asyncio_run() -> None:
    @flow
    async def f(x: int) -> int:
        return await triple(x)

    assert asyncio.run(f(2)) == 6


def test_run_sync_works_where_a_loop_runs_already() -> None:
    @flow
    async def f(x: int) -> int:
        return await triple(x) + await triple.submit(x)

    async def cell() -> int:
        return f.run_sync(2)

    assert asyncio.run(cell()) == 12
    assert f.run_sync(1) == 6


def test_a_sync_flow_works_where_a_loop_runs_already(run_loop: RunLoop) -> None:
    @flow
    def f(x: int) -> int:
        return double.submit(x).result() + triple.submit(x).result()

    async def cell() -> int:
        return f(2)

    assert run_loop(cell) == 10


def test_a_sync_flow_can_be_awaited_on_a_thread_of_its_own(run_loop: RunLoop) -> None:
    @flow
    def f(x: int) -> tuple[int, str]:
        return double(x) + double.submit(x).result(), here()

    async def main() -> tuple[int, str]:
        return await f.run_async(2)

    value, name = run_loop(main)
    assert value == 8
    assert name != here()


def test_flows_call_flows(run_loop: RunLoop) -> None:
    @flow
    def sync_child(x: int) -> int:
        return double.submit(x).result()

    @flow
    async def async_child(x: int) -> int:
        return await triple(x)

    @flow
    async def parent() -> list[int]:
        return [sync_child(1), await sync_child.run_async(2), await async_child(3)]

    @flow
    def sync_parent() -> list[int]:
        return [sync_child(1), async_child.run_sync(3)]

    assert run_loop(parent) == [2, 4, 9]
    assert sync_parent() == [2, 9]


def test_tasks_call_and_submit_tasks(run_loop: RunLoop) -> None:
    @task
    def outer(x: int) -> int:
        return double(x) + double.submit(x).result() + triple.submit(x).result()

    @task
    async def async_outer(x: int) -> int:
        return double(x) + await double.submit(x) + await triple(x)

    @flow
    async def f() -> tuple[int, int]:
        return await outer.submit(1), await async_outer.submit(1)

    assert outer(1) == 7
    assert outer.submit(1).result() == 7
    assert run_loop(f) == (7, 7)


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance

    @task
    def after(self, amount: int) -> int:
        return self.balance + amount

    @task
    async def after_async(self, amount: int) -> int:
        return self.balance + amount

    @flow
    def statement(self, amount: int) -> list[int]:
        return [self.after(amount), self.after.submit(amount).result()]

    @flow
    async def statement_async(self, amount: int) -> list[int]:
        return [await self.after_async(amount), await self.after_async.submit(amount)]

    @staticmethod
    @task
    def fee(amount: int) -> int:
        return amount // 10

    @task(retries=1)
    @staticmethod
    def bonus(amount: int) -> int:
        return amount // 5

    @task
    @classmethod
    def opened(cls, amount: int) -> tuple[str, int]:
        return cls.__name__, amount

    @flow
    @classmethod
    async def opened_later(cls, amount: int) -> tuple[str, int]:
        return cls.__name__, amount


class Savings(Account):
    """Inherits all of them."""


def test_methods_are_tasks_and_flows(run_loop: RunLoop) -> None:
    account = Account(5)
    assert account.statement(1) == [6, 6]
    assert run_loop(account.statement_async, 2) == [7, 7]
    assert account.after.map([1, 2]).result() == [6, 7]
    assert Account.fee(50) == Account.fee.submit(50).result() == 5
    assert isinstance(Account.after, Task)
    assert isinstance(Account.after_async, AsyncTask)


def test_class_methods_and_static_methods_are_tasks_and_flows() -> None:
    assert Account.bonus(50) == Account(1).bonus.submit(50).result() == 10
    assert Account.opened(1) == Account(9).opened(1) == ("Account", 1)
    assert Savings.opened.map([1, 2]).result() == [("Savings", 1), ("Savings", 2)]
    assert Savings(9).opened.with_options(name="other").submit(3).result() == ("Savings", 3)
    assert Savings.opened_later.run_sync(4) == ("Savings", 4)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="@classmethod hides what is below it")
def test_the_decorator_may_stand_below_classmethod_up_to_python_3_12() -> None:
    class Old:
        @classmethod
        @task
        def name(cls, times: int) -> str:
            return cls.__name__ * times

    assert Old.name(1) == Old().name.submit(1).result() == "Old"


# States


def test_return_state_gives_the_state_of_every_kind_of_call(run_loop: RunLoop) -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def f() -> int:
        return 1

    @flow
    async def g() -> int:
        return 2

    async def main() -> list[Any]:
        options: dict[str, Any] = {"return_state": True}
        return [
            await g(**options),
            await triple(1, **options),
            await double.run_async(1, **options),
            await f.run_async(**options),
            await g.call_state(),
            await double.run_async_state(1),
            await f.run_async_state(),
        ]

    options: dict[str, Any] = {"return_state": True}
    states: list[Any] = [*run_loop(main), f(**options), double(1, **options), g.run_sync(**options)]
    states += [g.run_sync_state(), triple.run_sync_state(1)]
    assert [state.result() for state in states] == [2, 3, 2, 1, 2, 2, 1, 1, 2, 2, 2, 3]
    state = fails.call_state()
    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), ValueError)
    with pytest.raises(ValueError, match="no"):
        state.result()


# Futures


def test_futures_are_arguments_at_any_depth(run_loop: RunLoop) -> None:
    @task
    def total(parts: Any, more: dict[str, Any]) -> int:
        return int(sum(parts[0]) + sum(parts[1]) + more["x"][0])

    @flow
    async def f() -> int:
        one, two = double.submit(1), triple.submit(1)
        return await total.submit([(one, 1), {two}], more={"x": [double.submit(5)]})

    @flow
    def g() -> int:
        one, two = double.submit(1), triple.submit(1)
        return total([(one, 1), {two}], more={"x": [double.submit(5)]})

    assert run_loop(f) == g() == 16


def test_wait_for_orders_runs_without_passing_values() -> None:
    order: list[str] = []

    @task
    def note(name: str, seconds: float = 0) -> None:
        time.sleep(seconds)
        order.append(name)

    @flow
    def f() -> None:
        slow = note.submit("first", 0.05)
        second = note.submit("second", wait_for=[slow])
        note.wait_for(second).submit("third")

    f()
    assert order == ["first", "second", "third"]


def test_wait_for_looks_into_lists_at_any_depth_and_none_is_nothing(run_loop: RunLoop) -> None:
    ended: set[int] = set()
    seen: list[set[int]] = []

    @task
    async def work(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        ended.add(number)
        if number == 2:
            raise ValueError("no")

    @task
    async def after(_number: int = 0) -> None:
        seen.append(ended & wanted)

    wanted = {1, 2, 3}

    @flow
    async def f() -> str:
        numbers = work.map([1, 2])
        allowed = allow_failure(numbers)
        given: list[Any] = [[allowed], (None, {work.submit(3)}, [Completed()])]
        await after.submit(wait_for=given)
        await after.wait_for(*given, None).submit()
        for future in after.map([1, 2], wait_for=iter(given)):
            await future
        await cast("Any", after)(wait_for=given)
        await cast("Any", after)(wait_for=None)
        return "done"

    @flow
    async def never() -> str:
        last = after.submit(wait_for=[None, work.map([1, 2])])
        with pytest.raises(RunNotReady):
            await last
        return last.state.name

    assert run_loop(f) == "done"
    assert seen == [wanted] * 6
    assert run_loop(never) == "NotReady"


@pytest.mark.parametrize("item", ["text", 5, b"bytes"])
def test_what_wait_for_cannot_wait_for_is_named(item: object) -> None:
    waits: Any = double
    for given in (item, [item], [[None, (item,)]]):
        with pytest.raises(ConfigurationError, match=f"not {item!r}."):
            waits.submit(1, wait_for=given)
        with pytest.raises(ConfigurationError, match=f"not {item!r}."):
            waits.map([1], wait_for=given)
        with pytest.raises(ConfigurationError, match=f"not {item!r}."):
            waits.wait_for(given)


def test_a_run_whose_upstream_failed_never_starts(run_loop: RunLoop) -> None:
    started: list[object] = []

    @task
    def fails() -> int:
        raise ValueError("no")

    @task
    def after(x: object) -> object:
        started.append(x)
        return x

    def is_shown(raised: pytest.ExceptionInfo[RunNotReady]) -> bool:
        """Whether the traceback leads to the line that failed."""
        return 'raise ValueError("no")' in "".join(traceback.format_exception(raised.value))

    @flow
    async def f() -> list[str]:
        first = fails.submit()
        second = after.submit(first)
        third = after.submit([second])
        with pytest.raises(RunNotReady, match="did not complete") as raised:
            await third
        assert is_shown(raised)
        return [future.state.name for future in (first, second, third)]

    @flow
    def g() -> list[str]:
        first = fails.submit()
        second = after.submit(first)
        third = after.submit([second])
        with pytest.raises(RunNotReady, match="did not complete") as raised:
            third.result()
        assert is_shown(raised)
        return [future.state.name for future in (first, second, third)]

    assert run_loop(f) == g() == ["Failed", "NotReady", "NotReady"]
    assert not started


def test_map_takes_iterables_and_unmapped_values() -> None:
    @task
    def add(x: int, y: int, offset: list[int]) -> int:
        return x + y + len(offset)

    assert add.map([1, 2], range(2), unmapped([0, 0])).result() == [3, 5]
    assert add.map([1, 2], 5, offset=unmapped([])).result() == [6, 7]
    assert double.map(double.submit(1).state.result() for _ in range(0)) == []


def test_map_refuses_what_cannot_be_mapped() -> None:
    @task
    def typed(x: int, y: int) -> int:
        return x + y

    add: Any = typed  # the wrong calls are the point
    with pytest.raises(ParameterError, match=r"different lengths: x: 2, y: 3"):
        add.map([1, 2], [1, 2, 3])
    with pytest.raises(ParameterError, match=r"no iterable argument; use submit\(\)"):
        add.map(1, 2)
    with pytest.raises(ParameterError, match="missing a required argument: 'y'"):
        add.map([1])


def test_arguments_that_do_not_fit_raise_at_the_call() -> None:
    with pytest.raises(ParameterError, match="task 'double': missing a required argument: 'x'"):
        cast("Any", double).submit()
    with pytest.raises(ParameterError, match=r"'double': .* argument 'z'; there are x"):
        cast("Any", double).submit(z=1)
    with pytest.raises(ParameterError, match="unexpected keyword argument 'y'"):
        double(1, y=2)  # type: ignore[call-arg]  # the wrong call is the point


def test_a_future_can_be_waited_for_and_called_back() -> None:
    gate = threading.Event()
    called: list[int] = []

    @task
    def waits() -> int:
        gate.wait(5)
        return 7

    future = waits.submit()
    future.add_done_callback(lambda done: called.append(done.result()))
    assert not future.done()
    assert not future.wait(timeout=0.01)
    with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
        future.result(timeout=0.01)
    gate.set()
    assert future.result(timeout=5) == 7
    future.add_done_callback(lambda done: called.append(done.result()))
    deadline = time.monotonic() + 5
    while len(called) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert called == [7, 7]


@pytest.mark.parametrize(
    ("made", "verb", "instead"),
    [
        (
            double,
            "run_sync",
            "it is sync: call it, or `await double.run_async(...)` in async code.",
        ),
        (double, "run_sync_state", "use double.call_state(...), or `await double.run_async_state"),
        (triple, "run_async", "it is async: `await triple(...)`, or triple.run_sync(...) in sync"),
        (
            triple,
            "run_async_state",
            "`await triple.call_state(...)`, or triple.run_sync_state(...)",
        ),
    ],
)
def test_a_verb_of_the_other_kind_is_missed_with_what_to_use(
    made: object, verb: str, instead: str
) -> None:
    assert not hasattr(made, verb)
    with pytest.raises(AttributeError, match=re.escape(instead)) as raised:
        getattr(made, verb)
    assert (raised.value.name, raised.value.obj) == (verb, made)


def test_attributes_that_there_are_not_are_missed_as_ever() -> None:
    """Copies and pickles, which ask for some of them, are made; of an empty object, too."""
    made: Any = double
    with pytest.raises(AttributeError, match=r"^'Task' object has no attribute 'sumbit'$"):
        made.sumbit(1)
    with pytest.raises(AttributeError, match="has no attribute 'fn'"):
        object.__new__(Task).fn  # noqa: B018  # reading it is the point
    assert copy.copy(made) is made
    assert pickle.loads(pickle.dumps(made)) is made


def test_unmapped_is_refused_where_nothing_is_mapped() -> None:
    for verb in (double, double.submit, double.call_state):
        for value in (unmapped(1), [unmapped(1)]):
            with pytest.raises(ParameterError, match=r"unmapped\(...\) is for map\(\) and imap"):
                cast("Any", verb)(value)


@pytest.mark.parametrize("verb", ["submit", "map"])
def test_return_state_is_for_calls_alone(verb: str) -> None:
    """Of a function that takes any names as well."""

    @task
    def takes_all(x: int, **others: object) -> None: ...

    for made in (double, takes_all):
        with pytest.raises(ParameterError, match=rf"^{verb}\(\) takes no return_state: use future"):
            getattr(made, verb)([1], return_state=True)


def test_result_that_would_deadlock_says_so(run_loop: RunLoop) -> None:
    @flow
    async def f() -> str:
        direct = triple.submit(1)
        behind = double.submit(direct)
        messages: list[str] = []
        for future in (direct, behind):
            with pytest.raises(WouldDeadlock, match=r"use `await future`\.$"):
                future.result()
            with pytest.raises(WouldDeadlock, match=r"use `await future`\.$"):
                future.wait()
            messages.append("refused")
        with pytest.raises(WouldDeadlock, match="use `await futures`"):
            triple.map([1, 2]).result()
        with pytest.raises(WouldDeadlock, match="map over its value"):
            cast("Any", double).map(direct)  # its value is no list, which is not known yet
        with pytest.raises(WouldDeadlock, match="`await future` before this call"):
            cast("Any", double)(direct)  # only the plugin knows that futures are taken
        assert await behind == 6
        assert behind.result() == 6
        return ",".join(messages)

    assert run_loop(f) == "refused,refused"


def test_run_sync_in_the_engines_loop_says_so() -> None:
    @task
    async def outer() -> int:
        return triple.run_sync(1)

    with pytest.raises(WouldDeadlock, match=r"await triple"):
        outer.run_sync()


def test_a_bounded_pool_is_not_parked_full_by_nested_results() -> None:
    @task
    def nested(depth: int) -> int:
        return 0 if depth == 0 else 1 + nested.submit(depth - 1).result()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def f() -> int:
        return nested.submit(20).result()

    @flow(task_runner=SequentialTaskRunner())
    def g() -> int:
        return nested.submit(20).result()

    assert f() == g() == 20


def test_flows_run_in_many_threads_of_the_user() -> None:
    @flow
    def f(x: int) -> int:
        return sum(double.map(range(x)).result())

    results: dict[int, int] = {}

    def work(x: int) -> None:
        results[x] = f(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {x: x * (x - 1) for x in range(1, 9)}


def test_thousands_of_async_tasks_are_cancelled_before_they_begin(run_loop: RunLoop) -> None:
    """Each that is let go of makes room for the next one, which is let go of at once."""

    @task
    async def never() -> None:
        await anyio.sleep(60)

    @flow
    async def stops() -> list[str]:
        futures = [never.submit() for _ in range(3000)]
        for future in futures:
            future.cancel()
        return [future.state.name for future in futures if await anyio_wait(future)]

    async def anyio_wait(future: TaskFuture[None]) -> bool:
        with pytest.raises(RunCancelled):
            await future
        return True

    assert set(run_loop(stops)) == {"Cancelled"}


def test_any_number_of_async_tasks_wait_at_the_same_time(
    run_loop: RunLoop,
) -> None:
    """They begin a few at a time, and each one that waits makes room for the next."""
    arrived: list[int] = []

    @flow
    async def meeting() -> int:
        complete = anyio.Event()

        @task
        async def arrive(number: int) -> int:
            arrived.append(number)
            if len(arrived) == 300:
                complete.set()
            with anyio.fail_after(PATIENCE_SECONDS):
                await complete.wait()
            return number

        return sum(await arrive.map(range(300)))

    assert run_loop(meeting) == sum(range(300))
    assert arrived == list(range(300))


@task
async def async_task() -> None:
    """Does nothing."""


@task
def sync_task() -> None:
    """Does nothing either."""


def test_where_no_engine_can_be_made_no_run_is_admitted(
    run_loop: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_engine() -> NoReturn:
        raise StoreError("the disk is full")

    @flow
    async def calls() -> int:
        monkeypatch.setattr(verbs, "get_engine", no_engine)
        for call in (async_task, async_task.call_state, sync_task.run_async):
            with pytest.raises(StoreError):
                await call()
        for sync_call in (
            sync_task,
            sync_task.submit,
            async_task.run_sync,
            async_task.run_sync_state,
        ):
            with pytest.raises(StoreError):
                sync_call()
        run = current_run.get()
        assert isinstance(run, FlowRun)
        return len(run.members.all())

    assert run_loop(calls) == 0
