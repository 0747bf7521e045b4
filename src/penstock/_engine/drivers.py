"""The drivers: they run the rules, and do what the rules ask for.

`drive_sync` does it in the calling thread, `drive_async` in a task of an event loop, and a
`ParkedRun` wherever a worker is free, holding none while it waits. None of them decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias, cast

import anyio

from penstock._engine.current import current_run
from penstock._engine.effects import (
    Acquire,
    Ask,
    CallHook,
    Claim,
    Commit,
    Effect,
    Error,
    Interrupted,
    Invoke,
    Join,
    LookUp,
    Outcome,
    Sleep,
    Steps,
    TimedOut,
    Value,
    WaitFor,
)
from penstock._engine.lanes import Workers
from penstock._engine.latch import Latch, when_all
from penstock._engine.lifecycle import (
    abort_steps,
    missing_upstream,
    run_steps,
    submit_run,
)
from penstock._engine.loops import LoopPort, context_for, current_port
from penstock._engine.runs import FlowRun, Run, TaskRun
from penstock._engine.runtime import Runtime
from penstock.exceptions import RunCancelled, WouldDeadlock

Ticket: TypeAlias = list[Steps]
"""Holds the rules of a run that waits, once."""
_DONE = Value()
_BIRTH_SECONDS = 0.1


def steps_of(run: Run, runtime: Runtime) -> Steps:
    """The rules for this run."""
    return run_steps(run, runtime.rules)


def _call_hook(effect: CallHook, run: Run, runtime: Runtime) -> Outcome:
    """Call a hook in this thread, and wait for an async one."""
    outcome = call_as(run, effect.call)
    if type(outcome) is Value and isawaitable(outcome.value):
        return _await_elsewhere(outcome.value, run, runtime)
    return outcome


def _await_elsewhere(awaitable: Awaitable[object], run: Run, runtime: Runtime) -> Outcome:
    """Have it awaited in the engine's loop for async code, and wait for that."""
    answers: list[Outcome] = []
    answered = Latch()

    async def work() -> None:
        try:
            answers.append(await _await_as(run, awaitable))
        finally:
            answered.set()

    loop = runtime.async_loop
    if loop.is_current():  # it cannot wait for itself
        context = context_for(None)
        runtime.threads.run_soon(lambda: context.run(lambda: anyio.run(work)))
    elif not loop.spawn(work, context_for(loop.port.library)):
        return Interrupted()
    answered.wait()
    return answers[0] if answers else Interrupted()


async def _await_as(run: Run, awaitable: Awaitable[object]) -> Outcome:
    """Await something of the user's, as code of the run."""
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        outcome: Outcome = Value(await awaitable)
    except GeneratorExit:  # the coroutine is thrown away, wherever that happens
        raise
    except Exception as error:
        outcome = Error(error)
    except BaseException as error:
        outcome = Interrupted(error)
    current_run.reset(token)
    return outcome


def _look_up_or_claim(effect: Effect, run: Run, runtime: Runtime) -> Outcome:
    """The effects that no driver waits for."""
    if type(effect) is LookUp:
        return Value(runtime.look_up(effect.key))
    assert type(effect) is Claim, f"no driver knows {effect!r}"
    assert isinstance(run, TaskRun), "only tasks have cache keys"
    return Value(runtime.claim(effect.key, run))


def _call_own(run: Run) -> Outcome:
    """Call the run's sync function in this thread: `call_as` without making a call to pass to it.

    Only for a run that nobody can end meanwhile, as one that ends lets go of its arguments.
    """
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        return Value(run.options.fn(*run.args, **run.kwargs))
    except Exception as error:
        return Error(error)
    except BaseException as error:
        return Interrupted(error)
    finally:
        current_run.reset(token)


def call_as(run: Run, call: Callable[[], object]) -> Outcome:
    """Call sync code of the user's in this thread, as code of the run."""
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        return Value(call())
    except Exception as error:
        return Error(error)
    except BaseException as error:
        return Interrupted(error)
    finally:
        current_run.reset(token)


