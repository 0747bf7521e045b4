"""Stores: where the history of runs is kept.

A store takes what happens in the order in which it happens, and after a crash holds a prefix of
it. `record` returns at once; a `barrier` is set when all that was recorded before it is durable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import msgspec

from penstock._model.definition import Definition
from penstock._model.payloads import FileReference
from penstock._model.rows import CacheRow, FlowRow, Source, TaskRow
from penstock._waiting.latch import Latch

__all__ = [
    "Exchanged",
    "FoundFlowRun",
    "FoundResult",
    "FoundTaskRun",
    "Limit",
    "Pruned",
    "Query",
    "RequestKind",
    "RunSource",
    "SlotRequest",
    "SlotStore",
    "Store",
]


class FoundResult(NamedTuple):
    """A payload found under a cache key.

    Attributes:
        run_id: the run whose result it is.
        payload: the result as it is stored.
        expires_at: in seconds since 1970; None: never.
    """

    run_id: bytes
    payload: bytes
    expires_at: float | None

    def is_expired(self, now: float) -> bool:
        """Whether it is not to be served any more."""
        return self.expires_at is not None and self.expires_at <= now


class FoundFlowRun(NamedTuple):
    """A row with the definition that it refers to.

    Attributes:
        row: the run.
        definition: its flow.
    """

    row: FlowRow
    definition: Definition


class FoundTaskRun(NamedTuple):
    """A row with the definition that it refers to.

    Attributes:
        row: the run.
        definition: its task.
    """

    row: TaskRow
    definition: Definition


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs; all conditions hold together, and the newest come first.

    Attributes:
        run_id: this one.
        name: runs of the flow or task with this name.
        flow_run_id: task runs of this flow run.
        parent_id: flow runs called by this run.
        states: state types or state names, one of them.
        tag: runs with this tag.
        since: submitted then or later.
        until: submitted before.
        before: older than the run with this id (to turn pages).
        limit: how many at most.
    """

    run_id: bytes | None = None
    name: str | None = None
    flow_run_id: bytes | None = None
    parent_id: bytes | None = None
    states: tuple[str, ...] = ()
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: bytes | None = None
    limit: int = 100


class Pruned(NamedTuple):
    """How much was deleted.

    Attributes:
        flow_runs: how many flow runs.
        task_runs: how many task runs.
        cache_entries: how many keys of the cache.
    """

    flow_runs: int
    task_runs: int
    cache_entries: int


class Limit(msgspec.Struct, frozen=True):
    """A limit on what is done at once, over all processes that share a database.

    Attributes:
        name: what code, or a tag of task runs, asks for it by.
        slots: how many there are.
        slot_decay_per_second: how many of the slots that rate limiting took become free again in a
            second; 0.0: it takes none.
        taken: how many slots are not free; those that decay count in part.
    """

    name: str
    slots: int
    slot_decay_per_second: float = 0.0
    taken: float = 0.0


RequestKind: TypeAlias = tuple[tuple[str, ...], bool]
"""The names of the limits, and whether the slots decay."""


class SlotRequest(NamedTuple):
    """What asks for slots, of several limits all at once.

    Attributes:
        number: its own in its process; a lesser one came first.
        names: the limits, sorted.
        slots: how many of each.
        decays: they become free by themselves, and not by being given back.
    """

    number: int
    names: tuple[str, ...]
    slots: int = 1
    decays: bool = False

    @property
    def kind(self) -> RequestKind:
        """What the requests of one queue have in common."""
        return self.names, self.decays


class Exchanged(NamedTuple):
    """What a process has got for its requests.

    Attributes:
        granted: the numbers of the requests that have their slots now.
        in_turn: the positions of other processes that come first, and could have their slots now.
        decays_in: after how many seconds slots that decay will do for a request; None: it is not
            known when.
    """

    granted: Sequence[int]
    in_turn: frozenset[int] = frozenset()
    decays_in: float | None = None


