"""Caching, end to end."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import anyio
import pytest

from penstock import Task, TaskRunContext, flow, history, task
from penstock._engine.process import use_settings
from penstock.settings import Settings
from penstock.tasks import task_input_hash
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


def test_concurrent_runs_with_one_key_compute_it_once(run_loop: RunLoop) -> None:
    calls: list[int] = []
    gate = threading.Event()

    @task(cache_key_fn=task_input_hash)
    def slow(x: int) -> int:
        calls.append(x)
        gate.wait(5)
        return 2 * x

    @task(cache_key_fn=task_input_hash)
    async def slow_async(x: int) -> int:
        calls.append(x)
        await anyio.sleep(0.02)
        return 3 * x

    @flow
    async def f() -> list[Any]:
        futures = [slow.submit(1) for _ in range(50)]
        others = [slow_async.submit(2) for _ in range(50)]
        await anyio.sleep(0.02)
        gate.set()
        return [[await future for future in futures], [await future for future in others]]

    assert run_loop(f) == [[2] * 50, [6] * 50]
    assert sorted(calls) == [1, 2]
    names = [run.state.name for run in history.task_runs(task="slow")]
    assert (names.count("Completed"), names.count("Cached")) == (1, 49)


def test_where_the_owner_of_a_key_fails_the_next_run_computes_it() -> None:
    calls: list[int] = []
    gate = threading.Event()

    @task(cache_key_fn=lambda _context, _parameters: "one")
    def once_bad() -> int:
        calls.append(1)
        gate.wait(5)
        if len(calls) == 1:
            raise ValueError("no")
        return 5

    futures = [once_bad.submit() for _ in range(10)]
    gate.set()
    results = [future.result(5, raise_on_failure=False) for future in futures]
    assert len(calls) == 2
    assert sorted(map(str, results)) == ["5"] * 9 + ["no"]


def test_a_task_may_call_itself_under_its_own_key() -> None:
    @task(cache_key_fn=lambda _context, _parameters: "same")
    def nested(depth: int) -> int:
        return 1 + nested(depth - 1) if depth else 0

    assert nested(2) == 2


@pytest.mark.needs_file("an engine made later finds the entries")
def test_keys_are_shared_across_flows_and_restarts(settings: Settings) -> None:
    calls: list[int] = []

    @task(cache_key_fn=lambda _context, parameters: parameters["x"] % 10)
    def compute(x: int) -> tuple[int, set[str]]:
        calls.append(x)
        return x, {"a"}

    @flow
    def one() -> Any:
        return compute(1)

    @flow
    def two() -> Any:
        return compute(11)

    assert one() == two() == (1, {"a"})
    assert len(history.flow_runs()) == 2  # and with that, all is on disk
    with use_settings(settings):
        assert compute(21) == (1, {"a"})
        run = history.task_runs(limit=1)[0]
        assert run.state.name == "Cached"
        assert run.state.result() == (1, {"a"})
        origin = history.task_run(run.state.details.cached_from or "")
        assert origin is not None
        assert origin.state.name == "Completed"
    assert calls == [1]


def test_a_cached_result_expires() -> None:
    calls: list[int] = []

    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(milliseconds=30))
    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert [compute(), compute()] == [1, 1]
    gone = threading.Event()
    gone.wait(0.04)
    assert compute() == 2


def test_refresh_cache_computes_anew_and_stores() -> None:
    calls: list[int] = []

    def key(_context: TaskRunContext, _parameters: dict[str, Any]) -> str:
        return "shared"

    @task(cache_key_fn=key)
    def reads() -> int:
        calls.append(1)
        return len(calls)

    @task(cache_key_fn=key, refresh_cache=True)
    def writes() -> int:
        calls.append(1)
        return len(calls)

    assert [reads(), writes(), reads()] == [1, 2, 2]


def test_the_context_of_a_key_function_knows_the_run() -> None:
    seen: list[Any] = []

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> None:
        seen.extend([context.task.name, context.task_run.name, parameters, context.parameters])

    @task(cache_key_fn=key, tags=["t"])
    def compute(x: int, y: int = 2) -> int:
        return x + y

    assert [compute(1), compute(1)] == [3, 3]
    assert seen[0] == "compute"
    assert seen[1].startswith("compute-")
    assert seen[2] == seen[3] == {"x": 1, "y": 2}


def test_an_argument_that_cannot_be_hashed_runs_uncached_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[int] = []

    @task(cache_key_fn=task_input_hash)
    def compute(lock: Any) -> int:
        calls.append(1)
        return 1

    with caplog.at_level(logging.WARNING, "penstock"):
        assert [compute(threading.Lock()), compute(threading.Lock())] == [1, 1]
    assert len(calls) == 2
    warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == 1
    assert "Task 'compute' runs uncached: parameter 'lock' cannot be hashed" in warnings[0]


def test_a_key_function_that_raises_runs_uncached_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def key(_context: TaskRunContext, _parameters: dict[str, Any]) -> str:
        raise LookupError("nope")

    @task(cache_key_fn=key)
    def compute() -> int:
        return 1

    with caplog.at_level(logging.WARNING, "penstock"):
        assert [compute(), compute()] == [1, 1]
    assert len(caplog.records) == 1
    assert "making its cache key raised" in caplog.text
    assert "LookupError: nope" in caplog.text


def test_a_result_that_cannot_be_stored_is_there_in_memory_and_says_why() -> None:
    @task(cache_key_fn=task_input_hash)
    def makes() -> object:
        return threading.Lock()

    state = makes.call_state()
    assert state.result() is not None
    assert "cannot be serialized (TypeError" in (state.details.not_persisted or "")
    stored = history.task_runs(task="makes")[0].state
    assert stored.name == "Completed"
    with pytest.raises(Exception, match="cannot be serialized"):
        stored.result()
    assert makes.call_state().name == "Completed"


def test_clearing_the_cache_computes_again() -> None:
    calls: list[int] = []

    @task(cache_key_fn=lambda _context, _parameters: "k")
    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert compute() == 1
    assert history.clear_cache("other") == 0
    assert history.clear_cache("k") == 1
    assert compute() == 2
    history.prune(older_than=timedelta(0))
    assert compute() == 2
    assert history.clear().task_runs > 0
    assert compute() == 3


class Gone:
    """A class that is not there any more when its stored result is read."""


def test_a_result_that_cannot_be_read_back_is_computed_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    @task(cache_key_fn=lambda _context, _parameters: "k")
    def compute() -> object:
        calls.append(1)
        return [Gone()] if len(calls) == 1 else 5

    compute()
    monkeypatch.delattr("tests.engine.test_cache.Gone")
    with caplog.at_level(logging.WARNING, "penstock"):
        assert compute() == 5
    assert "cached under 'k' is computed again" in caplog.text


def test_what_comes_back_from_the_cache_is_a_copy_of_its_own() -> None:
    @task(cache_key_fn=task_input_hash)
    def compute() -> list[int]:
        return [1]

    compute().append(2)
    compute().append(3)
    assert compute() == [1]


def test_tasks_of_one_factory_have_keys_of_their_own() -> None:
    seen: list[int] = []

    def make(factor: int) -> Task[[int], int]:
        @task(cache_key_fn=task_input_hash)
        def scale(x: int) -> int:
            seen.append(factor)
            return factor * x

        return scale

    assert [make(2)(5), make(3)(5), make(2)(5)] == [10, 15, 10]
    assert seen == [2, 3]