def _call_in_time(run: Run, call: Callable[[], object], runtime: Runtime) -> Outcome:
    """Call sync code in a thread that can be left to itself when its time is up.

    Code in a thread cannot be stopped; so it is not waited for.
    """
    seconds = run.options.timeout_seconds
    assert seconds is not None, "asked for only where there is a time limit"
    answers: list[Outcome] = []
    answered = Latch()
    context = context_for(None)

    def work() -> None:
        answers.append(context.run(call_as, run, call))
        answered.set()

    runtime.threads.run_soon(work)
    if answered.wait(seconds, gives_up_place=False):
        return answers[0]
    runtime.log.abandoned(run, seconds)
    return TimedOut()


def abort(run: Run, runtime: Runtime, error: BaseException) -> None:
    """End a run whose rules were themselves interrupted: Ctrl-C may come between any two steps."""
    steps = abort_steps(run, runtime.rules, error)
    outcome: Any = None
    with suppress(StopIteration):
        while True:
            effect = steps.send(outcome)
            runtime.record(run)
            # Nobody waits for a commit here.
            outcome = _call_hook(effect, run, runtime) if type(effect) is CallHook else _DONE
    runtime.record(run)
    for member in run.all_members() if isinstance(run, FlowRun) else ():
        member.cancel()


def _end_by(run: Run, runtime: Runtime, error: BaseException) -> None:
    try:
        abort(run, runtime, error)
    finally:
        runtime.finish(run)


# In the calling thread


def drive_sync(run: Run, runtime: Runtime) -> None:
    """Run to the end in this thread.

    Raises:
        KeyboardInterrupt, SystemExit: after the end was recorded.
    """
    try:
        interruption = _take_steps(run, runtime)
    except BaseException as error:
        _end_by(run, runtime, error)
        raise
    try:
        runtime.finish(run)
    except BaseException:  # Ctrl-C, and whoever joins the run would wait for ever
        runtime.finish(run)
        raise
    if interruption is not None:
        raise interruption


def _take_steps(run: Run, runtime: Runtime) -> BaseException | None:
    """Drive the rules to their end; what interrupted them."""
    steps = steps_of(run, runtime)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            _record_patiently(run, runtime)
            return interruption
        if type(effect) is Acquire:
            outcome = _DONE
            continue
        _record_patiently(run, runtime)
        if type(effect) is Invoke and run.options.timeout_seconds is None:
            outcome = _call_own(run)
        else:
            outcome = _answer_sync(effect, run, runtime)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


def _record_patiently(run: Run, runtime: Runtime) -> None:
    """Put what happened to the run on record, and wait where the store cannot follow."""
    runtime.record(run)
    if runtime.store.is_crowded:
        relief = runtime.store.relieve()
        if relief is not None:
            relief.wait()


def _answer_sync(effect: Effect, run: Run, runtime: Runtime) -> Outcome:
    if type(effect) is Invoke:
        return _interruptible(partial(_call_in_time, run, run.call(), runtime))
    if type(effect) is Ask:
        return call_as(run, effect.call)
    if type(effect) is CallHook:
        return _interruptible(partial(_call_hook, effect, run, runtime))
    if type(effect) is Sleep:
        return _interruptible(partial(_sleep, effect.seconds))
    if type(effect) is WaitFor:
        return _interruptible(partial(_wait_for, effect))
    if type(effect) is Join:
        assert isinstance(run, FlowRun), "only flows join"
        return _interruptible(partial(_join_sync, effect, run, runtime))
    if type(effect) is Commit:
        runtime.commit().wait()
        runtime.store.check()
        return _DONE
    return _look_up_or_claim(effect, run, runtime)


def _interruptible(wait: Callable[[], Outcome]) -> Outcome:
    try:
        return wait()
    except (KeyboardInterrupt, SystemExit) as interruption:
        return Interrupted(interruption)


def _sleep(seconds: float) -> Outcome:
    time.sleep(seconds)
    return _DONE


def _wait_for(effect: WaitFor) -> Outcome:
    for latch in effect.latches:
        if isinstance(latch, FlowRun | TaskRun):
            refuse_deadlock(latch)
        latch.wait()
    return _DONE


def _join_sync(effect: Join, run: FlowRun, runtime: Runtime) -> Outcome:
    if runtime.left_behind:  # in a forked child; the members are the parent's
        return _DONE
    if effect.cancel:
        run.cancel_members()
        _disown_stillborn(run)
    while unfinished := run.unfinished_members():
        for member in unfinished:
            member.wait()
    return _DONE


