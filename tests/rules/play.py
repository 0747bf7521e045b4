"""Plays the rules with scripted outcomes and a fake clock: no loop, no thread, no sleep.

A `Stage` is the world around the runs of one test. It answers what the rules ask for as a driver
and a store would, unless the test has scripted another answer; and with each state that a run
enters it checks what holds for all of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from penstock import Flow, Task
from penstock._calls.futures import TaskFuture
from penstock._model.payloads import decode_result
from penstock._model.rows import CacheHit, CacheRow
from penstock._rules.admission import admit
from penstock._rules.effects import (
    AcquireSlots,
    AcquireWorker,
    CallHook,
    CancelMembers,
    Claim,
    Commit,
    Convert,
    DeadlinePassed,
    Effect,
    Error,
    Evaluate,
    Interrupted,
    Interruptible,
    Invoke,
    Join,
    LookUp,
    Outcome,
    ReleaseSlots,
    Sleep,
    Steps,
    Value,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.lifecycle import abort_steps, run_steps
from penstock._rules.options import FlowOptions, TaskOptions
from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Parent, Run
from penstock._rules.task_run import TaskRun
from penstock._rules.transitions import NO_DETAILS
from penstock._waiting.latch import Latch
from penstock.exceptions import StoreError
from penstock.states import TYPES, State, StateDetails, Transition

Answer: TypeAlias = Outcome | Callable[[], object] | None
"""An outcome, or a function that does something and may give one; None: as a driver would."""


def then(act: Callable[[], object], outcome: Outcome) -> Answer:
    """First this happens; then the answer is this."""

    def answer() -> Outcome:
        act()
        return outcome

    return answer


START = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
BAD_CODE = ValueError("bad code")

_LABELS: dict[type[Effect], str] = {
    AcquireWorker: "acquire",
    Evaluate: "invoke",
    CallHook: "hook",
    Invoke: "invoke",
    Sleep: "sleep",
    WaitFor: "wait",
    LookUp: "look up",
    Claim: "claim",
    AcquireSlots: "acquire slots",
    ReleaseSlots: "release slots",
    Join: "join",
    CancelMembers: "join",
    Commit: "commit",
    Convert: "convert",
}


class Clock:
    """A time that passes only when somebody says so."""

    def __init__(self) -> None:
        self._time = START.timestamp()

    def now(self) -> float:
        return self._time

    def advance(self, seconds: float) -> None:
        self._time += seconds


class Script:
    """The answers to the effects of one play, by label, in order."""

    def __init__(self, **answers: Iterable[Answer]) -> None:
        given = {name.replace("_", " "): deque(answers) for name, answers in answers.items()}
        unknown = given.keys() - set(_LABELS.values())
        assert not unknown, f"no effect is called {unknown}"
        self._answers = given

    def answer(self, effect: Effect) -> Answer:
        """The next answer to such an effect; None: as a driver would."""
        answers = self._answers.get(_LABELS[type(effect)])
        return answers.popleft() if answers else None

    def check_used_up(self) -> None:
        left = {label: list(answers) for label, answers in self._answers.items() if answers}
        assert not left, f"the rules never asked for {left}"


class Played:
    """What a play came to."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.effects: list[Effect] = []
        self.steps: list[str] = []
        """The states and effects in order: a state by its name, an effect in lower case.

        What converts objects of the user's is left out: most runs that fail ask for it.
        """

    @property
    def state(self) -> State[Any]:
        """The last state."""
        return self.run.state

    def effects_of(self, kind: type[Effect]) -> list[Any]:
        return [effect for effect in self.effects if type(effect) is kind]


def _shown(effect: Effect) -> str:
    if type(effect) is Sleep:
        return f"sleep {effect.seconds:g}"
    return "join cancelled" if type(effect) is CancelMembers else _LABELS[type(effect)]


class PlayedSlots(Latch):
    """Slots that were free; a slot of each limit, until they are given back."""

    __slots__ = ("_names", "_taken", "error")

    def __init__(self, names: Iterable[str], taken: Counter[str]) -> None:
        super().__init__()
        self.error: StoreError | None = None
        self._names = frozenset(names)
        self._taken = taken
        self._taken.update(self._names)
        self.set()

    def give_back(self) -> None:
        self._taken.subtract(self._names)


