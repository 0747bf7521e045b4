"""Runs have the names that a template or a function gives them, in the log and in the history."""

from __future__ import annotations

import logging

import pytest

from penstock import flow, get_run_logger, history, task
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


def task_names(name: str) -> list[str]:
    return sorted(run.name for run in history.task_runs(task=name))


@task(task_run_name="add {x} and {y:02d}")
def add(x: int, y: int = 1) -> int:
    get_run_logger().info("adding")
    return x + y


@task(task_run_name="{text[0]}-{number.real}")
async def spell(text: str, number: int) -> str:
    return text * number


def test_a_template_names_task_runs_after_their_parameters(run_loop: RunLoop) -> None:
    """Futures among them by their values."""

    @flow
    async def calls() -> None:
        future = add.submit(1)
        await add.submit(future, y=5)
        await spell("abc", 2)
        await spell.submit("def", future)

    run_loop(calls)
    assert task_names("add") == ["add 1 and 01", "add 2 and 05"]
    assert task_names("spell") == ["a-2", "d-2"]


def test_a_flow_is_named_after_its_parameters_as_they_were_converted() -> None:
    @flow(flow_run_name="{day:>3}-{rest}")
    def daily(day: int, *rest: int) -> None: ...

    daily("7", 1, 2)  # type: ignore[arg-type]  # it is converted
    assert history.flow_runs(flow="daily")[0].name == "  7-(1, 2)"


def test_a_function_names_runs_and_is_code_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    def name() -> str:
        get_run_logger().info("naming")
        return "my run"

    @flow(flow_run_name=name)
    def outer() -> int:
        return add.with_options(task_run_name=name, name="named")(1)

    with caplog.at_level(logging.INFO, "penstock"):
        outer()
    assert history.flow_runs(flow="outer")[0].name == "my run"
    assert task_names("named") == ["my run"]
    assert [r.getMessage() for r in caplog.records].count("naming") == 2
    titles = [r.__dict__.get("run_title") for r in caplog.records]
    assert titles[-1] == "Flow run 'my run'"
    assert "Task run 'my run'" in titles


REFUSED = (
    "penstock.exceptions.ParameterError: A run's name must be a string that is not blank, not "
)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (KeyError("name"), "Traceback (most recent call last):"),
        (5, f"{REFUSED}5."),
        ("", f"{REFUSED}''."),
    ],
)
def test_what_gives_no_name_leaves_the_generated_one_with_a_warning(
    answer: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    def name() -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # the point of the test

    @task(task_run_name=name)
    def works() -> int:
        return 5

    @flow(flow_run_name=name)
    def outer() -> int:
        return works()

    with caplog.at_level(logging.WARNING, "penstock"):
        assert outer() == 5
    assert task_names("works")[0].startswith("works-")
    assert "-" in history.flow_runs(flow="outer")[0].name
    warned = [r.getMessage() for r in caplog.records]
    assert [text.splitlines()[:2] for text in warned] == [
        [f"{kind}_run_name raised; the run keeps its name:", why] for kind in ("flow", "task")
    ]


def test_a_template_that_fails_on_a_value_leaves_the_generated_name() -> None:
    @task(task_run_name="{x.missing}")
    def works(x: int) -> int:
        return x

    assert works(5) == 5
    assert task_names("works")[0].startswith("works-")


def test_a_retried_run_keeps_its_name_and_is_named_once() -> None:
    made: list[str] = []

    def name() -> str:
        made.append("x")
        return f"name {len(made)}"

    @task(retries=2, task_run_name=name)
    def fails() -> None:
        raise ValueError("no")

    fails.call_state()
    assert task_names("fails") == ["name 1"]


def test_a_run_that_stands_for_another_one_in_a_retry_of_the_flow_keeps_its_name() -> None:
    attempts: list[int] = []

    @flow(flow_run_name="inner {x}")
    def inner(x: int) -> int:
        return x

    @flow(retries=1)
    def outer() -> None:
        add(1)
        inner(2)
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError("no")

    outer()
    assert task_names("add") == ["add 1 and 01"]
    assert [run.name for run in history.flow_runs(flow="inner")] == ["inner 2"]


def test_a_cached_run_keeps_its_generated_name() -> None:
    cached = add.with_options(name="cached", cache_key_fn=lambda _context, _parameters: "key")
    cached(1)
    cached(1)
    names = task_names("cached")
    assert names[0] == "add 1 and 01"
    assert names[1].startswith("cached-")


def test_a_bound_method_is_named_after_its_other_parameters() -> None:
    class Adder:
        @task(task_run_name="plus {x}")
        def plus(self, x: int) -> int:
            return x + 1

    Adder().plus(5)
    assert task_names("plus") == ["plus 5"]
