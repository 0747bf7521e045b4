"""Drives a run to its end in a task of an event loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any

import anyio

from penstock._drivers.bookkeeping import (
    BIRTH_SECONDS,
    abort,
    answer_at_once,
    steps_of,
    unborn_members,
)
from penstock._drivers.calls import await_as, call_as
from penstock._engine.engine import Engine
from penstock._rules.current import current_run
from penstock._rules.effects import (
    DONE,
    AcquireWorker,
    CallHook,
    Commit,
    DeadlinePassed,
    Effect,
    Error,
    Evaluate,
    Interrupted,
    Invoke,
    Join,
    Outcome,
    Sleep,
    Value,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Run
from penstock._waiting.latch import Latch
from penstock._waiting.loops import current_port


async def drive_async(run: Run, engine: Engine) -> None:
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
        interruption = await _take_steps_async(run, engine)
    except BaseException as error:
        if not run.history or not run.is_final(len(run.history)):
            abort(run, engine, error)
        raise
    finally:
        engine.finish(run)
    if interruption is not None:
        raise interruption


async def _take_steps_async(run: Run, engine: Engine) -> BaseException | None:
    """Drive the rules to their end; what interrupted them."""
    steps = steps_of(run, engine)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            effect = None
        if type(effect) is AcquireWorker:
            outcome = DONE
            continue
        engine.record(run)
        if engine.store.is_full:
            await _room_made(engine)
        if effect is None:
            return interruption
        if type(effect) is Invoke:
            outcome = await _invoke_async(run, engine)
        else:
            outcome = await _answer_async(effect, run, engine)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


async def _room_made(engine: Engine) -> None:
    room = engine.store.room()
    if room is not None:
        await shielded(room)


async def _answer_async(effect: Effect, run: Run, engine: Engine) -> Outcome:
    if type(effect) is Evaluate:
        return call_as(run, effect.call)
    if type(effect) is CallHook:
        return await _call_hook_async(effect, run)
    if type(effect) is Sleep:
        return await _cancellable(run, partial(_sleep_async, effect, engine))
    if type(effect) is WaitFor:
        return await _cancellable(run, partial(_wait_for_async, effect))
    if type(effect) is Join:
        assert isinstance(run, FlowRun), "only flows join"
        return await _join_async(run, effect, engine)
    if type(effect) is Commit:
        run.driver = None  # what is being written cannot be taken back
        await shielded(engine.commit())
        engine.store.check()
        return DONE
    return answer_at_once(effect, run, engine)


async def _call_hook_async(effect: CallHook, run: Run) -> Outcome:
    """Call a hook, and await an async one here, even where the run was cancelled."""
    outcome = call_as(run, effect.call)
    if type(outcome) is Value and isawaitable(outcome.value):
        with anyio.CancelScope(shield=True):
            return await await_as(run, outcome.value)
    return outcome


async def _invoke_async(run: Run, engine: Engine) -> Outcome:
    """Await the run's function, within its time."""
    seconds = run.options.timeout_seconds
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        if isinstance(run, FlowRun):
            outcome: Outcome = await _unless_stopped(run, partial(_in_time, run, seconds, engine))
        elif seconds is None:
            outcome = Value(await run.options.fn(*run.args, **run.kwargs))
        else:
            outcome = await _in_time(run, seconds, engine)
    except GeneratorExit:  # the coroutine is thrown away, wherever that happens
        raise
    except Exception as error:
        outcome = Error(error)
    except BaseException as error:
        outcome = Interrupted(error)
    current_run.reset(token)
    return outcome


async def _in_time(run: Run, seconds: float | None, engine: Engine) -> Outcome:
    if seconds is None:
        return Value(await run.options.fn(*run.args, **run.kwargs))
    with engine.clock.move_on_after(seconds):
        return Value(await run.options.fn(*run.args, **run.kwargs))
    return DeadlinePassed()


async def _unless_stopped(run: FlowRun, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Await this as long as nobody stops the flow run."""
    port, stopping = run.port, run.stopping
    assert port is not None, "it runs in a loop"
    with anyio.CancelScope() as scope:

        def stop() -> None:
            port.call_soon(scope.cancel)

        stopping.add_callback(stop)
        try:
            return await work()
        finally:
            stopping.discard_callback(stop)
    return Interrupted()


async def _cancellable(run: Run, wait: Callable[[], Awaitable[Outcome]]) -> Outcome:
    try:
        return await (_unless_stopped(run, wait) if isinstance(run, FlowRun) else wait())
    except (Exception, GeneratorExit):
        raise
    except BaseException as cancelled:
        return Interrupted(cancelled)


async def _sleep_async(effect: Sleep, engine: Engine) -> Outcome:
    await engine.clock.sleep_async(effect.seconds)
    return DONE


async def _wait_for_async(effect: WaitFor) -> Outcome:
    for latch in effect.latches:
        await latch.wait_async()
    return DONE


async def shielded(latch: Latch) -> None:
    with anyio.CancelScope(shield=True):
        await latch.wait_async()


async def _join_async(run: FlowRun, effect: Join, engine: Engine) -> Outcome:
    if effect.cancel:
        run.cancel_members()
        with anyio.CancelScope(shield=True):
            await _disown_stillborn(run)
            return await _wait_for_members(run)
    if effect.seconds is None:
        return await _cancellable(run, partial(_wait_for_members, run))
    return await _cancellable(run, partial(_join_in_time, run, effect.seconds, engine))


async def _disown_stillborn(run: FlowRun) -> None:
    """As in a thread: in trio's loop, Ctrl-C may come between any two lines of the user's code."""
    ends_at = time.monotonic() + BIRTH_SECONDS
    while stillborn := unborn_members(run):
        if time.monotonic() > ends_at:
            run.disown(stillborn)
            return
        await anyio.sleep(BIRTH_SECONDS / 10)


async def _join_in_time(run: FlowRun, seconds: float, engine: Engine) -> Outcome:
    with engine.clock.move_on_after(seconds):
        return await _wait_for_members(run)
    return DeadlinePassed()


async def _wait_for_members(run: FlowRun) -> Outcome:
    while unfinished := run.unfinished_members():
        for member in unfinished:
            await member.wait_async()
    return DONE
