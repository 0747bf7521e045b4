"""Hooks: which are called, when, with what; and that none of them changes its run."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Flow, Task
from penstock._rules.effects import DeadlinePassed, Error, Interrupted, Outcome, Value
from penstock._rules.flow_run import FlowRun
from penstock._rules.run_views import RunView
from penstock.states import Cancelled, Completed, State
from tests.rules.play import (
    BAD_CODE,
    Stage,
    flow_run,
    future,
    names,
    task_run,
    work,
)

FAILS = Error(BAD_CODE)


class Told:
    """Hooks of all kinds, and what they were told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, RunView, State[Any]]] = []
        ends = ["running", "completion", "failure", "cancellation", "crashed"]
        self.of_flows: dict[str, Any] = {f"on_{end}": [self._hook(end)] for end in ends}
        self.of_tasks: dict[str, Any] = {f"on_{end}": [self._hook(end)] for end in ends[:3]}

    def _hook(self, end: str) -> Any:
        def hook(options: object, run: RunView, state: State[Any]) -> None:
            self.calls.append((end, options, run, state))

        return hook

    @property
    def ends(self) -> list[str]:
        return [end for end, *_ in self.calls]


@pytest.mark.parametrize(
    ("outcome", "ends"),
    [
        (Value(5), ["running", "completion"]),
        (Value(Completed("by hand")), ["running", "completion"]),
        (FAILS, ["running", "failure"]),
        (DeadlinePassed(), ["running", "failure"]),
        (Interrupted(), ["running", "cancellation"]),
        (Value(Cancelled()), ["running", "cancellation"]),
        (Interrupted(SystemExit(3)), ["running", "crashed"]),
    ],
)
@pytest.mark.parametrize("kind", [Task, Flow])
def test_the_state_decides_which_hooks_are_told(
    kind: Any, outcome: Outcome, ends: list[str]
) -> None:
    """Tasks have no hooks for being cancelled or crashed."""
    told = Told()
    hooks = told.of_tasks if kind is Task else told.of_flows
    make: Any = task_run if kind is Task else flow_run
    run = make(kind(work, timeout_seconds=5, **hooks))
    Stage().play(run, invoke=[outcome])
    assert told.ends == [end for end in ends if f"on_{end}" in hooks]


def test_a_hook_is_given_the_task_the_run_and_the_state() -> None:
    told = Told()
    made = Task[..., Any](work, **told.of_tasks)
    run = task_run(made)
    played = Stage().play(run, invoke=[Value(5)])
    (_, first, of, running), (_, second, of_too, completed) = told.calls
    assert first is second is made
    assert of.id == of_too.id == run.id
    assert (of.state_name, of_too.state_name) == ("Running", "Completed")
    assert of_too == run.view()
    assert of_too != of
    assert (running.name, completed.name, completed.result()) == ("Running", "Completed", 5)
    assert played.steps == [
        *("Pending", "acquire", "Running", "hook", "invoke", "Completed", "hook"),
    ]


def test_retries_tell_no_hook() -> None:
    told = Told()
    Stage().play(task_run(Task[..., Any](work, retries=2, **told.of_tasks)), invoke=[FAILS] * 3)
    assert told.ends == ["running", "failure"]


def test_a_hook_is_told_of_a_result_only_once_it_is_on_disk() -> None:
    told = Told()
    played = Stage(strict=True).play(task_run(Task[..., Any](work, **told.of_tasks)))
    assert played.steps[-3:] == ["Completed", "commit", "hook"]


def test_runs_that_never_run_tell_of_no_running_and_no_completion() -> None:
    told = Told()
    stage = Stage()
    made = Task[..., Any](work, cache_key_fn=lambda _context, _parameters: "key", **told.of_tasks)
    stage.ended("Cached")
    hit = task_run(made.with_options(cache_key_fn=lambda _context, _parameters: "the key"))
    stage.play(hit)
    skipped = task_run(made, future("Failed", stage))
    stage.play(skipped)
    assert [names(run)[-1] for run in (hit, skipped)] == ["Cached", "NotReady"]
    assert told.calls == []


def test_a_flow_with_wrong_parameters_tells_of_its_failure() -> None:
    def count(number: int) -> int:
        return number

    told = Told()
    Stage().play(flow_run(Flow[..., Any](count, **told.of_flows), "five"))
    assert told.ends == ["failure"]


def test_a_run_that_stands_for_a_new_one_in_a_retry_tells_once() -> None:
    told = Told()
    made = Task[..., Any](work, **told.of_tasks)
    stage = Stage()
    run = flow_run(Flow[..., Any](work, retries=1))

    def attempt(outcome: Outcome) -> Outcome:
        stage.play(task_run(made, parent=run))
        return outcome

    stage.play(run, invoke=[lambda: attempt(FAILS), lambda: attempt(Value(1))])
    assert told.ends == ["running", "completion"]


def test_a_hook_that_raises_is_reported_and_the_next_one_is_called() -> None:
    told, stage = Told(), Stage()
    broken = KeyError("hook")

    def breaks(_task: object, _run: object, _state: object) -> None:
        raise broken

    made = Task[..., Any](
        work, on_running=[breaks], on_completion=[breaks, *told.of_tasks["on_completion"]]
    )
    played = stage.play(task_run(made), invoke=[Value(5)])
    assert played.state.result() == 5
    assert stage.warnings == [("The hook 'breaks' raised", broken)] * 2
    assert told.ends == ["completion"]


def test_an_interruption_of_a_first_hook_ends_the_run_and_one_of_a_last_does_not() -> None:
    told, stage = Told(), Stage()
    run = flow_run(Flow[..., Any](work, **told.of_flows))
    stage.play(run, hook=[Interrupted(KeyboardInterrupt())])
    assert names(run) == ["Pending", "Running", "Cancelled"]
    again = flow_run(Flow[..., Any](work, **told.of_flows))
    stage.play(again, invoke=[Value(5)], hook=[None, Interrupted(KeyboardInterrupt())])
    assert names(again) == ["Pending", "Running", "Completed"]


def test_a_flow_joins_what_its_hooks_submit() -> None:
    told = Told()
    run: FlowRun = flow_run(Flow[..., Any](work, on_completion=told.of_flows["on_completion"]))
    assert Stage().play(run, invoke=[Value(5)]).steps[-3:] == ["Completed", "hook", "join"]


def test_a_run_that_is_aborted_tells_its_hooks() -> None:
    told, stage = Told(), Stage()
    run = flow_run(Flow[..., Any](work, **told.of_flows))
    assert stage.abort(run, SystemExit(1)).steps == ["Pending", "Crashed", "hook"]
    assert told.ends == ["crashed"]
    assert stage.abort(run, SystemExit(1)).steps == []


def test_what_has_no_hooks_pays_for_none() -> None:
    assert Task[..., Any](work).hooks is None
    assert Flow[..., Any](work, on_failure=[]).hooks is None
