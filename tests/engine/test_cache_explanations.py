"""The cache explains itself, end to end."""

from __future__ import annotations

import logging
import threading
from typing import Any, NoReturn

import pytest

from penstock import Task, TaskRunContext, flow, history, task
from penstock._caching.explanations import CacheExplanation
from penstock._caching.keys import task_input_hash
from penstock._caching.policies import (
    FLOW_PARAMETERS,
    INPUTS,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
)
from penstock._engine.process import get_engine, use_settings
from penstock.caching import explain
from penstock.exceptions import ParameterError, StoreError, UsageError
from penstock.settings import Settings
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


def by_a(_context: TaskRunContext, parameters: dict[str, Any]) -> object:
    return parameters["a"]


def add(a: int, b: int = 2) -> int:
    return plus(a, b)


def plus(a: int, b: int) -> int:
    return a + b


def other_plus(a: int, b: int) -> int:
    return b + a


def hold(lock: object) -> object:
    return lock


def adding(policy: CachePolicy) -> Task[[int, int], int]:
    return Task[[int, int], int](add, cache_policy=policy)


def told(explanation: CacheExplanation) -> list[str]:
    return [str(difference) for difference in explanation.differences]


def test_a_hit_names_the_run_that_made_the_result() -> None:
    summed = adding(INPUTS)
    summed(1, 2)
    found = explain(summed, 1, 2)
    assert found.outcome == "hit"
    assert found.run_id == history.task_runs()[0].id


def test_a_miss_names_the_argument_that_differs() -> None:
    summed = adding(INPUTS + TASK_SOURCE)
    assert str(explain(summed, 1, 2)) == "Task 'add': miss; the task has no entries yet"
    summed(1, 2)
    assert told(explain(summed, 1, 3)) == ["argument b differs"]
    assert told(explain(summed, 4, 3)) == ["argument a differs", "argument b differs"]


def test_a_miss_names_the_helper_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    summed = adding(INPUTS + TASK_SOURCE)
    summed(1, 2)
    monkeypatch.setitem(globals(), "plus", other_plus)
    assert told(explain(summed, 1, 2)) == [
        f"code of {__name__}.other_plus is new",
        f"code of {__name__}.plus is gone",
    ]
    monkeypatch.undo()
    monkeypatch.setattr(plus, "__code__", other_plus.__code__)
    assert told(explain(summed, 1, 2)) == [f"code of {__name__}.plus differs"]


def test_the_parts_of_task_input_hash_are_known_as_well() -> None:
    summed = Task[[int, int], int](add, cache_key_fn=task_input_hash)
    summed(1, 2)
    assert told(explain(summed, 1, 3)) == ["argument b differs"]


def test_a_key_of_a_function_has_no_parts_but_is_one_of_a_sum() -> None:
    alone, in_a_sum = adding(CacheKeyFnPolicy(by_a)), adding(CacheKeyFnPolicy(by_a) + RUN_ID)
    alone(1, 2)
    assert "made by a function" in str(explain(alone, 2, 2))
    in_a_sum(1, 2)
    assert "what by_a returned differs" in told(explain(in_a_sum, 2, 2))


def test_a_miss_names_the_flow_parameter_and_the_flow_run(run_loop: RunLoop) -> None:
    summed = adding(INPUTS + FLOW_PARAMETERS + RUN_ID)

    @flow
    def sums(x: int, y: int) -> list[str]:
        said = told(explain(summed, 1, y))
        summed(1, y)
        return said

    @flow
    async def sums_async(x: int, y: int) -> list[str]:
        return told(explain(summed, 1, y))

    assert sums(1, 2) == []
    assert sums(2, 2) == ["flow parameter x differs", "flow run differs"]
    nearest = ["flow parameter y differs", "argument b differs", "flow run differs"]
    assert run_loop(lambda: sums_async(2, 3)) == nearest


@pytest.mark.needs_file("an engine made later finds the entries")
def test_the_store_on_disk_is_asked_as_well_after_a_restart(settings: Settings) -> None:
    summed = adding(INPUTS)
    summed(1, 2)
    assert get_engine().commit().wait(PATIENCE_SECONDS)
    with use_settings(settings):
        assert told(explain(summed, 1, 3)) == ["argument b differs"]
        assert explain(summed, 1, 2).outcome == "hit"


def test_an_entry_that_has_expired_is_said_to_have() -> None:
    summed = Task[[int, int], int](add, cache_policy=INPUTS, cache_expiration=0.001)
    summed(1, 2)
    threading.Event().wait(0.01)
    assert "no part differs, but the entry has expired" in str(explain(summed, 1, 2))


