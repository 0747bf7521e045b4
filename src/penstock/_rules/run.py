"""Live runs: what the engine knows of a run from when it is made until it has ended.

A run is a latch that is set when the run has ended. Only its driver changes it, from one thread at
a time; its history only grows, so any thread may read a prefix of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeAlias
from uuid import UUID

import msgspec
from typing_extensions import override

from penstock._model.definition import Definition, with_tags
from penstock._model.ids import id_time, new_id
from penstock._model.records import state_of
from penstock._model.rows import CacheRow, Source
from penstock._model.serializers import Serializer
from penstock._rules.futures_in_arguments import (
    Handle,
    Upstream,
    call_replaced,
    only_futures_and_leaves,
    upstreams_in,
)
from penstock._rules.options import Options
from penstock._rules.run_views import RunView, attempts_in
from penstock._rules.transitions import NO_DETAILS, Event, advance
from penstock._waiting.latch import Latch
from penstock.states import TYPES, State, StateDetails, StateType, Transition

if TYPE_CHECKING:
    from penstock._rules.flow_run import FlowRun
    from penstock._rules.task_run import TaskRun
    from penstock._waiting.loops import LoopPort

Parent: TypeAlias = "FlowRun | TaskRun | None"
SKETCHED: Final = "Sketched"
"""The phase of a run that is not run; no event leads to it or from it."""
_NO_KWARGS: Mapping[str, Any] = {}
_LET_GO: Mapping[str, Any] = {}
"""The arguments of a run that has ended."""


class Driver:
    """What drives a run that goes on beside the code that asked for it."""

    __slots__ = ()

    def cancel(self) -> None:
        """End the run soon, unless it has ended; from any thread."""
        raise NotImplementedError


class Arguments(NamedTuple):
    """The arguments of a run with values where futures were.

    Attributes:
        args: by position.
        kwargs: by name.
        encoded: the same for the store, where that keeps them.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    encoded: bytes | None = None


class Identity(msgspec.Struct, frozen=True):
    """What makes a run in another process the same run there.

    Attributes:
        run_id: its id.
        name: as it is shown to people.
        definition: of its flow or task, with the tags of the run.
        history: the states that it had entered by then.
    """

    run_id: bytes
    name: str
    definition: Definition
    history: tuple[Transition, ...]


