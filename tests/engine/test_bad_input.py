"""Bad input gets an error that names the argument and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from penstock import flow, task
from penstock.exceptions import ConfigurationError, StoreError
from penstock.flows import FlowArguments
from penstock.task_runners import ConcurrentTaskRunner
from penstock.tasks import TaskArguments


def function() -> None: ...


async def async_function() -> None: ...


def answers(answer: object) -> Callable[[int], object]:
    """A function of one argument that gives this."""
    return lambda _retries: answer


Cases: TypeAlias = Sequence[tuple[dict[str, Any], str]]
OF_BOTH: Cases = [
    ({"retries": -1}, r"'function': retries must be an integer of at least 0, not -1"),
    ({"retries": 1.5}, r"retries must be an integer of at least 0"),
    ({"retries": True}, r"retries must be an integer of at least 0"),
    ({"retry_delay_seconds": -1}, r"retry_delay_seconds must be a number of seconds of at least 0"),
    ({"retry_delay_seconds": []}, r"retry_delay_seconds must be a number"),
    ({"retry_delay_seconds": "1"}, r"retry_delay_seconds must be a number"),
    (
        {"retry_delay_seconds": len},
        r"'function': the function given as retry_delay_seconds raised",
    ),
    ({"retry_delay_seconds": answers([-1])}, r"for 2 retries it returned \[-1\]"),
    ({"retry_delay_seconds": answers(5)}, r"must return a list of seconds from 0 .* returned 5"),
    ({"retry_delay_seconds": answers([])}, r"must return a list of seconds"),
    (
        {"retry_jitter_factor": -0.1},
        r"'function': retry_jitter_factor must be a number of at least 0",
    ),
    (
        {"retry_jitter_factor": "1"},
        r"retry_jitter_factor must be a number of at least 0 and below 1e.09, not '1'",
    ),
    ({"retry_on": ()}, r"'function': retry_on must be a subclass of Exception, or a tuple"),
    ({"retry_on": "ValueError"}, r"retry_on must be a subclass of Exception"),
    ({"retry_on": (ValueError, int)}, r"retry_on must be a subclass of Exception"),
    ({"retry_on": KeyboardInterrupt}, r"retry_on must be a subclass of Exception"),
    ({"on_failure": 5}, r"'function': on_failure must be a list of functions"),
    ({"on_running": len}, r"on_running must be a list of functions"),
    ({"on_completion": [5]}, r"on_completion must be a list of functions"),
    ({"on_failure": [function]}, r"on_failure must be a list of functions"),
    (
        {"timeout_seconds": 0},
        r"timeout_seconds must be a duration above 0, in seconds or as a timedelta",
    ),
    (
        {"timeout_seconds": "x"},
        r"timeout_seconds must be a duration above 0, in seconds or as a timedelta",
    ),
    ({"name": ""}, r"name must be a string that is not blank"),
    ({"name": " "}, r"name must be a string that is not blank, not ' '"),
    ({"name": 5}, r"name must be a string that is not blank"),
    ({"description": 5}, r"description must be a string"),
    ({"version": 5}, r"version must be a string"),
    ({"tags": "one"}, r"tags must be a list of strings that are not blank, not 'one'"),
    ({"tags": [" "]}, r"tags must be a list of strings that are not blank, not \[' '\]"),
    ({"tags": [1]}, r"tags must be a list of strings that are not blank"),
    ({"persist_result": "yes"}, r"persist_result must be True or False"),
    ({"log_prints": 1}, r"log_prints must be True or False"),
    ({"result_serializer": 5}, r"'function': result_serializer"),
    ({"result_serializer": "yaml"}, r"'function': result_serializer .*'yaml'"),
]
OF_TASKS: Cases = [
    ({"cache_policy": 5}, r"task 'function': cache_policy must be a cache policy, not 5"),
    ({"cache_key_fn": 5}, r"cache_key_fn must be a sync function of \(context, parameters\)"),
    (
        {"cache_key_fn": function},
        r"cache_key_fn must be a sync function of \(context, parameters\)",
    ),
    ({"cache_key_fn": answers(5)}, r"cache_key_fn must be a sync function of"),
    ({"retry_condition_fn": 5}, r"'function': retry_condition_fn must be a sync function of"),
    ({"retry_condition_fn": async_function}, r"retry_condition_fn must be a sync function of"),
    ({"cache_expiration": -5}, r"cache_expiration must be a duration above 0"),
    ({"refresh_cache": 1}, r"refresh_cache must be True or False"),
    ({"cache_key_fn": max, "persist_result": False}, r"leaves nothing to cache"),
]
OF_FLOWS: Cases = [
    ({"task_runner": "threads"}, r"task_runner must be a task runner"),
    ({"on_cancellation": 5}, r"'function': on_cancellation must be a list of functions"),
    ({"on_crashed": [function]}, r"on_crashed must be a list of functions"),
    ({"validate_parameters": 1}, r"validate_parameters must be True or False"),
    ({"fail_fast": "yes"}, r"flow 'function': fail_fast must be True or False"),
]


@pytest.mark.parametrize(("options", "message"), OF_BOTH)
@pytest.mark.parametrize("decorator", [flow, task])
def test_the_decorators_check_every_argument(
    decorator: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        decorator(**{"retries": 2, **options})(function)


@pytest.mark.parametrize(("options", "message"), OF_TASKS)
def test_task_checks_its_own_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        task(**options)(function)


@pytest.mark.parametrize(("options", "message"), OF_FLOWS)
def test_flow_checks_its_own_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        flow(**options)(function)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{y}", r"'takes_x': {}_run_name '{{y}}' names 'y'; the parameters are x"),
        ("{x:{y}}", r"names 'y'"),
        ("{y.z[0]}", r"names 'y'"),
        ("{}", r"names ''"),
        ("{0}", r"names '0'"),
        ("{x", r"{}_run_name '{{x' is not a valid template: expected '}}' before end of string"),
        (" ", r"{}_run_name must be a template such as '{{x}}', or a sync function without arg"),
        (5, r"must be a template"),
        (len, r"must be a template"),
        (async_function, r"must be a template"),
    ],
)
@pytest.mark.parametrize("decorator", [flow, task])
def test_names_of_runs_are_checked(decorator: Any, given: object, message: str) -> None:
    def takes_x(x: int) -> None: ...

    kind = decorator.__name__
    with pytest.raises(ConfigurationError, match=message.format(kind)):
        decorator(**{f"{kind}_run_name": given})(takes_x)


def test_a_hook_that_is_added_is_checked() -> None:
    anything: Any = function
    with pytest.raises(ConfigurationError, match="flow 'function': on_failure must be a list of"):
        flow(function).on_failure(anything)


def test_no_argument_is_left_out() -> None:
    """Of names of runs the next test is; `viz_return_value` may be anything."""
    tried = {option for options, _ in (*OF_BOTH, *OF_TASKS, *OF_FLOWS) for option in options}
    there_are = TaskArguments.__annotations__.keys() | FlowArguments.__annotations__.keys()
    assert there_are - tried == {"task_run_name", "flow_run_name", "viz_return_value"}


@pytest.mark.parametrize(
    ("decorator", "option", "message"),
    [
        (task, "retires", "task 'function': there is no option 'retires'; did you mean retries?"),
        (flow, "fail_first", "flow 'function': .* 'fail_first'; did you mean fail_fast?"),
        (task, "fail_fast", "task 'function': .* 'fail_fast'; there are .*, cache_policy,"),
        (flow, "cache_policy", "flow 'function': .* 'cache_policy'; there are .*, task_runner,"),
    ],
)
def test_an_unknown_option_is_named(decorator: Any, option: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        decorator(**{option: 3})(function)


def test_what_cannot_be_decorated_is_refused() -> None:
    def generates() -> Any:
        yield 1

    async def generates_too() -> Any:
        yield 1

    def reserved(return_state: bool) -> None: ...

    anything: Any = task
    for thing, message in [
        (5, "takes a function, not 5"),
        (int, "takes a function"),
        (generates, "is a generator; return a list"),
        (generates_too, "is a generator; return a list"),
        (reserved, "cannot be named return_state"),
        (staticmethod(generates), "'generates' is a generator"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            anything(thing)


def test_a_runner_without_workers_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="max_workers must be an integer of at least 1, not 0"
    ):
        ConcurrentTaskRunner(max_workers=0)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "PENSTOCK_DURABILITY",
            "maybe",
            r"PENSTOCK_DURABILITY must be one of 'relaxed', 'strict', not 'maybe'",
        ),
        ("PENSTOCK_DATABASE_URL", "postgres://x", r"must be 'sqlite:///PATH'"),
        ("PENSTOCK_LOGGING_LEVEL", "LOUD", r"PENSTOCK_LOGGING_LEVEL must be one of .*, not 'LOUD'"),
        (
            "PENSTOCK_TASK_RUNNER_MAX_WORKERS",
            "0",
            r"MAX_WORKERS must be an integer of at least 1, not 0",
        ),
        (
            "PENSTOCK_TASK_RUNNER_MAX_WORKERS",
            "many",
            r"MAX_WORKERS must be an integer of at least 1, not 'many'",
        ),
        ("PENSTOCK_DATABSE_URL", "x", r"There is no setting PENSTOCK_DATABSE_URL; there are"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_the_first_run(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=message):
        flow(function)()


def test_a_database_that_cannot_be_used_is_refused_at_the_first_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at " * 10)
    (tmp_path / "file").touch()
    for path, message in [
        (tmp_path / "text.db", "is not a SQLite database. Set PENSTOCK_DATABASE_URL"),
        (tmp_path, "cannot be opened: .* Set PENSTOCK_DATABASE_URL"),
        (tmp_path / "file" / "below.db", "cannot be opened: .* Set PENSTOCK_DATABASE_URL"),
    ]:
        monkeypatch.setenv("PENSTOCK_DATABASE_URL", f"sqlite:///{path}")
        with pytest.raises(StoreError, match=message):
            flow(function)()
