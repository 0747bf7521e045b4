"""`with_options` gives a copy with other options, and leaves the original as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_overloads

import pytest

from penstock import exponential_backoff, flow, history, task
from penstock._calls.decorated import CommonOptions
from penstock.exceptions import ConfigurationError
from penstock.flows import FlowArguments
from penstock.task_runners import SequentialTaskRunner
from penstock.tasks import TaskArguments
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


def some_tags() -> Iterator[str]:
    yield "one"


@task(name="add", tags=some_tags(), retries=1, retry_delay_seconds=exponential_backoff(1))
def add(x: int, y: int = 1) -> int:
    return x + y


def test_a_copy_has_the_new_options_and_keeps_the_others() -> None:
    other = add.with_options(retries=3, name="plus")
    assert (add.name, add.retries, add.retry_policy.delays) == ("add", 1, (1,))
    assert (other.name, other.retries, other.retry_policy.delays) == ("plus", 3, (1, 2, 4))
    assert other.tags == add.tags == frozenset({"one"})
    assert other.with_options(tags=["two"]).retries == 3


def test_a_copy_of_a_flow_takes_the_options_of_flows() -> None:
    @flow(name="first", version="1", validate_parameters=False)
    def adds(x: int) -> int:
        return x + 1

    other = adds.with_options(task_runner=SequentialTaskRunner(), timeout_seconds=5)
    assert (other.name, other.version, other.timeout_seconds) == ("first", "1", 5.0)
    assert other.task_runner == SequentialTaskRunner()
    assert not other.validate_parameters
    assert other(1) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, r"task 'add': retries must be an integer of at least 0"),
        ({"cache_expiration": 0}, r"task 'add': cache_expiration must be a duration above 0"),
    ],
)
def test_a_copy_is_checked_as_the_decorator_is(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        add.with_options(**options)


def test_an_option_that_there_is_not_is_named() -> None:
    unknown: Any = {"retires": 3}
    with pytest.raises(TypeError, match="retires"):
        add.with_options(**unknown)


def test_copies_run_and_their_runs_have_names_of_their_own() -> None:
    again = add.with_options(retries=5)
    assert (add(1), again(2), again.submit(3).result()) == (2, 3, 4)
    names = [run.name for run in history.task_runs(task="add")]
    assert len(set(names)) == 3


def test_a_copy_of_a_method_is_bound_to_its_object() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.start = start

        @task
        def plus(self, x: int) -> int:
            return self.start + x

        @flow
        def flow_plus(self, x: int) -> int:
            return self.plus.with_options(name="other")(x)

    counter = Counter(40)
    assert counter.plus.with_options(retries=1)(2) == 42
    assert counter.flow_plus.with_options(retries=1)(2) == 42
    assert Counter.plus.with_options(retries=1)(counter, 2) == 42


def test_a_copy_waits_for_what_its_original_waits_for() -> None:
    first = add.submit(1)
    waiting = add.wait_for(first).with_options(retries=0)
    assert waiting.submit(2).result() == 3
    assert first.done()


def test_copies_of_async_functions(run_loop: RunLoop) -> None:
    @task
    async def twice(x: int) -> int:
        return 2 * x

    @flow
    async def outer(x: int) -> int:
        return await twice.with_options(name="double", timeout_seconds=5)(x)

    assert run_loop(outer.with_options(retries=1), 4) == 8
    assert len(history.task_runs(task="double")) == 1


@pytest.mark.parametrize(
    ("decorator", "arguments"), [(task, TaskArguments), (flow, FlowArguments)], ids=["task", "flow"]
)
def test_the_options_of_copies_are_those_of_the_decorator(decorator: Any, arguments: Any) -> None:
    """The overload with keywords is the one that type checkers see."""
    *_, with_keywords = get_overloads(decorator)
    options = {*arguments.__annotations__, *CommonOptions.__annotations__}
    assert options == set(getattr(with_keywords, "__kwdefaults__", ()))