def _disown_stillborn(run: FlowRun) -> None:
    """Wait for no member that was made and will not be driven: Ctrl-C came in between.

    It may be half made, and is not on record. Those of other threads are given the time that it
    takes to begin.
    """
    ends_at = time.monotonic() + _BIRTH_SECONDS
    while stillborn := [m for m in run.unfinished_members() if m.phase is None]:
        if time.monotonic() > ends_at:
            run.disown(stillborn)
            return
        time.sleep(_BIRTH_SECONDS / 10)


def refuse_deadlock(run: Run) -> None:
    """Raise where waiting in this thread would keep the run from ending.

    Raises:
        WouldDeadlock: the run, or one that it waits for, needs the loop of this thread.
    """
    if run.is_set():
        return
    port = current_port()
    if port is not None and _needs_loop(run, port.key):
        raise WouldDeadlock(
            f"Waiting for {getattr(run, 'name', 'this run')!r} here would block the event loop "
            "that it needs to finish. Use `await future` instead of `future.result()`."
        )


def _needs_loop(run: Run, key: object) -> bool:
    seen: set[Run] = set()
    ahead = [run]
    while ahead:
        run = ahead.pop()
        if run.is_set() or run in seen:
            continue
        seen.add(run)
        if run.port is not None and run.port.key is key:
            return True
        members = run.all_members() if isinstance(run, FlowRun) else ()
        ahead += (*run.upstream_runs, *run.predecessors, *members)
    return False


# In an event loop


async def drive_async(run: Run, runtime: Runtime) -> None:
    """Run to the end in this task.

    Raises:
        BaseException: the loop's cancellation, KeyboardInterrupt or SystemExit, after the end was
            recorded.
    """
    if run.port is None:
        run.port = current_port()
    if isinstance(run, FlowRun):
        run.loop = run.port
    try:
        interruption = await _take_steps_async(run, runtime)
    except BaseException as error:
        if not run.history or not run.is_final(len(run.history)):
            abort(run, runtime, error)
        raise
    finally:
        runtime.finish(run)
    if interruption is not None:
        raise interruption


async def _take_steps_async(run: Run, runtime: Runtime) -> BaseException | None:
    """Drive the rules to their end; what interrupted them."""
    steps = steps_of(run, runtime)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            effect = None
        if type(effect) is Acquire:
            outcome = _DONE
            continue
        runtime.record(run)
        if runtime.store.is_crowded:
            await _relieved(runtime)
        if effect is None:
            return interruption
        if type(effect) is Invoke:
            outcome = await _invoke_async(run)
        else:
            outcome = await _answer_async(effect, run, runtime)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


async def _relieved(runtime: Runtime) -> None:
    relief = runtime.store.relieve()
    if relief is not None:
        await _shielded(relief)


async def _answer_async(effect: Effect, run: Run, runtime: Runtime) -> Outcome:
    if type(effect) is Ask:
        return call_as(run, effect.call)
    if type(effect) is CallHook:
        return await _call_hook_async(effect, run)
    if type(effect) is Sleep:
        return await _cancellable(partial(anyio.sleep, effect.seconds))
    if type(effect) is WaitFor:
        return await _cancellable(partial(_wait_for_async, effect))
    if type(effect) is Join:
        assert isinstance(run, FlowRun), "only flows join"
        return await _join_async(run, effect.cancel)
    if type(effect) is Commit:
        run.driver = None  # what is being written cannot be taken back
        await _shielded(runtime.commit())
        runtime.store.check()
        return _DONE
    return _look_up_or_claim(effect, run, runtime)


async def _call_hook_async(effect: CallHook, run: Run) -> Outcome:
    """Call a hook, and await an async one here, even where the run was cancelled."""
    outcome = call_as(run, effect.call)
    if type(outcome) is Value and isawaitable(outcome.value):
        with anyio.CancelScope(shield=True):
            return await _await_as(run, outcome.value)
    return outcome


async def _invoke_async(run: Run) -> Outcome:
    """Await the run's function, within its time."""
    seconds = run.options.timeout_seconds
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        if seconds is None:
            outcome: Outcome = Value(await run.options.fn(*run.args, **run.kwargs))
        else:
            outcome = await _in_time(run, seconds)
    except GeneratorExit:  # the coroutine is thrown away, wherever that happens
        raise
    except Exception as error:
        outcome = Error(error)
    except BaseException as error:
        outcome = Interrupted(error)
    current_run.reset(token)
    return outcome


