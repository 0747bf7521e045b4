"""Live runs: what the engine knows of a run while it is on.

A run is a latch that is set when the run has ended. Only its driver changes it, from one thread at
a time; its history only grows, so any thread may read a prefix of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias
from uuid import UUID

import msgspec

from penstock._model.definition import Definition, with_tags
from penstock._model.ids import id_time, new_id
from penstock._model.records import state_of
from penstock._model.rows import CacheRow, Row
from penstock._model.serializers import Serializer
from penstock._rules.arguments import Handle, Upstream, call_replaced, upstreams_in
from penstock._rules.current import current_tags
from penstock._rules.options import Options
from penstock._rules.transitions import NO_DETAILS, Event, advance
from penstock._waiting.latch import Latch
from penstock.exceptions import RunCancelled, StoreError
from penstock.states import TYPES, State, StateDetails, StateType, Transition

if TYPE_CHECKING:
    from penstock._rules.flow_run import FlowRun
    from penstock._rules.task_run import TaskRun
    from penstock._waiting.loops import LoopPort

Parent: TypeAlias = "FlowRun | TaskRun | None"
Part: TypeAlias = "Run | State[Any]"
"""What takes part in the decision about a final state."""
SKETCHED: Final = "Sketched"
"""The phase of a run that is not run; no event leads to it or from it."""
_NO_KWARGS: Mapping[str, Any] = {}
_LET_GO: Mapping[str, Any] = {}
"""The arguments of a run that has ended."""


class Driver(Protocol):
    """What drives a run that goes on beside the code that asked for it."""

    def cancel(self) -> None:
        """End the run soon, unless it has ended; from any thread."""


class Slots(Protocol):
    """What a run has of limits, or has asked for: a latch that is set when it has it."""

    error: StoreError | None
    """Why it never will."""

    def give_back(self) -> None:
        """Have it no more."""


class Run(Latch, Generic[Options]):
    """What flow runs and task runs have in common.

    Attributes:
        flow_run: the flow run that has to join this run; None: nobody has to.
        definition: of the flow or task, with the tags of this run.
        history: the states that it has entered, in order.
        phase: the present state by its name in the table; None: it is new.
        recorded: how many of these states are on record.
        value: its result, once it has one.
        error: what its last attempt raised, or why there was none.
        deciding: the runs and states that decided its final state.
        driver: what can end it early; None: only the code that called it.
        slots: what it has of limits, or has asked for.
    """

    __slots__ = (
        "_state",
        "after",
        "args",
        "cache_row",
        "deciding",
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
        "slots",
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
        passes: bool = False,
    ) -> None:
        self._set = False
        self._callbacks = None
        self._state: State[Any] | None = None
        self.options = options
        tags = current_tags.get()
        self.definition = (
            options.definition if tags is None else with_tags(options.definition, tags)
        )
        self.parent = parent
        self.args = args
        self.kwargs = kwargs or _NO_KWARGS
        self.upstreams: Sequence[Upstream] = upstreams_in(args, kwargs)
        self.history: tuple[Transition, ...] = ()
        self.recorded = 0
        self.phase: str | None = None
        self.value: Any = msgspec.UNSET
        self.error: BaseException | None = None
        self.deciding: Sequence[Part] = ()
        self.payload: bytes | None = None
        self.cache_row: CacheRow | None = None
        self.ordinals = None
        self.port: LoopPort | None = None
        self.driver: Driver | None = None
        self.slots: Slots | None = None
        self.after: Run | None = None
        self.ordinal = 0
        self.earlier: Run | None = None
        self.flow_run = flow_run = None if parent is None else parent.flow_run_of_code()
        if parent is not None and parent._set:
            parent.refuse_calls_after_end()
        if flow_run is not None and parent is not None:
            if flow_run._set:
                raise RunCancelled(
                    f"The flow run {flow_run.name!r} has ended; nothing can join it."
                )
            if flow_run.attempt:
                flow_run.refuse_code_of_earlier_attempts()
            self.ordinal = parent.next_ordinal(self.definition.id)
            self.earlier = flow_run.admit(self, passes)
        if self.earlier is None:
            self.run_id = new_id()
        else:
            self._take_over(self.earlier)

    def _take_over(self, earlier: Run) -> None:
        """Go on as the run that stood in this place when the flow ran before."""
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

    def row(self, length: int, payload: bytes | None) -> Row:
        """See `Source`."""
        raise NotImplementedError

    @property
    def state(self) -> State[Any]:
        """The present state; of a run that has ended, always the same object."""
        state = self._state
        if state is None:
            state = self._new_state()
            if self._set:
                self._state = state
        return state

    def _new_state(self) -> State[Any]:
        return state_of(
            self.history[-1],
            *self._ids,
            value=self.value,
            error=self.error,
            child_states=tuple(map(_state_of_part, self.deciding)),
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
            self.ordinals = {}
        counter = self.ordinals.get(definition_id)
        if counter is None:
            counter = self.ordinals.setdefault(definition_id, itertools.count())
        return next(counter)

    def enter(
        self,
        event: Event,
        at: float,
        message: str | None = None,
        details: StateDetails = NO_DETAILS,
        name: str | None = None,
    ) -> None:
        """Move to the state that the table has for this event; `name`: as somebody calls it.

        Raises:
            IllegalTransition: it has none; nothing has changed.
        """
        phase = advance(self.phase, event)
        transition = Transition(TYPES[phase], name or phase, message, at, details)
        self.phase = phase
        self._state = None
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
        if self.deciding:
            self._state = self._new_state()
            self.deciding = ()
        try:
            if flow_run is not None and flow_run.watched:
                flow_run.fail_with(self)  # before anybody can see that this one has ended
        finally:
            self.set()

    def settle(self) -> None:
        """See `Source`."""
        self.payload = None
        self.upstreams = ()
        flow_run = self.flow_run
        is_retried = flow_run is not None and flow_run.is_retried
        if not is_retried and self.options.hooks is None:  # which may ask how it went
            self.history = self.history[-1:]

    def resolve_arguments(self) -> None:
        """Put the values of the upstreams where their futures are."""
        if self.upstreams:
            self.args, self.kwargs = call_replaced(self.args, self.kwargs, _value_of)

    def call(self) -> Callable[[], Any]:
        """The call of the user's function, which keeps its arguments when the run has ended."""
        return partial(self.options.fn, *self.args, **self.kwargs)

    def is_final(self, length: int) -> bool:
        """See `Source`."""
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


def attempts_in(history: Sequence[Transition]) -> int:
    return [transition.type for transition in history].count(StateType.RUNNING)


def _state_of_part(part: Part) -> State[Any]:
    return part.state if isinstance(part, Run) else part


def _value_of(upstream: Upstream) -> object:
    return upstream.resolved() if isinstance(upstream, Handle) else upstream.result()


def _run_id_of(upstream: Upstream) -> bytes | None:
    return upstream._run.run_id if isinstance(upstream, Handle) else upstream._task_run
