"""The conditions under which runs are read: what people write becomes a query, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Final, TypeAlias, TypedDict, cast
from uuid import UUID

from msgspec.structs import replace

from penstock._model.checks import datetime_or_none, integer, refusal, string_or_none, uuid
from penstock._model.hints import hint, nearest
from penstock._model.records import FlowRunRecord, TaskRunRecord
from penstock._stores.port import Query
from penstock.exceptions import ConfigurationError, ParameterError
from penstock.states import TYPES, StateType

States: TypeAlias = StateType | str | Iterable[StateType | str] | None
"""A state type, the name of a state, or several of them; None: any."""
Find: TypeAlias = Callable[[Query], Collection[object]]
"""Finds the runs of one kind."""

_KNOWN_STATES: Final = frozenset({*StateType, *TYPES})
_DEFAULT_LIMIT: Final = 100


class FlowRunConditions(TypedDict, total=False):
    """Which flow runs; all conditions hold together.

    Attributes:
        flow: the flow's name.
        state: a state type (`"FAILED"`), a state name (`"TimedOut"`), or several. A name in
            capitals, or much like a known one, has to be known or that of some run.
        tag: one of the flow's tags.
        since: submitted then or later; a time without a zone is a local one.
        until: submitted before.
        parent: subflow runs called by this run.
        before: older than this run: the last of a page gives the next page.
        limit: how many at most; 100, unless given.
    """

    flow: str | None
    state: States
    tag: str | None
    since: datetime | None
    until: datetime | None
    parent: UUID | None
    before: FlowRunRecord | UUID | None
    limit: int


class TaskRunConditions(TypedDict, total=False):
    """Which task runs; all conditions hold together.

    Attributes:
        task: the task's name.
        flow_run: the flow run that they belong to.
        state: a state type (`"FAILED"`), a state name (`"Cached"`), or several. A name in
            capitals, or much like a known one, has to be known or that of some run.
        tag: one of the task's tags.
        since: submitted then or later; a time without a zone is a local one.
        until: submitted before.
        before: older than this run: the last of a page gives the next page.
        limit: how many at most; 100, unless given.
    """

    task: str | None
    flow_run: FlowRunRecord | UUID | None
    state: States
    tag: str | None
    since: datetime | None
    until: datetime | None
    before: TaskRunRecord | UUID | None
    limit: int


def flow_query(conditions: FlowRunConditions, find: Find) -> Query:
    """The query for flow runs.

    Args:
        conditions: as people have written them.
        find: finds flow runs, to see whether any run is in a state that nobody knows.

    Raises:
        ConfigurationError: one of them cannot be meant.
        ParameterError: there is no such condition.
    """
    _refuse_unknown(conditions, FlowRunConditions.__optional_keys__, "flow_runs()")
    name = string_or_none(conditions.get("flow"), "flow", "flow_runs()")
    parent = _run_id(conditions.get("parent"), "parent", "flow_runs()")
    return replace(_query(conditions, find, "flow_runs()"), name=name, parent_id=parent)


def task_query(conditions: TaskRunConditions, find: Find) -> Query:
    """The query for task runs; the rest is as for `flow_query`."""
    _refuse_unknown(conditions, TaskRunConditions.__optional_keys__, "task_runs()")
    name = string_or_none(conditions.get("task"), "task", "task_runs()")
    flow_run = _run_id(conditions.get("flow_run"), "flow_run", "task_runs()")
    return replace(_query(conditions, find, "task_runs()"), name=name, flow_run_id=flow_run)


def one_run(run_id: UUID | str, owner: str) -> Query:
    """The query for the run with this id.

    Raises:
        ConfigurationError: the id is no UUID; `owner` is the function that was given it.
    """
    return Query(run_id=uuid(run_id, "run_id", owner).bytes, limit=1)


def _query(conditions: FlowRunConditions | TaskRunConditions, find: Find, owner: str) -> Query:
    """What the conditions of both kinds of run say."""
    return Query(
        states=_state_names(conditions.get("state"), find, owner),
        tag=string_or_none(conditions.get("tag"), "tag", owner),
        since=datetime_or_none(conditions.get("since"), "since", owner),
        until=datetime_or_none(conditions.get("until"), "until", owner),
        before=_run_id(conditions.get("before"), "before", owner),
        limit=integer(conditions.get("limit", _DEFAULT_LIMIT), "limit", owner, at_least=1),
    )


def _refuse_unknown(given: Collection[str], known: Collection[str], owner: str) -> None:
    for name in given:
        if name not in known:
            raise ParameterError(f"{owner} has no condition {name!r}; {hint(name, sorted(known))}.")


def _run_id(run: object, argument: str, owner: str) -> bytes | None:
    if run is None:
        return None
    if not isinstance(run, FlowRunRecord | TaskRunRecord | UUID):
        raise refusal(run, argument, owner, "a run of the history, or a UUID")
    return run.bytes if isinstance(run, UUID) else run.id.bytes


# States


def _state_names(state: States, find: Find, owner: str) -> tuple[str, ...]:
    if state is None:
        return ()
    names = _strings(state, owner)
    for name in names:
        if name not in _KNOWN_STATES and _is_misspelt(name, find):
            raise ConfigurationError(
                f"{owner}: there is no state {name!r}{_meant(name)}; types are "
                f"{', '.join(StateType)}, names are {', '.join(TYPES)}, and those made by hand."
            )
    return names


def _strings(state: object, owner: str) -> tuple[str, ...]:
    if isinstance(state, str):
        return (str(state),)
    states = list(cast("Iterable[object]", state)) if isinstance(state, Iterable) else [state]
    for one in states:
        if not isinstance(one, str):
            raise refusal(one, "state", owner, "a state type, or the name of a state")
    return tuple(map(str, states))


def _is_misspelt(name: str, find: Find) -> bool:
    """Whether it looks like a type or a known name, and no run has it, made by hand."""
    looks_known = not name or name.isupper() or bool(_meant(name))
    return looks_known and not find(Query(states=(name,), limit=1))


def _meant(name: str) -> str:
    both = (*TYPES, *StateType) if name.isupper() else (*StateType, *TYPES)
    known = {one.casefold(): one for one in both}
    near = nearest(name.casefold(), known, 0.8)
    return f" (did you mean {known[near]}?)" if near else ""
