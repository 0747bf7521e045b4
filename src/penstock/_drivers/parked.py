"""Drives a run wherever a worker is free, and holds none while the run waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, TypeAlias

from penstock._drivers.bookkeeping import (
    AT_ONCE,
    answer_at_once,
    end_by,
    record_unless_in_loop,
    steps_of,
)
from penstock._drivers.calls import call_as, call_hook, call_in_time, run_in
from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireWorker,
    CallHook,
    Commit,
    DeadlinePassed,
    Effect,
    Evaluate,
    Interrupted,
    Invoke,
    Join,
    Outcome,
    Sleep,
    Steps,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.lifecycle import missing_upstream
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._waiting.latch import when_all
from penstock._waiting.loops import context_for
from penstock._waiting.workers import Workers

Ticket: TypeAlias = list[Steps]
"""Holds the rules of a run that waits, once."""
_NO_TICKET: Ticket = []
_NOT_STARTED: Ticket = []


class ParkedRun:
    """Drives a run of sync code piece by piece, on whatever thread brings it further.

    The rules are held by at most one thread. While the run waits, they lie in a ticket, a list of
    one; whoever wants to go on takes them out of the ticket that it was given. A timer, a callback
    or a worker that comes too late finds its ticket empty, and what it brings is dropped.

    While a run waits for others, or for a worker, to begin with, it has not begun its rules. It is
    what the worker calls, and its ticket is the attribute `_unbegun`, which one thread alone can
    delete: so a run in the queue is one small object.
    """

    __slots__ = ("_context", "_engine", "_ticket", "_unbegun", "_wanted_end", "_workers", "run")

    def __init__(self, run: Run, engine: Engine, workers: Workers) -> None:
        self.run = run
        self._engine = engine
        self._workers = workers
        self._context: Context | None = context_for(None)
        self._ticket: Ticket = _NOT_STARTED
        self._wanted_end = False
        run.driver = self

    def start(self) -> None:
        """Begin; user code is left to the workers."""
        run = self.run
        self._unbegun = True
        self._ticket = _NO_TICKET
        if run.earlier is not None:
            self._begin(on_worker=False)
        elif run.upstreams or run.after is not None:
            when_all([*run.upstream_runs, *run.predecessors], self._go_to_worker)
        else:
            self._workers.run_soon(self)
        if self._must_end():
            self._begin(on_worker=False)

    def end_unstarted(self, error: BaseException) -> None:
        """End the run where `start` was kept from beginning."""
        if self._ticket is _NOT_STARTED:
            end_by(self.run, self._engine, error)

    def _go_to_worker(self) -> None:
        if missing_upstream(self.run) is None:
            self._workers.run_soon(self)
        else:
            self._begin(on_worker=False)

    def cancel(self) -> None:
        """See `Driver`: the run ends now, whatever its code does."""
        self._wanted_end = True
        remote = self._workers.remote
        if remote is not None and isinstance(self.run, TaskRun):
            remote.stop(self.run)
        if not self._begin(on_worker=False):
            self._resume(self._ticket, Interrupted())

    def __call__(self) -> None:
        """Begin on a worker."""
        self._begin(on_worker=True)

    def _begin(self, *, on_worker: bool) -> bool:
        try:
            del self._unbegun
        except AttributeError:  # it has begun
            return False
        self._go_on(steps_of(self.run, self._engine), None, on_worker)
        return True

    def _resume(self, ticket: Ticket, outcome: Outcome, on_worker: bool = False) -> None:
        try:
            steps = ticket.pop()
        except IndexError:
            return
        self._go_on(steps, outcome, on_worker)

    def _go_on(self, steps: Steps, outcome: Any, on_worker: bool) -> None:
        """Drive the rules until they have to wait for something."""
        run, engine = self.run, self._engine
        try:
            while True:
                effect = steps.send(outcome)
                if type(effect) is AcquireWorker and on_worker:
                    outcome = DONE
                    continue
                record_unless_in_loop(run, engine)
                if type(effect) is Invoke or type(effect) is Evaluate:
                    outcome = self._call(effect, steps)
                    if outcome is None:
                        return
                elif type(effect) is CallHook and on_worker:
                    outcome = self._call_hook(effect)
                elif type(effect) in AT_ONCE:
                    outcome = answer_at_once(effect, run, engine)
                elif type(effect) is WaitFor and all(latch.is_set() for latch in effect.latches):
                    outcome = DONE
                else:
                    self._park(steps, effect)
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

    def _call(self, effect: Invoke | Evaluate, steps: Steps) -> Outcome | None:
        """Call the user's code; None: the run was cancelled meanwhile, and has ended."""
        run, context, remote = self.run, self._context, self._workers.remote
        # With its arguments, which a run that ends lets go of.
        call = effect.call if type(effect) is Evaluate else run.call()
        ticket: Ticket = [steps]
        self._ticket = ticket
        outcome: Outcome
        if self._must_end() or context is None:
            outcome = Interrupted()
        elif type(effect) is Invoke and remote is not None and isinstance(run, TaskRun):
            outcome = remote.call(run, self._engine.settings, lambda: not self._wanted_end)
        elif type(effect) is Evaluate or run.options.timeout_seconds is None:
            outcome = run_in(context, call_as, run, call)
        else:
            outcome = run_in(context, call_in_time, run, call, self._engine)
        try:
            ticket.pop()
        except IndexError:
            return None
        return outcome

    def _call_hook(self, effect: CallHook) -> Outcome:
        context = self._context or context_for(None)
        return run_in(context, call_hook, effect, self.run, self._engine)

    def _call_hook_and_go_on(self, steps: Steps, effect: CallHook) -> None:
        self._go_on(steps, self._call_hook(effect), on_worker=True)

    def _park(self, steps: Steps, effect: Effect) -> None:
        """Leave the rules until what they asked for has come about."""
        engine = self._engine
        ticket: Ticket = [steps]
        go_on = partial(self._resume, ticket, DONE)
        if type(effect) is Join and effect.cancel:  # it is not cancelled itself
            self._flow_run.cancel_members()
            self._join_rest(go_on)
            return
        if type(effect) is CallHook:  # nor is a hook
            self._workers.run_soon(partial(self._call_hook_and_go_on, steps, effect))
            return
        if type(effect) is Commit:  # what is being written cannot be taken back
            # From the loop that writes back to a worker: what follows may call the user's code.
            engine.commit().add_callback(partial(self._workers.run_soon, go_on))
            return
        self._ticket = ticket
        if type(effect) is AcquireWorker:
            self._workers.run_soon(partial(self._resume, ticket, DONE, on_worker=True))
        elif type(effect) is Sleep:
            engine.clock.call_later(effect.seconds, go_on)
        elif type(effect) is Join:
            if effect.seconds is not None:
                late = partial(self._resume, ticket, DeadlinePassed())
                in_time = engine.clock.call_at_limit(effect.seconds, late)
                self._join_rest(in_time)
            self._join_rest(go_on)
        else:
            assert type(effect) is WaitFor, f"no driver knows {effect!r}"
            when_all(effect.latches, go_on)
        if self._must_end():
            self._resume(ticket, Interrupted())

    def _must_end(self) -> bool:
        run = self.run  # a flow run that was stopped and has retries left goes on
        return run.stopped is not None if isinstance(run, FlowRun) else self._wanted_end

    @property
    def _flow_run(self) -> FlowRun:
        assert isinstance(self.run, FlowRun), "only flows join"
        return self.run

    def _join_rest(self, go_on: Callable[[], object]) -> None:
        unfinished = self._flow_run.unfinished_members()
        if unfinished:
            when_all(unfinished, partial(self._join_rest, go_on))
        else:
            go_on()
