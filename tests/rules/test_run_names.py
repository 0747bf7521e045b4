"""When a run is given its name, and what happens where there is none."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock import Flow, Task
from penstock._model.names import name_maker
from penstock._rules.effects import Error, Interrupted, Value
from tests.rules.play import BAD_CODE, Stage, flow_run, names, task_run, work


def test_a_run_is_named_after_it_has_started_and_before_its_hooks_and_its_code() -> None:
    told: list[str] = []

    def hook(_task: object, run: Any, _state: object) -> None:
        told.append(run.name)

    made = Task[..., Any](work, task_run_name=lambda: "my run", on_running=[hook])
    played = Stage().play(task_run(made))
    assert played.steps == [
        *("Pending", "acquire", "Running", "invoke", "hook", "invoke", "Completed"),
    ]
    assert told == ["my run"]


def test_where_the_name_raises_the_run_goes_on() -> None:
    stage = Stage()
    broken = KeyError("name")
    run = flow_run(Flow[..., Any](work, flow_run_name=lambda: "never"))
    before = run.name
    played = stage.play(run, invoke=[Error(broken), Value(5)])
    assert played.state.result() == 5
    assert run.name == before
    assert stage.warnings == [("flow_run_name raised; the run keeps its name", broken)]


def test_an_interruption_of_the_name_is_one_of_the_run() -> None:
    run = task_run(Task[..., Any](work, task_run_name=lambda: "never"))
    Stage().play(run, invoke=[Interrupted(KeyboardInterrupt())])
    assert names(run) == ["Pending", "Running", "Cancelled"]


def test_retries_name_a_run_once() -> None:
    run = task_run(Task[..., Any](work, retries=2, task_run_name=lambda: "once"))
    fails = Error(BAD_CODE)
    played = Stage().play(run, invoke=[None, fails, fails, fails])
    assert played.steps.count("invoke") == 4
    assert run.name == "once"


@given(st.text(st.characters(exclude_characters="{}"), min_size=1).filter(str.strip))
def test_a_template_without_fields_is_the_name(text: str) -> None:
    make = name_maker(text, (), "task_run_name", "task 'work'")
    assert make is not None
    assert make({}) == text