def test_explaining_runs_and_records_nothing() -> None:
    summed = adding(INPUTS)

    @flow
    def asks() -> int:
        explain(summed, 1, 2)
        return summed(1, 2)

    assert asks() == 3
    (run,) = history.task_runs()
    assert run.name.endswith("-0")


def test_what_is_not_cached_is_said_not_to_be() -> None:
    def none(_context: TaskRunContext, _parameters: dict[str, Any]) -> None:
        return None

    assert "no cache policy" in str(explain(Task[[int, int], int](add), 1, 2))
    assert "gives this call no key" in str(explain(adding(CacheKeyFnPolicy(none)), 1, 2))
    anew = adding(INPUTS).with_options(refresh_cache=True)
    assert "computed anew" in str(explain(anew, 1, 2))
    held = Task[[object], object](hold, cache_policy=INPUTS)
    assert "parameter 'lock' cannot be hashed" in str(explain(held, threading.Lock()))


def test_only_tasks_are_explained() -> None:
    plain: Any = add
    with pytest.raises(UsageError, match="explain takes a task"):
        explain(plain, 1, 2)


def test_wrong_arguments_and_unfinished_futures_are_refused() -> None:
    summed: Any = adding(INPUTS)
    with pytest.raises(ParameterError):
        explain(summed, 1, 2, 3)
    gate = threading.Event()

    @task
    def waits() -> int:
        gate.wait(5)
        return 1

    future = waits.submit()
    with pytest.raises(UsageError, match="has not ended"):
        explain(summed, future, 2)
    gate.set()
    future.wait()
    summed(1, 2)
    assert explain(summed, future, 2).outcome == "hit"


def test_a_miss_is_logged_for_those_who_debug(caplog: pytest.LogCaptureFixture) -> None:
    summed = adding(INPUTS)
    summed(1, 2)
    with caplog.at_level(logging.DEBUG, "penstock.caching"):
        summed(1, 2)
        summed(1, 3)
    (message,) = [r.getMessage() for r in caplog.records if r.name == "penstock.caching"]
    assert message.startswith("Task 'add': miss; argument b differs; compared with task run ")


def test_a_store_that_cannot_be_read_takes_no_run_down_where_it_is_debugged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_task: int, _limit: int) -> NoReturn:
        raise StoreError("No disk.")

    monkeypatch.setattr(get_engine().store, "entries_of", fails)
    with caplog.at_level(logging.DEBUG, "penstock.caching"):
        assert adding(INPUTS)(1, 2) == 3
    assert "Task 'add': miss; no more can be said: No disk." in caplog.messages


def test_a_policy_that_raises_leaves_the_run_uncached_with_one_warning(
    caplog: pytest.LogCaptureFixture, run_loop: RunLoop
) -> None:
    def bad(_context: TaskRunContext, _parameters: dict[str, Any]) -> NoReturn:
        raise KeyError("oops")

    @task(cache_policy=INPUTS + CacheKeyFnPolicy(bad))
    async def doubled(a: int) -> int:
        return 2 * a

    @flow
    async def twice() -> list[int]:
        return [await doubled(4), await doubled.submit(4)]

    assert run_loop(twice) == [8, 8]
    (message,) = [text for text in caplog.messages if "uncached" in text]
    assert message.startswith("Task 'doubled' runs uncached: making its cache key raised\n")
    assert "KeyError: 'oops'" in message
    assert "its key cannot be made: KeyError('oops')" in str(explain(doubled, 4))
    assert {run.state.name for run in history.task_runs()} == {"Completed"}


def test_runs_that_make_one_key_at_once_on_many_threads_compute_it_once(run_loop: RunLoop) -> None:
    """Under a policy that goes by the code as well."""
    computed: list[int] = []

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def square(x: int) -> int:
        computed.append(x)
        return x * x

    @flow
    async def squares() -> list[int]:
        return [await future for future in square.map([*range(20)] * 10)]

    assert run_loop(squares) == [x * x for x in range(20)] * 10
    assert sorted(computed) == list(range(20))


def test_nothing_is_compared_where_nobody_debugs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_engine().cache, "_explain_miss", None)
    assert adding(INPUTS)(1, 2) == 3


def test_the_function_of_a_key_is_called_once_a_run() -> None:
    calls: list[object] = []

    def key(_context: TaskRunContext, parameters: dict[str, Any]) -> object:
        calls.append(parameters["a"])
        return parameters["a"]

    summed = adding(CacheKeyFnPolicy(key) + INPUTS)
    summed(1, 2)
    summed(1, 2)
    assert calls == [1, 1]