async def _in_time(run: Run, seconds: float) -> Outcome:
    with anyio.move_on_after(seconds):
        return Value(await run.options.fn(*run.args, **run.kwargs))
    return TimedOut()


async def _cancellable(wait: Callable[[], Coroutine[Any, Any, None]]) -> Outcome:
    try:
        await wait()
    except (Exception, GeneratorExit):
        raise
    except BaseException as cancelled:
        return Interrupted(cancelled)
    return _DONE


async def _wait_for_async(effect: WaitFor) -> None:
    for latch in effect.latches:
        await latch.wait_async()


async def _shielded(latch: Latch) -> None:
    with anyio.CancelScope(shield=True):
        await latch.wait_async()


async def _join_async(run: FlowRun, cancel: bool) -> Outcome:
    if cancel:
        run.cancel_members()
        with anyio.CancelScope(shield=True):
            await _wait_for_members(run)
        return _DONE
    return await _cancellable(partial(_wait_for_members, run))


async def _wait_for_members(run: FlowRun) -> None:
    while unfinished := run.unfinished_members():
        for member in unfinished:
            await member.wait_async()


# On workers


class ParkedRun:
    """Drives a run of sync code piece by piece, on whatever thread brings it further.

    The rules are held by at most one thread. While the run waits, they lie in a ticket, a list of
    one; whoever wants to go on takes them out of the ticket that it was given. A timer, a callback
    or a worker that comes too late finds its ticket empty, and what it brings is dropped.

    While a run waits for others, or for a worker, to begin with, it has not begun its rules. It is
    what the worker calls, and its ticket is the attribute `_unbegun`, which one thread alone can
    delete: so a run in the queue is one small object.
    """

    __slots__ = ("_context", "_runtime", "_ticket", "_unbegun", "_wanted_end", "_workers", "run")

    def __init__(self, run: Run, runtime: Runtime, workers: Workers) -> None:
        self.run = run
        self._runtime = runtime
        self._workers = workers
        self._context: Context | None = context_for(None)
        self._ticket: Ticket = _NO_TICKET
        self._wanted_end = False
        run.driver = self

    def start(self) -> None:
        """Begin; user code is left to the workers."""
        run = self.run
        self._unbegun = True
        if run.earlier is not None:
            self._begin(on_worker=False)
        elif run.upstreams or run.after is not None:
            when_all([*run.upstream_runs, *run.predecessors], self._go_to_worker)
        else:
            self._workers.run_soon(self)
        if self._wanted_end:
            self._begin(on_worker=False)

    def _go_to_worker(self) -> None:
        if missing_upstream(self.run) is None:
            self._workers.run_soon(self)
        else:
            self._begin(on_worker=False)

    def cancel(self) -> None:
        """See `Driver`: the run ends now, whatever its code does."""
        self._wanted_end = True
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
        self._go_on(steps_of(self.run, self._runtime), None, on_worker)
        return True

    def _resume(self, ticket: Ticket, outcome: Outcome, on_worker: bool = False) -> None:
        try:
            steps = ticket.pop()
        except IndexError:
            return
        self._go_on(steps, outcome, on_worker)

    def _go_on(self, steps: Steps, outcome: Any, on_worker: bool) -> None:
        """Drive the rules until they have to wait for something."""
        run, runtime = self.run, self._runtime
        try:
            while True:
                effect = steps.send(outcome)
                if type(effect) is Acquire and on_worker:
                    outcome = _DONE
                    continue
                _record_unless_in_loop(run, runtime)
                if type(effect) is Invoke or type(effect) is Ask:
                    outcome = self._call(effect, steps)
                    if outcome is None:
                        return
                elif type(effect) is CallHook and on_worker:
                    outcome = self._call_hook(effect)
                elif type(effect) is LookUp or type(effect) is Claim:
                    outcome = _look_up_or_claim(effect, run, runtime)
                elif type(effect) is WaitFor and all(latch.is_set() for latch in effect.latches):
                    outcome = _DONE
                else:
                    self._park(steps, effect)
                    return
        except StopIteration:
            _record_unless_in_loop(run, runtime)
        except BaseException as error:
            self._context = None
            _end_by(run, runtime, error)
            runtime.log.ended_by(run, error)
            return
        self._context = None
        runtime.finish(run)

    def _call(self, effect: Invoke | Ask, steps: Steps) -> Outcome | None:
        """Call the user's code; None: the run was cancelled meanwhile, and has ended."""
        run, context = self.run, self._context
        # With its arguments, which a run that ends lets go of.
        call = effect.call if type(effect) is Ask else run.call()
        ticket: Ticket = [steps]
        self._ticket = ticket
        outcome: Outcome
        if self._wanted_end or context is None:
            outcome = Interrupted()
        elif type(effect) is Ask or run.options.timeout_seconds is None:
            outcome = _run_in(context, call_as, run, call)
        else:
            outcome = _run_in(context, _call_in_time, run, call, self._runtime)
        try:
            ticket.pop()
        except IndexError:
            return None
        return outcome

    def _call_hook(self, effect: CallHook) -> Outcome:
        context = self._context or context_for(None)
        return _run_in(context, _call_hook, effect, self.run, self._runtime)

    def _call_hook_and_go_on(self, steps: Steps, effect: CallHook) -> None:
        self._go_on(steps, self._call_hook(effect), on_worker=True)

    def _park(self, steps: Steps, effect: Effect) -> None:
        """Leave the rules until what they asked for has come about."""
        runtime = self._runtime
        ticket: Ticket = [steps]
        go_on = partial(self._resume, ticket, _DONE)
        if type(effect) is Join:  # a join that cancels is not cancelled itself
            self._join(effect, go_on)
            return
        if type(effect) is CallHook:  # nor is a hook
            self._workers.run_soon(partial(self._call_hook_and_go_on, steps, effect))
            return
        if type(effect) is Commit:  # what is being written cannot be taken back
            # From the loop that writes back to a worker: what follows may call the user's code.
            runtime.commit().add_callback(partial(self._workers.run_soon, go_on))
            return
        self._ticket = ticket
        if type(effect) is Acquire:
            self._workers.run_soon(partial(self._resume, ticket, _DONE, on_worker=True))
        elif type(effect) is Sleep:
            runtime.host.call_later(effect.seconds, go_on)
        else:
            assert type(effect) is WaitFor, f"no driver knows {effect!r}"
            when_all(effect.latches, go_on)
        if self._wanted_end:
            self._resume(ticket, Interrupted())

    def _join(self, effect: Join, go_on: Callable[[], None]) -> None:
        assert isinstance(self.run, FlowRun), "only flows join"
        if effect.cancel:
            self.run.cancel_members()
        self._join_rest(self.run, go_on)

    def _join_rest(self, run: FlowRun, go_on: Callable[[], None]) -> None:
        unfinished = run.unfinished_members()
        if unfinished:
            when_all(unfinished, partial(self._join_rest, run, go_on))
        else:
            go_on()


