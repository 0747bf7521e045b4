"""The history of all runs, read from the database.

All functions first wait until what this process has recorded is on disk, so that they see it.
They are plain functions, for sync code; a page takes milliseconds.

Examples:
    The failed runs of a flow since yesterday::

        for run in history.flow_runs(flow="nightly", state="FAILED", since=yesterday):
            print(run.name, run.state.message)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, cast
from uuid import UUID

import msgspec

from penstock._engine.engine import Engine
from penstock._engine.process import engine_of_process
from penstock._model.codecs import decode_parameters
from penstock._model.hints import nearest
from penstock._model.ids import id_time, to_uuid
from penstock._model.publishing import publish
from penstock._model.records import FlowRunRecord, TaskRunRecord, states_of
from penstock._rules.task_run import task_run_name
from penstock._stores.port import FoundFlowRun, FoundTaskRun, Pruned, Query
from penstock.exceptions import ConfigurationError
from penstock.pictures import Node, Picture
from penstock.states import TYPES, StateType

__all__ = [
    "FlowRunRecord",
    "Graph",
    "Pruned",
    "States",
    "TaskRunRecord",
    "clear",
    "clear_cache",
    "flow_run",
    "flow_runs",
    "graph",
    "picture",
    "prune",
    "task_run",
    "task_runs",
]

States: TypeAlias = StateType | str | Iterable[StateType | str] | None
"""A state type, the name of a state, or several of them; None: any."""
_Find: TypeAlias = Callable[[Query], Collection[object]]
_KNOWN_STATES: Final = frozenset({*StateType, *TYPES})


class Graph(msgspec.Struct, frozen=True):
    """A flow run with all that it ran, and what each run waited for.

    Attributes:
        flow_run: the run.
        task_runs: its task runs, in the order of their submission.
        subflow_runs: the flow runs that it called.
        edges: (upstream, downstream) ids of task runs.
    """

    flow_run: FlowRunRecord
    task_runs: tuple[TaskRunRecord, ...]
    subflow_runs: tuple[FlowRunRecord, ...]
    edges: tuple[tuple[UUID, UUID], ...]


def flow_runs(
    *,
    flow: str | None = None,
    state: States = None,
    tag: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    parent: UUID | None = None,
    before: FlowRunRecord | UUID | None = None,
    limit: int = 100,
) -> list[FlowRunRecord]:
    """The flow runs that meet all the conditions, newest first.

    Args:
        flow: the flow's name.
        state: a state type (`"FAILED"`), a state name (`"TimedOut"`), or several. A name in
            capitals, or much like a known one, has to be known or that of some run.
        tag: one of the flow's tags.
        since: submitted then or later; a time without a zone is a local one.
        until: submitted before.
        parent: subflow runs called by this run.
        before: older than this run: the last of a page gives the next page.
        limit: how many at most.

    Raises:
        ConfigurationError: there is no such state, the limit is below 1, or an argument is of
            another type.
    """
    engine = _flushed()
    name = _text(flow, "flow")
    query = _query(engine.store.flow_runs, name, state, tag, since, until, before, limit)
    query = msgspec.structs.replace(query, parent_id=_bytes_of(parent, "parent"))
    return [_flow_record(found, engine) for found in engine.store.flow_runs(query)]


def task_runs(
    *,
    task: str | None = None,
    flow_run: FlowRunRecord | UUID | None = None,
    state: States = None,
    tag: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: TaskRunRecord | UUID | None = None,
    limit: int = 100,
) -> list[TaskRunRecord]:
    """The task runs that meet all the conditions, newest first.

    Args:
        task: the task's name.
        flow_run: the flow run that they belong to.
        state: a state type (`"FAILED"`), a state name (`"Cached"`), or several. A name in
            capitals, or much like a known one, has to be known or that of some run.
        tag: one of the task's tags.
        since: submitted then or later; a time without a zone is a local one.
        until: submitted before.
        before: older than this run: the last of a page gives the next page.
        limit: how many at most.

    Raises:
        ConfigurationError: there is no such state, the limit is below 1, or an argument is of
            another type.
    """
    engine = _flushed()
    name = _text(task, "task")
    query = _query(engine.store.task_runs, name, state, tag, since, until, before, limit)
    query = msgspec.structs.replace(query, flow_run_id=_bytes_of(flow_run, "flow_run"))
    return [_task_record(found, engine) for found in engine.store.task_runs(query)]


def flow_run(run_id: UUID | str) -> FlowRunRecord | None:
    """The flow run with this id; None: there is none.

    Raises:
        ConfigurationError: the id is no UUID.
    """
    engine = _flushed()
    found = engine.store.flow_runs(Query(run_id=_parsed(run_id).bytes, limit=1))
    return _flow_record(found[0], engine) if found else None


def task_run(run_id: UUID | str) -> TaskRunRecord | None:
    """The task run with this id; None: there is none.

    Raises:
        ConfigurationError: the id is no UUID.
    """
    engine = _flushed()
    found = engine.store.task_runs(Query(run_id=_parsed(run_id).bytes, limit=1))
    return _task_record(found[0], engine) if found else None


def graph(run: FlowRunRecord | UUID | str) -> Graph | None:
    """A flow run with all that it ran; None: there is no such run.

    Args:
        run: the flow run, or its id.

    Raises:
        ConfigurationError: the id is no UUID.
    """
    record = run if isinstance(run, FlowRunRecord) else flow_run(run)
    if record is None:
        return None
    tasks = _all_task_runs(record)
    edges = tuple((upstream, t.id) for t in tasks for upstream in t.upstream_ids)
    engine = _flushed()
    found = engine.store.subflow_runs(record.id.bytes)
    subflows = tuple(_flow_record(one, engine) for one in found)
    return Graph(record, tuple(tasks), subflows, edges)


def picture(run: FlowRunRecord | UUID | str) -> Picture | None:
    """A flow run with all that it and its subflows ran, drawn; None: there is no such run.

    An edge is a future that a task run was given; what was given as a value leaves no trace.
    """
    found = graph(run)
    if found is None:
        return None
    nodes: list[Node] = []
    numbers: dict[UUID, int] = {}
    edges = _draw(found, None, nodes, numbers)
    drawn = [(numbers[a], numbers[b]) for a, b in edges if a in numbers and b in numbers]
    return Picture(found.flow_run.flow, nodes, sorted(drawn))


def _draw(
    shown: Graph, inside: int | None, nodes: list[Node], numbers: dict[UUID, int]
) -> list[tuple[UUID, UUID]]:
    """Add the runs of a graph, in the order of their submission, and give its edges."""
    edges = [*shown.edges]
    runs: list[TaskRunRecord | FlowRunRecord] = [*shown.task_runs, *shown.subflow_runs]
    for run in sorted(runs, key=lambda run: run.id):
        number = numbers[run.id] = len(nodes)
        if isinstance(run, TaskRunRecord):
            nodes.append(Node(run.task, inside, state=run.state.name))
            continue
        nodes.append(Node(run.flow, inside, is_flow=True, state=run.state.name))
        inner = graph(run)
        if inner is not None:
            edges += _draw(inner, number, nodes, numbers)
    return edges


def _all_task_runs(run: FlowRunRecord) -> list[TaskRunRecord]:
    found: list[TaskRunRecord] = []
    page = task_runs(flow_run=run, limit=10_000)
    while page:
        found += page
        page = task_runs(flow_run=run, before=page[-1], limit=10_000)
    return found[::-1]


def prune(
    *, older_than: timedelta | None = None, until: datetime | None = None, keep_cache: bool = True
) -> Pruned:
    """Delete runs that have ended, with their stored results.

    It goes step by step, and others read and write meanwhile. The file keeps its size: what is free
    in it is used again.

    Args:
        older_than: runs submitted longer ago than this.
        until: or: runs submitted before this time; a time without a zone is a local one.
        keep_cache: keep the task runs whose results the cache still gives out.

    Raises:
        ConfigurationError: not exactly one of the two was given, or it is of another type.
    """
    if (older_than is None) == (until is None):
        raise ConfigurationError("prune() takes either older_than or until.")
    if older_than is not None and not isinstance(older_than, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no types
        raise ConfigurationError(
            f"older_than must be a timedelta, not {older_than!r}; until takes a datetime."
        )
    until = _time(until, "until")
    engine = _flushed()
    if older_than is not None:
        until = datetime.fromtimestamp(engine.clock.now(), UTC) - older_than
    return engine.store.prune(until, keep_cache, engine.clock.now())


def clear() -> Pruned:
    """Delete all runs that have ended, all stored results, and the whole cache.

    Runs under way, of this process and of others, stay.
    """
    engine = _flushed()
    return engine.store.prune(None, False, engine.clock.now())


def clear_cache(key: str | None = None) -> int:
    """Forget what is cached, under one key or under all; the number of keys forgotten.

    The runs and their results stay in the history. Once the call has returned, no process serves
    what was forgotten.

    Args:
        key: as in `state.details.cache_key`; None: all of them.
    """
    return _flushed().store.clear_cache(key)


def _flushed() -> Engine:
    engine = engine_of_process()
    engine.commit().wait()
    engine.store.check()
    return engine


def _query(
    find: _Find,
    name: str | None,
    state: States,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    before: FlowRunRecord | TaskRunRecord | UUID | None,
    limit: int,
) -> Query:
    return Query(
        name=name,
        states=_state_names(state, find),
        tag=_text(tag, "tag"),
        since=_time(since, "since"),
        until=_time(until, "until"),
        before=_bytes_of(before, "before"),
        limit=_count(limit),
    )


def _state_names(state: States, find: _Find) -> tuple[str, ...]:
    if state is None:
        return ()
    names = _texts(state)
    for name in names:
        if name not in _KNOWN_STATES and _is_misspelt(name, find):
            raise ConfigurationError(
                f"state: there is no state {name!r}{_meant(name)}; types are "
                f"{', '.join(StateType)}, names are {', '.join(TYPES)}, and those made by hand."
            )
    return names


def _texts(state: object) -> tuple[str, ...]:
    if isinstance(state, str):
        return (str(state),)
    states = list(cast("Iterable[object]", state)) if isinstance(state, Iterable) else [state]
    for one in states:
        if not isinstance(one, str):
            raise ConfigurationError(f"state must be a state type or a name, not {one!r}.")
    return tuple(map(str, states))


def _is_misspelt(name: str, find: _Find) -> bool:
    """Whether it looks like a type or a known name, and no run has it, made by hand."""
    looks_known = not name or name.isupper() or bool(_meant(name))
    return looks_known and not find(Query(states=(name,), limit=1))


def _meant(name: str) -> str:
    both = (*TYPES, *StateType) if name.isupper() else (*StateType, *TYPES)
    known = {one.casefold(): one for one in both}
    near = nearest(name.casefold(), known, 0.8)
    return f" (did you mean {known[near]}?)" if near else ""


def _count(limit: object) -> int:
    if not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"limit must be a whole number, at least 1, not {limit!r}.")
    return limit


def _text(given: object, argument: str) -> str | None:
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(f"{argument} must be a name, as a text, not {given!r}.")
    return given


def _time(given: object, argument: str) -> datetime | None:
    if given is not None and not isinstance(given, datetime):
        raise ConfigurationError(f"{argument} must be a datetime, not {given!r}.")
    return given


def _bytes_of(run: object, argument: str) -> bytes | None:
    if run is None:
        return None
    if not isinstance(run, FlowRunRecord | TaskRunRecord | UUID):
        raise ConfigurationError(f"{argument} must be a run of the history or a UUID, not {run!r}.")
    return run.bytes if isinstance(run, UUID) else run.id.bytes


def _parsed(run_id: UUID | str) -> UUID:
    try:
        return run_id if isinstance(run_id, UUID) else UUID(run_id)
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(f"run_id must be a UUID, not {run_id!r}.") from None


class _Stored:
    """A result that is read when somebody asks for it."""

    def __init__(self, payload: bytes, engine: Engine) -> None:
        self._payload = payload
        self._engine = engine

    def load(self) -> object:
        """The value; raises `ResultUnavailable`."""
        return self._engine.cache.decode(self._payload)


def _stored(payload: bytes | None, engine: Engine) -> _Stored | None:
    return None if payload is None else _Stored(payload, engine)


def _flow_record(found: FoundFlowRun, engine: Engine) -> FlowRunRecord:
    row, definition = found
    return FlowRunRecord(
        id=to_uuid(row.id),
        name=row.name,
        flow=definition.name,
        version=definition.version,
        parent_run_id=to_uuid(row.parent_id) if row.parent_id else None,
        parameters=decode_parameters(row.parameters),
        tags=frozenset(definition.tags),
        run_count=row.run_count,
        created_at=id_time(row.id),
        states=states_of(row.history, _stored(row.result, engine), None, row.id),
    )


def _task_record(found: FoundTaskRun, engine: Engine) -> TaskRunRecord:
    row, definition = found
    upstreams = row.upstreams or b""
    return TaskRunRecord(
        id=to_uuid(row.id),
        name=row.name or task_run_name(definition, row.number),
        task=definition.name,
        version=definition.version,
        flow_run_id=to_uuid(row.flow_run_id) if row.flow_run_id else None,
        parent_run_id=to_uuid(row.parent_id) if row.parent_id else None,
        tags=frozenset(definition.tags),
        run_count=row.run_count,
        upstream_ids=tuple(to_uuid(upstreams[i : i + 16]) for i in range(0, len(upstreams), 16)),
        created_at=id_time(row.id),
        states=states_of(row.history, _stored(row.result, engine), row.id, row.flow_run_id),
    )


publish(__name__, __all__)
