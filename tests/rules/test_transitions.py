"""The table of states: what may follow what, and that nothing else may."""

from __future__ import annotations

import copy
from itertools import product

import pytest

from penstock._rules.transitions import TRANSITIONS, Event, advance
from penstock.exceptions import IllegalTransition
from penstock.states import FINAL_TYPES, TYPES, StateType
from tests.rules.play import WORK, Stage, names, put_into, task_run

# fmt: off
LEGAL: dict[tuple[str | None, Event], str] = {
    (None,            Event.SUBMIT):      "Pending",

    ("Pending",       Event.START):       "Running",
    ("Pending",       Event.HIT):         "Cached",
    ("Pending",       Event.SKIP):        "NotReady",
    ("Pending",       Event.FAIL):        "Failed",
    ("Pending",       Event.CANCEL):      "Cancelled",
    ("Pending",       Event.CRASH):       "Crashed",

    ("Running",       Event.FINISH):      "Completed",
    ("Running",       Event.FAIL):        "Failed",
    ("Running",       Event.TIME_OUT):    "TimedOut",
    ("Running",       Event.CANCEL):      "Cancelled",
    ("Running",       Event.CRASH):       "Crashed",
    ("Running",       Event.AWAIT_RETRY): "AwaitingRetry",

    ("AwaitingRetry", Event.RETRY):       "Retrying",
    ("AwaitingRetry", Event.CANCEL):      "Cancelled",
    ("AwaitingRetry", Event.CRASH):       "Crashed",

    ("Retrying",      Event.FINISH):      "Completed",
    ("Retrying",      Event.FAIL):        "Failed",
    ("Retrying",      Event.TIME_OUT):    "TimedOut",
    ("Retrying",      Event.CANCEL):      "Cancelled",
    ("Retrying",      Event.CRASH):       "Crashed",
    ("Retrying",      Event.AWAIT_RETRY): "AwaitingRetry",

    # A retry of the flow runs a run that had ended once more.
    ("Completed",     Event.SUBMIT):      "Pending",
    ("Cached",        Event.SUBMIT):      "Pending",
    ("Failed",        Event.SUBMIT):      "Pending",
    ("TimedOut",      Event.SUBMIT):      "Pending",
    ("Cancelled",     Event.SUBMIT):      "Pending",
    ("Crashed",       Event.SUBMIT):      "Pending",
    ("NotReady",      Event.SUBMIT):      "Pending",
}
# fmt: on

PHASES: list[str | None] = [None, *TYPES, "NoSuchState"]
ILLEGAL = [step for step in product(PHASES, Event) if step not in LEGAL]


@pytest.mark.parametrize(("phase", "event"), LEGAL)
def test_a_listed_event_leads_to_its_state(phase: str | None, event: Event) -> None:
    assert advance(phase, event) == LEGAL[phase, event]


@pytest.mark.parametrize(("phase", "event"), ILLEGAL)
def test_any_other_event_raises_and_changes_nothing(phase: str | None, event: Event) -> None:
    before = copy.deepcopy(TRANSITIONS)
    with pytest.raises(IllegalTransition, match=event.value) as raised:
        advance(phase, event)
    assert repr(phase or "none") in str(raised.value)
    assert before == TRANSITIONS


def test_an_illegal_step_leaves_the_run_as_it_was() -> None:
    """Rules played on a run in a state from which they cannot start raise before any record."""
    run = task_run(WORK)
    put_into(run, "Running")
    with pytest.raises(IllegalTransition):
        Stage().play(run)
    assert (run.phase, names(run)) == ("Running", ["Running"])


def test_a_run_that_has_ended_can_only_be_submitted_again() -> None:
    final = [name for name, type_ in TYPES.items() if type_ in FINAL_TYPES] + ["NotReady"]
    assert all(set(TRANSITIONS[name]) == {Event.SUBMIT} for name in final)


def test_a_run_that_has_not_ended_can_always_be_cancelled_and_crash() -> None:
    for phase in ("Pending", "Running", "AwaitingRetry", "Retrying"):
        assert advance(phase, Event.CANCEL) == "Cancelled"
        assert advance(phase, Event.CRASH) == "Crashed"


def test_every_state_of_the_table_can_be_reached_from_nothing() -> None:
    """Scheduled alone is never entered by a run; states of that name are made by hand."""
    reached: set[str | None] = {None}
    while more := {to for phase in reached for to in TRANSITIONS[phase].values()} - reached:
        reached |= more
    assert reached == set(TRANSITIONS)
    assert set(TYPES) - reached == {"Scheduled"}


def test_every_state_type_has_a_state_of_its_own_name() -> None:
    assert {type_.value.capitalize(): type_ for type_ in StateType}.items() <= TYPES.items()