class Stage:
    """The world around the runs of one test.

    Args:
        strict: whether a result may be seen only once it is on disk.
        draws: the random numbers, in order.
    """

    def __init__(self, *, strict: bool = False, draws: Iterable[float] = ()) -> None:
        self.clock = Clock()
        self.warnings: list[tuple[str, BaseException | None]] = []
        draw = iter(draws).__next__
        self.rules = Rulebook(self.clock.now, self._warn, strict, self._warn, draw)
        self.cache: dict[str, tuple[CacheRow, bytes]] = {}
        self._owners: dict[str, TaskRun] = {}
        self.limits: set[str] = set()
        self.taken: Counter[str] = Counter()

    def _warn(self, _run: Run, what: str, error: BaseException | None) -> None:
        self.warnings.append((what, error))

    def play(self, run: Run, **answers: Iterable[Answer]) -> Played:
        """Drive the rules of a run to their end."""
        script = Script(**answers)
        played = self.play_with(run, script.answer)
        script.check_used_up()
        return played

    def play_with(self, run: Run, answer: Callable[[Effect], Answer]) -> Played:
        """Drive the rules of a run to their end, asking `answer` before each effect."""
        played = Played(run)
        self._drive(run_steps(run, self.rules), played, answer)
        self._finish(run)
        return played

    def abort(self, run: Run, error: BaseException) -> Played:
        """Drive the rules that end a run from outside."""
        played = Played(run)
        self._drive(abort_steps(run, self.rules, error), played, lambda _effect: None)
        return played

    def _drive(self, steps: Steps, played: Played, answer: Callable[[Effect], Answer]) -> None:
        outcome: Outcome | None = None
        while True:
            try:
                effect = steps.send(outcome)
            except StopIteration:
                self._record(played)
                return
            self._record(played)
            played.effects.append(effect)
            if type(effect) is not Convert:
                played.steps.append(_shown(effect))
            outcome = self._outcome(played.run, effect, answer(effect))

    def _outcome(self, run: Run, effect: Effect, answer: Answer) -> Outcome:
        outcome = answer() if callable(answer) else answer
        if type(outcome) is Interrupted:
            assert isinstance(effect, Interruptible), f"{effect} is never interrupted"
        if isinstance(outcome, Value | Error | DeadlinePassed | Interrupted):
            return outcome
        return self._as_a_driver(run, effect)

    def _record(self, played: Played) -> None:
        """As a driver: before each effect, and at the end."""
        run = played.run
        for transition in run.history[run.recorded :]:
            assert transition.timestamp == self.clock.now()
            played.steps.append(transition.name)
        if run.recorded < len(run.history):
            assert run.phase is not None
            assert run.history[-1].type is TYPES[run.phase], "the phase says what the state means"
        run.recorded = len(run.history)
        if run.phase == "Completed" and run.cache_row is not None:
            assert run.payload is not None, "what is found by a key has a result"
            self.cache[run.cache_row.key] = (run.cache_row, run.payload)

    def _finish(self, run: Run) -> None:
        assert run.phase is not None
        assert run.is_final(len(run.history)), "the rules end when the run has"
        for key in [key for key, owner in self._owners.items() if owner is run]:
            del self._owners[key]
        run.set()

    # As the drivers do it

    def _as_a_driver(self, run: Run, effect: Effect) -> Outcome:
        if type(effect) is Invoke:
            return _called(run.call(), run.options.is_async)
        if isinstance(effect, Evaluate | CallHook | Convert):
            return _called(effect.call, awaits=False)
        if type(effect) is Sleep:
            self.clock.advance(effect.seconds)
        elif type(effect) is WaitFor:
            assert all(latch.is_set() for latch in effect.latches), "nobody would end this wait"
        elif isinstance(effect, Join | CancelMembers):
            _join(run, effect)
        elif type(effect) is AcquireSlots:
            return Value(self._acquire(effect.tags))
        elif type(effect) is ReleaseSlots:
            assert isinstance(run, TaskRun)
            assert run.slots is not None, "what is given back was there"
            run.slots.give_back()
            run.slots = None
        elif type(effect) is LookUp:
            return Value(self._look_up(effect.key))
        elif type(effect) is Claim:
            return Value(self._claim(effect.key, run))
        return Value()

    def _look_up(self, key: str) -> CacheHit | None:
        row, payload = self.cache.get(key, (None, b""))
        if row is None:
            return None
        if row.expires_at is not None and row.expires_at <= self.clock.now():
            return None
        return CacheHit(row.run_id, decode_result(payload, None), row.expires_at)

    def _acquire(self, tags: Iterable[str]) -> Latch | None:
        names = self.limits.intersection(tags)
        return PlayedSlots(names, self.taken) if names else None

    def _claim(self, key: str, run: Run) -> Latch | None:
        assert isinstance(run, TaskRun)
        owner = self._owners.setdefault(key, run)
        return None if owner is run else owner

    # Runs that have ended

    def ended(self, name: str, parent: Parent = None, value: object = 1) -> TaskRun:
        """A task run that has ended in the state of this name."""
        if name == "Cached":
            first, run = (task_run(CACHED, parent=of) for of in (None, parent))
            self.play(first, invoke=[None, Value(value)])
        elif name == "NotReady":
            run = task_run(WORK, future("Failed", self), parent=parent)
        else:
            run = task_run(WORK, parent=parent)
        script = Script(invoke=[_ATTEMPTS[name](value)]) if name in _ATTEMPTS else Script()
        self.play_with(run, script.answer)
        assert run.state.name == name
        return run


