"""The way of a run through its states, by their names, and what a test says of it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID

from penstock import history
from penstock._calls.futures import TaskFuture
from penstock._model.records import FlowRunRecord, TaskRunRecord
from penstock.exceptions import ConfigurationError
from penstock.states import State

Record: TypeAlias = FlowRunRecord | TaskRunRecord
AnyRun: TypeAlias = Record | TaskFuture[Any] | State[Any] | UUID
"""A run as the history gives it, its future, one of its states, or its id."""


def transitions_of(run: AnyRun) -> list[str]:
    """The names of all the states that a run has entered so far, in order.

    Raises:
        ConfigurationError: the history has no such run, or it is not given as one.
    """
    return [state.name for state in _record_of(run).states]


def assert_transitions(run: AnyRun, expected: Sequence[str]) -> None:
    """Hold the states that a run has entered against these names.

    Args:
        run: a run as the history gives it, its future, one of its states, or its id.
        expected: such as `["Pending", "Running", "Completed"]`.

    Raises:
        AssertionError: they are others; the message shows where they differ.
        ConfigurationError: the history has no such run, or it is not given as one.
    """
    __tracebackhide__ = True  # of pytest's: the line of the test is what matters
    record = _record_of(run)
    entered = transitions_of(record)
    if entered != list(expected):
        raise AssertionError("\n".join(_difference(record, entered, expected)))


def _difference(record: Record, entered: Sequence[str], expected: Sequence[str]) -> list[str]:
    """From what was expected (`-`) to what was (`+`), and what the last state says."""
    kind = "flow" if isinstance(record, FlowRunRecord) else "task"
    everything = len(expected) + len(entered)
    _, _, _, *steps = difflib.unified_diff(expected, entered, n=everything, lineterm="")
    return [
        f"The {kind} run {record.name!r} did not enter the expected states (-), but others (+):",
        *(f"  {step[0]} {step[1:]}" for step in steps),
        f"Its last state: {record.state}",
    ]


def _record_of(run: AnyRun) -> Record:
    if isinstance(run, FlowRunRecord | TaskRunRecord):
        return run
    run_id = _id_of(run)
    found = None if run_id is None else history.task_run(run_id) or history.flow_run(run_id)
    if found is None:
        raise ConfigurationError(f"The history has no run for {run!r}.")
    return found


def _id_of(run: TaskFuture[Any] | State[Any] | UUID) -> UUID | None:
    if isinstance(run, UUID):
        return run
    if isinstance(run, State):
        return run.task_run_id or run.flow_run_id
    if isinstance(run, TaskFuture):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no types
        return run.run_id
    raise ConfigurationError(f"A run is given by its record, future, state or UUID, not {run!r}.")