class Run(Latch, Source, Generic[Options]):
    """What flow runs and task runs have in common.

    To make one changes nothing else. It takes part in its flow run, and has its position there,
    when it is admitted (`admission.admit`); then one driver drives it.

    Args:
        options: the flow or task.
        parent: the run whose code calls it; None: it is called from outside of runs.
        args: by position.
        kwargs: by name.
        tags: those that it has besides the ones of its flow or task.

    Attributes:
        options: the flow or task, as the rules see it.
        definition: of the flow or task, with the tags of this run.
        run_id: the 16 bytes of its id; of one that takes the place of an earlier run, that run's.
        parent: the run whose code has called it.
        flow_run: the flow run that has to join this run; None: nobody has to.
        args: the arguments by position; empty once it has ended.
        kwargs: the arguments by name; empty once it has ended.
        upstreams: the futures and states among the arguments, and what `wait_for` names.
        after: the run that has to end before this one starts, however it ends.
        earlier: the run that was at its position before a retry of the flow.
        ordinal: how many runs of its definition the parent had called before.
        ordinals: how many runs its own code has called, by definition; None: none.
        history: the states that it has entered, in order; once it is stored, the last one alone.
        phase: the present state by its name in the table; None: it is new.
        recorded: how many of its states are on record.
        value: its result, once it has one.
        error: what its last attempt raised, or why there was none.
        payload: its result as the store keeps it; None once it is stored.
        cache_row: what its result is found by; None: it is not cached.
        port: the loop that runs its code; None: a thread does.
        driver: what can end it early; None: only the code that called it.

    Of a run that has ended, `after`, `earlier` and `driver` are None.
    """

    __slots__ = (
        "_state",
        "after",
        "args",
        "cache_row",
        "definition",
        "driver",
        "earlier",
        "error",
        "flow_run",
        "history",
        "kwargs",
        "options",
        "ordinal",
        "ordinals",
        "parent",
        "payload",
        "phase",
        "port",
        "recorded",
        "run_id",
        "upstreams",
        "value",
    )

    options: Options
    definition: Definition
    run_id: bytes
    parent: Parent
    flow_run: FlowRun | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    recorded: int
    ordinal: int
    ordinals: dict[int, itertools.count[int]] | None

    def __init__(
        self,
        options: Options,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tags: frozenset[str] | None = None,
    ) -> None:
        self._set = False  # what `Latch` does, without a call of it
        self._callbacks = None
        self._state: State[Any] | None = None
        self.options = options
        self.definition = (
            options.definition if tags is None else with_tags(options.definition, tags)
        )
        self.run_id = new_id()
        self.parent = parent
        self.flow_run = None if parent is None else parent.flow_run_of_code()
        self.args = args
        self.kwargs = kwargs or _NO_KWARGS
        self.upstreams: Sequence[Upstream] = upstreams_in(args, kwargs)
        self.after: Run | None = None
        self.earlier: Run | None = None
        self.ordinal = 0
        self.ordinals = None
        self.history: tuple[Transition, ...] = ()
        self.phase: str | None = None
        self.recorded = 0
        self.value: Any = msgspec.UNSET
        self.error: BaseException | None = None
        self.payload: bytes | None = None
        self.cache_row: CacheRow | None = None
        self.port: LoopPort | None = None
        self.driver: Driver | None = None

    @classmethod
    def restored(
        cls,
        options: Options,  # type: ignore[misc]  # covariant, and taken as by a constructor
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        identity: Identity,
    ) -> Self:
        """A run of another process, as its code sees it here; it is not driven and not recorded."""
        run = cls(options, parent, args, kwargs)
        run.run_id, run.definition = identity.run_id, identity.definition
        run.history, run.recorded = identity.history, len(identity.history)
        run.rename(identity.name)
        return run

    def take_number(self) -> None:
        """Take the next number among the runs of its task, where its name has one."""

    def take_over(self, earlier: Run) -> None:
        """Go on as the run that stood at its position when the flow ran before."""
        self.earlier = earlier
        self.run_id = earlier.run_id
        self.history = earlier.history
        self.recorded = len(self.history)
        self.phase = earlier.phase
        self.value, self.error = earlier.value, earlier.error
        self._state = earlier.state

    @property
    def name(self) -> str:
        """As it is shown to people."""
        raise NotImplementedError

    def rename(self, name: str) -> None:
        """Have the name that the user has given."""
        raise NotImplementedError

    @property
    def state(self) -> State[Any]:
        """The present state; of a run that has ended, always the same object."""
        state = self._state
        if state is None:
            state = self._state_at(self.history[-1])
            if self._set:
                self._state = state
        return state

    def _state_at(
        self, transition: Transition, child_states: tuple[State[object], ...] = ()
    ) -> State[Any]:
        return state_of(
            transition,
            *self._ids,
            value=self.value,
            error=self.error,
            child_states=child_states,
        )

    @property
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        """Those of the task run and of the flow run, as states show them."""
        raise NotImplementedError

    def result(self) -> Any:
        """The value of a run that has ended, or what it raised; see `State.result`."""
        if self.history[-1].type is StateType.COMPLETED and self.value is not msgspec.UNSET:
            return self.value
        return self.state.result()

    @property
    def id(self) -> UUID:
        """The id as it is shown to people."""
        return UUID(bytes=self.run_id)

    @property
    def run_count(self) -> int:
        """Attempts started so far."""
        return attempts_in(self.history)

    @property
    def start_time(self) -> datetime:
        """When its code was first called (UTC); before that, when it was submitted."""
        for transition in self.history:
            if transition.type is StateType.RUNNING:
                return datetime.fromtimestamp(transition.timestamp, UTC)
        return id_time(self.run_id)

    def view(self) -> RunView:
        """The run as it is now, for the user's code."""
        raise NotImplementedError

    def _seen(self) -> dict[str, Any]:
        """What views of both kinds of run have."""
        at = id_time(self.run_id)
        history = self.history or (Transition(StateType.PENDING, "Pending", None, at.timestamp()),)
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state if self.history else self._state_at(history[0]),
            "tags": self.tags,
            "parameters": self.parameters,
            "expected_start_time": at,
            "_history": history,
        }

    @property
    def parent_task_run_id(self) -> UUID | None:
        """The task run whose code called it; None: no task's code did."""
        parent = self.parent
        return None if parent is None or parent is self.flow_run else parent.id

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included; none of a run that has let go of them."""
        args, kwargs = self.args, self.kwargs
        return {} if kwargs is _LET_GO else self.options.bind(args, kwargs)

    @property
    def inputs(self) -> dict[str, Any]:
        """The parameters as the call gave them."""
        return self.parameters

    def serializer(self) -> Serializer | None:
        """What its result is serialized by: as it says itself, or as the flow run around it."""
        own, flow_run = self.options.result_serializer, self.flow_run
        return own if own is not None or flow_run is None else flow_run.result_serializer

    def flow_run_of_code(self) -> FlowRun | None:
        """The flow run that joins what this run's code calls; None: nobody does."""
        return self.flow_run

    def refuse_calls_after_end(self) -> None:
        """Raise where the code of a run that has ended may call nothing more."""

    def next_ordinal(self, definition_id: int) -> int:
        """How many runs of that definition this run's code has called before."""
        if self.ordinals is None:
            # Two threads of the code may both get here, at its first two calls, which may then both
            # be given 0. Between them there is no order that a retry could recognize; of the two,
            # it finds one at that position, and runs the other again.
            self.ordinals = {}
        counter = self.ordinals.get(definition_id)
        if counter is None:
            # Of two threads, both get the counter of the first; and to take a number is one step.
            counter = self.ordinals.setdefault(definition_id, itertools.count())
        return next(counter)

    def enter(
        self,
        event: Event,
        at: float,
        message: str | None = None,
        details: StateDetails = NO_DETAILS,
        name: str | None = None,
        child_states: tuple[State[object], ...] = (),
    ) -> None:
        """Move to the state that the table has for this event.

        Args:
            event: what has happened.
            at: when, in seconds since 1970.
            message: for people.
            details: what the state knows beyond that.
            name: as somebody calls the state; None: as the table does.
            child_states: the states that have decided this one.

        Raises:
            IllegalTransition: it has none; nothing has changed.
        """
        phase = advance(self.phase, event)
        transition = Transition(TYPES[phase], name or phase, message, at, details)
        self.phase = phase
        # Before the history, which other threads read: they never see the state without these.
        self._state = self._state_at(transition, child_states) if child_states else None
        self.history = (*self.history, transition)

    def state_after(
        self, event: Event, at: float, message: str | None, error: BaseException | None
    ) -> State[Any]:
        """The state that the run would be in; it stays where it is."""
        phase = advance(self.phase, event)
        transition = Transition(TYPES[phase], phase, message, at)
        return state_of(transition, *self._ids, error=error)

    def cancel(self) -> None:
        """End the run soon, unless it has ended; from any thread."""
        driver = self.driver
        if driver is not None:
            driver.cancel()

    @property
    def _may_run_again(self) -> bool:
        """Whether a retry of a flow may ask what this run was."""
        flow_run = self.flow_run
        return flow_run is not None and flow_run.is_retried

    def end(self) -> None:
        """Let go of what only the running code needed, and let everybody know.

        What has ended refers to no run that refers to it: so it goes with its last user, and does
        not wait for a garbage collection, which would have to look at each run of a long flow.
        """
        self.driver = self.after = self.earlier = None
        flow_run = self.flow_run
        if flow_run is None or not flow_run.is_retried:
            self.kwargs, self.args = _LET_GO, ()  # in this order, for who reads them meanwhile
        try:
            # Without the lock: if this run is watched, it has been since before it was started.
            if flow_run is not None and flow_run.members.watched:
                flow_run.fail_with(self)  # before anybody can see that this one has ended
        finally:
            self.set()

    @override
    def settle(self) -> None:
        self.payload = None
        self.upstreams = ()
        flow_run = self.flow_run
        is_retried = flow_run is not None and flow_run.is_retried
        if not is_retried and self.options.hooks is None:  # which may ask how it went
            self.history = self.history[-1:]

    def resolved(self) -> Arguments:
        """The arguments with the values of the upstreams; it may call methods of the user's."""
        return Arguments(*call_replaced(self.args, self.kwargs, _value_of))

    def take_arguments(self, arguments: Arguments) -> None:
        """Have these from now on."""
        self.args, self.kwargs = arguments.args, arguments.kwargs

    def resolve_arguments(self) -> None:
        """Put the values of the upstreams where their futures are.

        This is for runs whose arguments are not encoded anew: those that `resolves_by_itself` names
        and those of a sketch, which keeps nothing. All others take what `resolved` gives.
        """
        if self.upstreams:
            self.args, self.kwargs = call_replaced(self.args, self.kwargs, _value_of)

    @property
    def resolves_by_itself(self) -> bool:
        """Whether to put values where the futures are calls no method of the user's."""
        return only_futures_and_leaves(self.args) and only_futures_and_leaves(self.kwargs.values())

    def call(self) -> Callable[[], Any]:
        """The call of the user's function, which keeps its arguments when the run has ended."""
        return partial(self.options.fn, *self.args, **self.kwargs)

    @override
    def is_final(self, length: int) -> bool:
        return self.history[length - 1].is_final

    @property
    def tags(self) -> frozenset[str]:
        """The tags of this run."""
        return frozenset(self.definition.tags)

    @property
    def logs_prints(self) -> bool:
        """Whether its code wants its prints logged; a run that does not say does as its parent."""
        wish, parent = self.options.log_prints, self.parent
        if wish is None:
            return parent is not None and parent.logs_prints
        return wish

    @property
    def predecessors(self) -> tuple[Run, ...]:
        """The run that has to end before this one starts, however it ends."""
        return () if self.after is None else (self.after,)

    def upstream_run_ids(self) -> Iterator[bytes]:
        """The upstreams that are runs, of this process or not."""
        return filter(None, map(_run_id_of, self.upstreams))

    @property
    def upstream_runs(self) -> list[Run]:
        """The upstreams that are runs of this process."""
        return [u._run for u in self.upstreams if isinstance(u, Handle)]


def _value_of(upstream: Upstream) -> object:
    return upstream.resolved() if isinstance(upstream, Handle) else upstream.result()


def _run_id_of(upstream: Upstream) -> bytes | None:
    return upstream._run.run_id if isinstance(upstream, Handle) else upstream._task_run
