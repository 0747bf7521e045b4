"""Rule 3 of the final states: what the states of several runs say together."""

from __future__ import annotations

from collections import Counter

import msgspec

from penstock._rules.transitions import Event
from penstock.states import StateType


class Verdict(msgspec.Struct, frozen=True):
    """What a set of states says together."""

    event: Event
    message: str


def verdict_of(types: Counter[StateType]) -> Verdict:
    """Rule 3 of the final states: what so many states of each type say about the whole."""
    total, completed = types.total(), types[StateType.COMPLETED]
    cancelled = types[StateType.CANCELLED]
    if completed == total:
        return Verdict(Event.FINISH, "All states completed.")
    if cancelled:
        return Verdict(Event.CANCEL, f"{cancelled}/{total} states cancelled.")
    return Verdict(Event.FAIL, f"{total - completed}/{total} states failed.")