_ATTEMPTS: dict[str, Callable[[object], Outcome]] = {
    "Completed": Value,
    "Failed": lambda _value: Error(BAD_CODE),
    "TimedOut": lambda _value: DeadlinePassed(),
    "Cancelled": lambda _value: Interrupted(),
    "Crashed": lambda _value: Interrupted(SystemExit(3)),
}


def _called(call: Callable[[], Any], awaits: bool) -> Outcome:
    try:
        return Value(_awaited(call()) if awaits else call())
    except Exception as error:
        return Error(error)
    except BaseException as error:
        return Interrupted(error)


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> object:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("object", stop.value)
    raise AssertionError("code under play has no loop to wait in")


def _join(run: Run, effect: Join | CancelMembers) -> None:
    assert isinstance(run, FlowRun)
    if type(effect) is CancelMembers:
        run.cancel_members()
    assert not run.members.unfinished(), "nobody would end this join"


# What is played


def work(*args: object) -> object:
    """The function of tasks whose attempts are scripted."""
    return args


WORK = Task[..., Any](work)
FLOW = Flow[..., Any](work)
CACHED = Task[..., Any](work, cache_key_fn=lambda _context, _parameters: "the key")


def task_run(task: TaskOptions, *args: object, parent: Parent = None, **kwargs: object) -> TaskRun:
    """A task run that has not begun."""
    run = TaskRun(task, parent, args, kwargs)
    admit(run)
    return run


def flow_run(flow: FlowOptions, *args: object, parent: Parent = None, **kwargs: object) -> FlowRun:
    """A flow run that has not begun."""
    run = FlowRun(flow, parent, args, kwargs)
    admit(run)
    return run


def future(name: str, stage: Stage, parent: Parent = None, value: object = 1) -> TaskFuture[Any]:
    """The future of a task run that has ended in the state of this name."""
    return future_of(stage.ended(name, parent, value))


def future_of(run: Run) -> TaskFuture[Any]:
    """The future of a run, whatever its state."""
    return TaskFuture(run)


def names(run: Run) -> list[str]:
    """The names of all states of a run."""
    return [state.name for state in run.history]


def state_named(
    name: str, message: str | None, timestamp: datetime, details: StateDetails = NO_DETAILS
) -> State[object]:
    """The state of the table with this name."""
    return State(TYPES[name], name, message, timestamp, details)


def transition_named(
    name: str, message: str | None = None, details: StateDetails = NO_DETAILS
) -> Transition:
    """That a run has entered the state of the table with this name."""
    return Transition(TYPES[name], name, message, START.timestamp(), details)


def put_into(run: Run, phase: str) -> None:
    """Have the run in that phase, however it came there."""
    run.phase = phase
    run.history = (*run.history, transition_named(phase))
    run.recorded = len(run.history)
