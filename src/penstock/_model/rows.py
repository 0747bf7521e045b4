"""Rows: what a store keeps of runs and of the cache, in the order of its columns.

A live run hands the store a `Source`; the store asks it for a row when it writes, so that the
thread of the run spends no time on it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from penstock._model.definition import Definition


class FlowRow(NamedTuple):
    """A row of `flow_run`, in the order of its columns."""

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
    name: str = ""  # empty: it follows from the number


Row: TypeAlias = FlowRow | TaskRow


class CacheRow(NamedTuple):
    """A row of `cache`: the run whose result the key stands for.

    `task` is a number for the task, and `parts` are the parts of the key, where they are known;
    `explanations` encodes both.
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
    """A result found under a cache key."""

    run_id: bytes
    value: object
    expires_at: float | None