_NO_TICKET: Ticket = []


def _record_unless_in_loop(run: Run, runtime: Runtime) -> None:
    """Put what happened on record; where the store cannot follow, wait, unless a loop runs here."""
    if runtime.store.is_crowded and current_port() is not None:
        runtime.record(run)
    else:
        _record_patiently(run, runtime)


def _run_in(context: Context, call: Callable[..., Outcome], *args: Any) -> Outcome:
    try:
        return context.run(call, *args)
    except RuntimeError as error:
        if "is already entered" not in str(error):
            raise
        # An attempt before, left to itself when its time was up, is still inside.
        return context.copy().run(call, *args)


# Starting runs


def submit(run: TaskRun, runtime: Runtime) -> None:
    """Start a run beside the code that asks for it; returns at once.

    Raises:
        RunCancelled: the flow run that it would belong to has ended.
    """
    flow_run = run.flow_run
    if flow_run is None:
        runtime.keep(run)
    elif flow_run.task_runner.is_sequential and run.parent is not None:
        run.after = flow_run.last_submitted.get(run.parent.run_id)
        flow_run.last_submitted[run.parent.run_id] = run
    driver = _driver_of(run, runtime, flow_run)
    try:
        if run.earlier is None:  # on record at once, whenever it begins
            submit_run(run, runtime.rules)
            _record_unless_in_loop(run, runtime)
        driver.start()
    except BaseException as error:  # Ctrl-C
        if not run.is_set():
            _end_by(run, runtime, error)
        raise


