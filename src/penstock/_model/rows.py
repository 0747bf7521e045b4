"""Rows: what a store keeps of runs and of the cache, in the order of its columns.

A live run hands the store a `Source`; the store asks it for a row when it writes, so that the
thread of the run spends no time on it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from penstock._model.definition import Definition


class FlowRow(NamedTuple):
    """A row of `flow_run`, in the order of its columns.

    Attributes:
        id: the run.
        flow_id: the definition of its flow.
        parent_id: the run that called it; None: none did.
        name: of the run.
        state_type: the type of its last state.
        state_name: the name of its last state.
        run_count: how often its function was called.
        parameters: its arguments, encoded; None: not known yet.
        history: all its states, encoded.
        result: what it returned, as it is stored; None: nothing is.
    """

    id: bytes
    flow_id: int
    parent_id: bytes | None
    name: str
    state_type: str
    state_name: str
    run_count: int
    parameters: bytes | None
    history: bytes
    result: bytes | None


class TaskRow(NamedTuple):
    """A row of `task_run`, in the order of its columns.

    Columns that most runs do not use are empty, as binding None takes sqlite3 several times longer.

    Attributes:
        id: the run.
        task_id: the definition of its task.
        flow_run_id: the flow run that it belongs to; None: to none.
        parent_id: the run that called or submitted it; None: none did.
        number: how many runs of the task came before it in its process; its name is made of it.
        ordinal: how many runs of the task its parent had called before.
        state_type: the type of its last state.
        state_name: the name of its last state.
        run_count: how often its function was called.
        upstreams: the ids of the runs whose results it took, one after another.
        history: all its states, encoded.
        result: what it returned, as it is stored; None: nothing is.
        name: of the run; empty: it follows from the number.
    """

    id: bytes
    task_id: int
    flow_run_id: bytes | None
    parent_id: bytes | None
    number: int
    ordinal: int
    state_type: str
    state_name: str
    run_count: int
    upstreams: bytes | None
    history: bytes
    result: bytes | None
    name: str = ""


Row: TypeAlias = FlowRow | TaskRow


class CacheRow(NamedTuple):
    """A row of `cache`: the run whose result the key stands for.

    Attributes:
        key: the cache key.
        run_id: the run.
        created_at: when the entry was made, in seconds since 1970.
        expires_at: until when it is served, in seconds since 1970; None: without end.
        task: a number for the task, as `_caching/explanations.py` makes it; None: not known.
        parts: the parts of the key, as encoded there; None: not known.
    """

    key: str
    run_id: bytes
    created_at: float
    expires_at: float | None
    task: int | None = None
    parts: bytes | None = None


class Source:
    """A live run, as a store sees it.

    Attributes:
        run_id: the id of the run.
        definition: the flow or task.
        payload: the result as bytes, once there is one.
        cache_row: the entry of the cache that the run has made; None: it has made none.
    """

    __slots__ = ()
    run_id: bytes
    definition: Definition
    payload: bytes | None
    cache_row: CacheRow | None

    def row(self, length: int, payload: bytes | None) -> Row:
        """The run as it was after its first `length` states, its result being `payload`."""
        raise NotImplementedError

    def is_final(self, length: int) -> bool:
        """Whether the run had ended after its first `length` states."""
        raise NotImplementedError

    def settle(self) -> None:
        """Release what only the store needed, as the run has ended and is stored."""
        raise NotImplementedError


class CacheHit(NamedTuple):
    """A result found under a cache key.

    Attributes:
        run_id: the run whose result it is.
        value: the result.
        expires_at: in seconds since 1970; None: never.
    """

    run_id: bytes
    value: object
    expires_at: float | None
