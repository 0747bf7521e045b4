"""Drives a run wherever a worker is free, and holds none while the run waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, TypeAlias, assert_never

from typing_extensions import override

from penstock._drivers.aborting import end_by
from penstock._drivers.immediate import answer_at_once
from penstock._drivers.recording import record_unless_in_loop
from penstock._drivers.user_code import call_hook, call_in_time, capture_of_attempt, run_in
from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireSlots,
    AcquireWorker,
    CallHook,
    CancelMembers,
    Claim,
    Commit,
    Convert,
    DeadlinePassed,
    Effect,
    Evaluate,
    Interrupted,
    Invoke,
    Join,
    LookUp,
    Outcome,
    ReleaseSlots,
    Sleep,
    Steps,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun, as_flow_run
from penstock._rules.lifecycle import missing_upstream, run_steps
from penstock._rules.run import Driver, Run
from penstock._waiting.latch import when_all
from penstock._waiting.loops import context_for
from penstock._waiting.workers import Workers

UserCode: TypeAlias = Invoke | Evaluate | Convert | CallHook
"""The effects that call code of the user's, on a worker."""
Wait: TypeAlias = (
    AcquireWorker | Commit | WaitFor | Sleep | Join | CancelMembers | Evaluate | Convert | CallHook
)
"""The effects that a run may leave its thread for."""
Suspended: TypeAlias = list[Steps]
"""The rules of a run that waits, until somebody takes them out to go on with them."""
_NOTHING: Suspended = []
_NOT_STARTED: Suspended = []


