"""`tags` gives tags to all runs that are made inside, on whatever thread or loop."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from penstock import Flow, Task, TaskRunContext, flow, history, tags, task
from penstock._engine.process import get_engine
from penstock._rules.task_run import TaskRun
from penstock.context import TaskRunView
from penstock.exceptions import ConfigurationError
from penstock.states import State
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


@task(tags=["own"])
def double(x: int) -> int:
    return 2 * x


@task
async def triple(x: int) -> int:
    return 3 * x


def tags_of_tasks(name: str) -> list[list[str]]:
    """The tags of the runs of a task, oldest first."""
    return [sorted(run.tags) for run in history.task_runs(task=name)][::-1]


def tags_of_flows(name: str) -> list[list[str]]:
    return [sorted(run.tags) for run in history.flow_runs(flow=name)][::-1]


def test_runs_have_the_tags_around_them_besides_their_own() -> None:
    """Inside another one they are those of both; outside there are none."""
    with tags("a", "b"):
        double(1)
        with tags("c", "a") as inside:
            double(2)
        assert inside == {"a", "b", "c"}
        double(3)
    double(4)
    assert tags_of_tasks("double") == [
        ["a", "b", "own"],
        ["a", "b", "c", "own"],
        ["a", "b", "own"],
        ["own"],
    ]


def test_tags_are_gone_when_the_code_inside_raises() -> None:
    with pytest.raises(ZeroDivisionError), tags("a"):
        raise ZeroDivisionError
    double(1)
    assert tags_of_tasks("double") == [["own"]]


def test_tags_follow_the_code_into_flows_threads_and_loops(run_loop: RunLoop) -> None:
    @flow
    def inner() -> list[int]:
        return [double.submit(1).result(), double(1)]

    @flow(tags=["outer"])
    async def outer() -> list[int]:
        await inner.run_async()
        await double.run_async(1)
        return [await triple(1), await triple.submit(1), await double.submit(1)]

    async def main() -> list[int]:
        with tags("around"):
            return await outer()

    assert run_loop(main) == [3, 3, 2]
    assert tags_of_flows("outer") == [["around", "outer"]]
    assert tags_of_flows("inner") == [["around"]]
    assert tags_of_tasks("double") == [["around", "own"]] * 4
    assert tags_of_tasks("triple") == [["around"]] * 2


def test_tags_follow_async_code_that_sync_code_runs_or_submits() -> None:
    with tags("around"):
        assert triple.run_sync(1) == 3
        assert triple.submit(1).result() == 3
        assert triple.map([1, 2]).result() == [3, 6]
        assert list(double.imap(range(3))) == [0, 2, 4]
    assert tags_of_tasks("triple") == [["around"]] * 4
    assert tags_of_tasks("double") == [["around", "own"]] * 3


def test_code_side_by_side_has_tags_of_its_own(run_loop: RunLoop) -> None:
    async def call(tag: str) -> None:
        with tags(tag):
            await anyio.lowlevel.checkpoint()
            await triple(1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(call, "a")
            group.start_soon(call, "b")

    run_loop(main)
    assert sorted(tags_of_tasks("triple")) == [["a"], ["b"]]


def test_a_run_knows_its_tags_and_so_do_its_hooks_and_its_cache_key() -> None:
    seen: list[list[str]] = []

    def key(context: TaskRunContext, _parameters: dict[str, Any]) -> None:
        seen.append(sorted(context.task_run.tags))

    def hook(_task: object, run: TaskRunView, _state: State[Any]) -> None:
        seen.append(sorted(run.tags))

    told = Task[[], None](lambda: None, name="told", cache_key_fn=key, on_completion=[hook])
    with tags("a"):
        told()
    told()
    assert seen == [["a"], ["a"], [], []]


def test_the_history_finds_runs_by_the_tags_around_them() -> None:
    with tags("a"):
        expected = [double.call_state(1).task_run_id]
    double(2)
    assert [run.id for run in history.task_runs(tag="a")] == expected
    assert [run.id for run in history.task_runs(task="double", tag="a")] == expected
    assert len(history.task_runs(task="double")) == len(history.task_runs(tag="own")) == 2


def test_the_log_and_the_history_have_one_name_for_a_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO), tags("a"):
        double(1)
    name = history.task_runs(task="double")[0].name
    assert f"{name!r}" in caplog.text


def test_a_retry_of_a_flow_finds_earlier_runs_under_the_same_tags() -> None:
    """What completed before stands for its second self, though the same task has other runs."""
    calls: list[str] = []
    attempts: list[int] = []

    @task
    def once(text: str) -> str:
        calls.append(text)
        return text

    @flow(retries=1)
    def twice() -> None:
        once("untagged")
        with tags("a"):
            once("tagged")
            with tags("b"):
                once("more")
        attempts.append(len(calls))
        if len(attempts) == 1:
            raise ValueError

    with tags("around"):
        twice()
    assert calls == ["untagged", "tagged", "more"]
    assert attempts == [3, 3]
    assert tags_of_tasks("once") == [["around"], ["a", "around"], ["a", "around", "b"]]


def made() -> TaskRun:
    """A task run as the verbs make it."""
    run = double._new_run(get_engine(), (1,), {})
    assert isinstance(run, TaskRun)
    return run


def test_definitions_differ_in_their_tags_alone() -> None:
    """Runs of one task under the same tags share one, in whatever order these were given."""
    with tags("b", "a"):
        first = made()
    with tags("a"), tags("b"):
        second = made()
    with tags("own"):
        third = made()
    own = double.definition
    assert first.definition == second.definition
    assert first.definition.tags == ("a", "b", "own")
    assert first.definition.id != own.id
    assert third.definition == own


def test_no_tags_are_no_change() -> None:
    with tags() as inside:
        assert inside == set()
        assert made().definition is double.definition


@pytest.mark.parametrize("bad", [[""], [7], [None], [["a"]]])
def test_what_is_no_tag_is_refused(bad: list[Any]) -> None:
    with (
        pytest.raises(
            ConfigurationError, match=r"tags\(\): tags must be a list of strings that are not blank"
        ),
        tags(*bad),
    ):
        pass


def test_a_flow_as_an_object_has_its_own_tags_only() -> None:
    tagged = Flow[[], None](lambda: None, name="tagged", tags=["own"])
    with tags("a"):
        tagged()
        assert tagged.tags == {"own"}
    assert tags_of_flows("tagged") == [["a", "own"]]