class SlotStore(ABC):
    """Keeps the limits, and who has taken slots of them; every method from any thread.

    What a process has taken it has until it gives it back or dies: then it is free again.
    """

    @abstractmethod
    def limits(self) -> Mapping[str, Limit]:
        """All limits by name, for each run that has tags: `taken` may be out of date."""

    @abstractmethod
    def read_limits(self, now: float) -> Sequence[Limit]:
        """All limits as they are now, in seconds since 1970, by name in order."""

    @abstractmethod
    def set_limit(self, limit: Limit) -> None:
        """Make a limit, or change it; from then on all processes know it."""

    @abstractmethod
    def delete_limit(self, name: str) -> bool:
        """Delete a limit; False: there was none. Then all processes know."""

    @abstractmethod
    def exchange(
        self,
        given_back: Mapping[str, int],
        queues: Sequence[Sequence[SlotRequest]],
        passed_over: Collection[int],
        now: float,
    ) -> Exchanged:
        """Give slots back, and take those that are free for requests that wait.

        Requests have their turn in the order in which they came here, and the queue of another
        process as a whole. A request whose limit was deleted meanwhile is held by no limit.

        Args:
            given_back: how many slots of each limit.
            queues: all requests of this process that wait, or the first ones; in a queue, all are
                for the same limits.
            passed_over: positions of other processes that have missed their turn.
            now: in seconds since 1970, for what decays.
        """


class RunSource(ABC):
    """Where runs are read: a store, or a file at one moment."""

    @abstractmethod
    def flow_runs(self, query: Query) -> Sequence[FoundFlowRun]:
        """The flow runs that a query asks for, newest first."""

    @abstractmethod
    def task_runs(self, query: Query) -> Sequence[FoundTaskRun]:
        """The task runs that a query asks for, newest first."""

    @abstractmethod
    def subflow_runs(self, flow_run_id: bytes) -> Sequence[FoundFlowRun]:
        """All flow runs called by this one or by its task runs, oldest first."""

    @abstractmethod
    def payload_of(self, run_id: bytes) -> bytes | None:
        """The stored result of a task run; None: there is none."""


class Backlog:
    """What a store has still to write; an attribute of it, as each record of each run asks.

    It is read and set without a lock. Where a record says that the queue is full while `room` is
    about to say that it is not, that may be overwritten; the next record finds the queue as full,
    and says so again. So no more is recorded beyond the bound than one run by each thread.

    Attributes:
        is_full: more is recorded than written, so that whoever can should wait for `room`.
    """

    __slots__ = ("is_full",)

    def __init__(self) -> None:
        self.is_full = False


class Store(RunSource):
    """Keeps runs; every method may be called from any thread.

    Attributes:
        backlog: what it has still to write.
    """

    backlog: Backlog

    @property
    @abstractmethod
    def slots(self) -> SlotStore:
        """The limits of concurrency."""

    @abstractmethod
    def record(self, source: Source, length: int) -> None:
        """Note that the run now has `length` states; returns before that is durable."""

    @abstractmethod
    def room(self) -> Latch | None:
        """Back-pressure: what to wait for before recording more; None: go on.

        Raises:
            StoreError: something recorded could not be made durable.
        """

    @abstractmethod
    def barrier(self) -> Latch:
        """Set when all that was recorded so far is durable, or can never be: see `check`."""

    @abstractmethod
    def check(self) -> None:
        """Raise `StoreError` where something recorded could not be made durable."""

    @abstractmethod
    def look_up(self, key: str, now: float) -> FoundResult | None:
        """The newest result under a cache key that has not expired; sees what `record` was told."""

    @abstractmethod
    def entries_of(self, task: int, limit: int) -> Sequence[CacheRow]:
        """The newest cache entries of a task, newest first; sees what `record` was told.

        Expired ones are among them.
        """

    @abstractmethod
    def load(self, reference: FileReference) -> bytes:
        """A large result, which the stored one refers to.

        Raises:
            ResultUnavailable: it is gone or damaged.
        """

    @abstractmethod
    def prune(self, until: datetime | None, keep_cache: bool, now: float) -> Pruned:
        """Delete the final runs submitted before `until` (None: all of them).

        Where `keep_cache`, the runs behind cache entries that have not expired stay. It may take
        several steps, between which others read and write.
        """

    @abstractmethod
    def clear_cache(self, key: str | None) -> int:
        """Delete the entry of one cache key, or all entries; how many there were.

        From then on no process finds them, as after `prune`.
        """

    @abstractmethod
    def pause(self) -> None:
        """Let go of all files, as this process is about to fork; what is recorded has to wait."""

    @abstractmethod
    def resume(self) -> None:
        """Go on after `pause`."""

    @abstractmethod
    def leave_behind(self) -> None:
        """This is a forked child, and all that the store has is its parent's."""

    @abstractmethod
    def close(self) -> None:
        """Make everything durable and let go of all files; raises `StoreError` where it cannot."""