def _driver_of(run: TaskRun, runtime: Runtime, flow_run: FlowRun | None) -> LoopRun | ParkedRun:
    if run.options.is_async:
        return LoopRun(run, runtime, _loop_of(flow_run, runtime))
    runner = runtime.default_task_runner if flow_run is None else flow_run.task_runner
    return ParkedRun(run, runtime, runtime.workers_of(runner))


def _loop_of(flow_run: FlowRun | None, runtime: Runtime) -> LoopPort:
    """The loop that the async tasks of a flow run share; outside of flows, the one that runs."""
    own = current_port() if flow_run is None else flow_run.loop
    return own or runtime.async_loop.port


class LoopRun:
    """Drives a run in a task of its own of the loop behind a port.

    One object for what could be five closures: they would be most of what a submit allocates.
    """

    __slots__ = ("_cancel", "_context", "_is_cancelled", "_is_inside", "_port", "_runtime", "run")

    def __init__(self, run: Run, runtime: Runtime, port: LoopPort) -> None:
        self.run = run
        self._runtime = runtime
        self._port = port
        self._context = context_for(port.library)
        self._cancel: Callable[[], object] | None = None
        self._is_cancelled = False
        self._is_inside = False
        run.port = port
        run.driver = self

    def start(self) -> None:
        """Run beside the code that asks for it; from any thread."""
        if self._port.is_here():
            self._begin()
        elif not self._port.call_soon(self._begin):
            self._end()

    def _begin(self) -> None:
        if self.run.flow_run is None:  # nobody waits for it before the loop is closed
            self()
        else:
            self._port.turnstile.enter(self)

    def __call__(self) -> None:
        """Begin, in the loop's thread."""
        run = self.run
        self._is_inside = run.flow_run is not None
        if self._is_cancelled:
            self._end()
            return
        self._cancel = cancel = self._port.start(self._drive, self._context, self._end)
        if self._is_cancelled:  # by another thread, a moment ago
            cancel()

    def cancel(self) -> None:
        """See `Driver`."""
        self._is_cancelled = True
        cancel = self._cancel
        if cancel is not None:
            self._port.call_soon(cancel)

    def _leave_turnstile(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._port.turnstile.leave()

    async def _drive(self) -> None:
        self._leave_turnstile()
        try:
            await drive_async(self.run, self._runtime)
        except GeneratorExit:  # the coroutine is thrown away
            raise
        except BaseException as error:
            # On record already; whoever asks for the result gets it. The loop gets nothing but its
            # own cancellation, as anything else in one of its tasks would be taken for its trouble.
            cancelled, others = _split(error)
            if others is not None:
                self._runtime.log.ended_by(self.run, others)
            if cancelled is not None:
                raise cancelled from None

    def _end(self, _task: object = None) -> None:
        self._cancel = None  # it leads back to this
        try:
            if not self.run.is_set():  # cancelled before its first step, or the loop is closed
                error = RunCancelled("The run was cancelled before it began.")
                _end_by(self.run, self._runtime, error)
        finally:
            self._leave_turnstile()


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The part of it that is the loop's cancellation, and the part that is not."""
    kind = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(kind)
    return (error, None) if isinstance(error, kind) else (None, error)


async def run_on_worker(run: Run, runtime: Runtime) -> None:
    """Run sync code beside the loop, and wait for it; cancelled, it cancels the run."""
    workers: Workers = runtime.threads
    if isinstance(run, TaskRun):
        runner = runtime.default_task_runner if run.flow_run is None else run.flow_run.task_runner
        workers = runtime.workers_of(runner)
    ParkedRun(run, runtime, workers).start()
    try:
        await run.wait_async()
    except BaseException:
        run.cancel()
        with anyio.CancelScope(shield=True):
            await run.wait_async()
        raise


def run_on_engine_loop(run: Run, runtime: Runtime) -> None:
    """Run async code from sync code, and wait for it.

    Raises:
        WouldDeadlock: this thread is the one that the code needs.
        KeyboardInterrupt: after the end was recorded.
    """
    loop = runtime.async_loop
    if loop.is_current():
        raise WouldDeadlock(
            f"{run.definition.name}.run_sync() would block the event loop that runs this code. "
            f"Use `await {run.definition.name}(...)`."
        )
    LoopRun(run, runtime, loop.port).start()
    try:
        run.wait()
    except BaseException:
        run.cancel()
        run.wait()
        raise
