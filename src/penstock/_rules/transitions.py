"""Transitions: which state may follow which, in one table.

A run is always in one state; `advance` is the only way to the next, and an event that the table
does not list raises and changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from penstock.exceptions import IllegalTransition
from penstock.states import StateDetails

NO_DETAILS: Final = StateDetails()
"""What most transitions have to say besides their names."""


class Event(enum.StrEnum):  # hashes as a str, in C
    """What can happen to a run."""

    SUBMIT = "submit"
    START = "start"
    HIT = "hit"
    SKIP = "skip"
    FINISH = "finish"
    FAIL = "fail"
    TIME_OUT = "time out"
    CANCEL = "cancel"
    CRASH = "crash"
    AWAIT_RETRY = "await retry"
    RETRY = "retry"


# fmt: off
_ENDINGS = {Event.FAIL: "Failed", Event.CANCEL: "Cancelled", Event.CRASH: "Crashed"}
_FROM_PENDING = {
    Event.START: "Running", Event.HIT: "Cached", Event.SKIP: "NotReady", **_ENDINGS,
}
_FROM_RUNNING = {
    Event.FINISH: "Completed", Event.TIME_OUT: "TimedOut",
    Event.AWAIT_RETRY: "AwaitingRetry", **_ENDINGS,
}
_AGAIN = {Event.SUBMIT: "Pending"}  # a retry of the flow runs this run once more

TRANSITIONS: Final[Mapping[str | None, Mapping[Event, str]]] = {
    None:            {Event.SUBMIT: "Pending"},
    "Pending":       _FROM_PENDING,
    "Running":       _FROM_RUNNING,
    "AwaitingRetry": {Event.RETRY: "Retrying", Event.CANCEL: "Cancelled", Event.CRASH: "Crashed"},
    "Retrying":      _FROM_RUNNING,
    "Completed":     _AGAIN,
    "Cached":        _AGAIN,
    "Failed":        _AGAIN,
    "TimedOut":      _AGAIN,
    "Cancelled":     _AGAIN,
    "Crashed":       _AGAIN,
    "NotReady":      _AGAIN,
}
# fmt: on


def advance(phase: str | None, event: Event) -> str:
    """The phase that `event` leads to from `phase` (None: the run is new).

    Raises:
        IllegalTransition: the table has no such step.
    """
    try:
        return TRANSITIONS[phase][event]
    except KeyError:
        raise IllegalTransition(
            f"A run in the state {phase or 'none'!r} cannot {event.value}."
        ) from None