class ParkedRun(Driver):
    """Drives a run of sync code piece by piece, on whatever thread brings it further.

    The rules are held by at most one thread, without a lock. Each time that the run waits, its
    rules are put into a new list of one, and whoever may bring it further is given that list: a
    timer, a latch, a worker, and, where the effect is not shielded, `cancel`. To go on is to `pop`
    the rules from it, which the interpreter does in one step; so of several threads that come, one
    gets them, and to the others, and to all that come too late, the list is empty. They drop what
    they bring. As each wait has a list of its own, what comes late for one wait cannot end the
    next.

    `cancel` may come between the putting of the rules into the list and the wait. So it notes that
    the run is to end first, and looks for the rules after; the driver makes the list known first,
    and looks for the note after: one of the two sees the other.

    While a run waits for others, or for a worker, to begin with, it has not begun its rules, and
    there is no list: so a run in the queue is one small object, which the worker calls. In place of
    the list there is the attribute `_unbegun`, which one thread alone can delete.
    """

    __slots__ = ("_context", "_engine", "_suspended", "_unbegun", "_wanted_end", "_workers", "run")

    def __init__(self, run: Run, engine: Engine, workers: Workers) -> None:
        self.run = run
        self._engine = engine
        self._workers = workers
        self._context: Context | None = context_for(None)
        self._suspended: Suspended = _NOT_STARTED
        self._wanted_end = False
        run.driver = self

    def start(self) -> None:
        """Begin; user code is left to the workers."""
        run = self.run
        self._unbegun = True
        self._suspended = _NOTHING
        if run.earlier is not None:
            self._begin(on_worker=False)
        elif run.upstreams or run.after is not None:
            when_all([*run.upstream_runs, *run.predecessors], self._begin_when_ready)
        else:
            self._go_to_worker(self)
        if self._must_end():
            self._begin(on_worker=False)

    def end_unstarted(self, error: BaseException) -> None:
        """End the run where `start` was kept from beginning."""
        if self._suspended is _NOT_STARTED:
            end_by(self.run, self._engine, error)

    def _begin_when_ready(self) -> None:
        if missing_upstream(self.run) is None:
            self._go_to_worker(self)
        else:
            self._begin(on_worker=False)

    def _go_to_worker(self, work: Callable[[], None]) -> None:
        """Have a worker do what may lead to a call of the run's function."""
        self._workers.run_soon(work)

    def _keeps_worker(self) -> bool:
        """Whether a run that is on a worker has what its next attempt needs."""
        return True

    @override
    def cancel(self) -> None:
        """End the run now, whatever its code does."""
        self._wanted_end = True
        if not self._begin(on_worker=False):
            self._resume(self._suspended, Interrupted())

    def __call__(self) -> None:
        """Begin on a worker."""
        self._begin(on_worker=True)

    def _begin(self, *, on_worker: bool) -> bool:
        try:
            del self._unbegun
        except AttributeError:  # it has begun
            return False
        self._go_on(run_steps(self.run, self._engine.rules), None, on_worker)
        return True

    def _resume(self, suspended: Suspended, outcome: Outcome, on_worker: bool = False) -> None:
        try:
            steps = suspended.pop()
        except IndexError:  # another thread was faster
            return
        self._go_on(steps, outcome, on_worker)

    def _go_on(self, steps: Steps, outcome: Any, on_worker: bool) -> None:
        """Drive the rules until they have to wait for something."""
        run, engine = self.run, self._engine
        try:
            while True:
                effect = steps.send(outcome)
                if type(effect) is AcquireWorker and on_worker and self._keeps_worker():
                    outcome = DONE
                    continue
                record_unless_in_loop(run, engine)
                outcome = self._answer(effect, steps, on_worker)
                if outcome is None:
                    return
        except StopIteration:
            record_unless_in_loop(run, engine)
        except BaseException as error:
            self._context = None
            end_by(run, engine, error)
            engine.log.ended_by(run, error)
            return
        self._context = None
        engine.finish(run)

    def _answer(self, effect: Effect, steps: Steps, on_worker: bool) -> Outcome | None:
        """What comes of an effect; None: others go on with the rules, or have."""
        match effect:
            case Invoke():
                return self._call(effect, steps)
            case WaitFor() if all(latch.is_set() for latch in effect.latches):
                return DONE
            case Evaluate() | Convert() | CallHook() if on_worker:
                return self._call(effect, steps)
            case LookUp() | Claim() | AcquireSlots() | ReleaseSlots():
                return answer_at_once(effect, self.run, self._engine)
            case AcquireWorker() | Commit() | WaitFor() | Sleep() | Join() | CancelMembers():
                self._wait(effect, steps)
            case Evaluate() | Convert() | CallHook():
                self._wait(effect, steps)
            case _:
                assert_never(effect)
        return None

    # The user's code

    def _call(self, effect: UserCode, steps: Steps) -> Outcome | None:
        """Call the user's code; None: somebody else goes on with the run, or it has ended."""
        # With its arguments, which a run that ends lets go of.
        call = self.run.call() if type(effect) is Invoke else effect.call
        if effect.is_shielded:
            return self._outcome_of(effect, call)
        suspended: Suspended = [steps]
        self._suspended = suspended  # for `cancel`: code on a thread cannot be stopped
        outcome = Interrupted() if self._must_end() else self._outcome_of(effect, call)
        try:
            suspended.pop()
        except IndexError:
            return None
        return outcome

    def _outcome_of(self, effect: UserCode, call: Callable[[], object]) -> Outcome:
        run, context = self.run, self._context
        if context is None:  # it has ended meanwhile
            return Interrupted()
        if type(effect) is CallHook:
            return run_in(context, call_hook, effect, run, self._engine)
        if type(effect) is not Invoke:
            return run_in(context, capture_of_attempt, run, call)
        if run.options.timeout_seconds is None:
            return run_in(context, capture_of_attempt, run, call)
        return run_in(context, call_in_time, run, call, self._engine)

    def _call_and_go_on(self, suspended: Suspended, effect: UserCode) -> None:
        try:
            steps = suspended.pop()
        except IndexError:  # it was cancelled while it waited for this worker
            return
        outcome = self._call(effect, steps)
        if outcome is not None:
            self._go_on(steps, outcome, on_worker=True)

    # Waits

    def _wait(self, effect: Wait, steps: Steps) -> None:
        """Leave the rules until what they asked for has come about.

        `cancel` finds them there and ends the wait, unless the effect is shielded.
        """
        suspended: Suspended = [steps]
        if not effect.is_shielded:
            self._suspended = suspended
        self._begin_wait(effect, suspended)
        if not effect.is_shielded and self._must_end():
            self._resume(suspended, Interrupted())

    def _begin_wait(self, effect: Wait, suspended: Suspended) -> None:
        """Ask to be called back when it has come about; or go on at once, where it has."""
        go_on = partial(self._resume, suspended, DONE)
        match effect:
            case AcquireWorker():
                self._go_to_worker(partial(self._resume, suspended, DONE, on_worker=True))
            case Commit():
                # From the loop that writes back to a worker: what follows may call the user's code.
                on_worker = partial(self._resume, suspended, DONE, on_worker=True)
                self._engine.commit().add_callback(partial(self._workers.run_soon, on_worker))
            case WaitFor():
                when_all(effect.latches, go_on)
            case Sleep():
                self._engine.clock.call_later(effect.seconds, go_on)
            case Join():
                self._join(effect, suspended, go_on)
            case CancelMembers():
                as_flow_run(self.run).cancel_members()
                self._join_rest(go_on)
            case Evaluate() | Convert() | CallHook():
                self._workers.run_soon(partial(self._call_and_go_on, suspended, effect))
            case _:
                assert_never(effect)

    def _join(self, effect: Join, suspended: Suspended, go_on: Callable[[], object]) -> None:
        if effect.seconds is not None:
            late = partial(self._resume, suspended, DeadlinePassed())
            in_time = self._engine.clock.call_at_limit(effect.seconds, late)
            self._join_rest(in_time)
        self._join_rest(go_on)

    def _join_rest(self, go_on: Callable[[], object]) -> None:
        unfinished = as_flow_run(self.run).members.unfinished()
        if unfinished:
            when_all(unfinished, partial(self._join_rest, go_on))
        else:
            go_on()

    def _must_end(self) -> bool:
        run = self.run  # a flow run that was stopped and has retries left goes on
        return run.stopping.outcome is not None if isinstance(run, FlowRun) else self._wanted_end
