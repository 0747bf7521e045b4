"""Drives a run to its end in a task of an event loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from inspect import isawaitable
from typing import Any, assert_never, cast

import anyio

from penstock._drivers.aborting import abort
from penstock._drivers.immediate import answer_at_once
from penstock._drivers.user_code import capture, capture_async
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
    Value,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun, as_flow_run
from penstock._rules.lifecycle import run_steps
from penstock._rules.members import STARTING_SECONDS
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
    steps = run_steps(run, engine.rules)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            effect = None
        # These come in most runs; to be compared with every other class first, in a coroutine more,
        # would be a tenth of what the run takes.
        if type(effect) is AcquireWorker:
            outcome = DONE
            continue
        engine.record(run)
        if engine.store.backlog.is_full:
            await _room_made(engine)
        if effect is None:
            return interruption
        if type(effect) is Invoke:
            outcome = await _invoke(effect, run, engine)
        elif type(effect) is Convert:
            outcome = capture(run, effect.call)
        else:
            outcome = await _answer(effect, run, engine)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


async def _room_made(engine: Engine) -> None:
    room = engine.store.room()
    if room is not None:
        with anyio.CancelScope(shield=True):
            await room.wait_async()


async def _answer(  # noqa: C901, PLR0911  # an answer for each effect
    effect: Effect, run: Run, engine: Engine
) -> Outcome:
    match effect:
        case Join():
            return await _wait(effect, run, partial(_join, effect, as_flow_run(run), engine))
        case Evaluate() | Convert():
            return capture(run, effect.call)
        case LookUp() | Claim() | AcquireSlots() | ReleaseSlots():
            return answer_at_once(effect, run, engine)
        case Invoke():
            return await _invoke(effect, run, engine)
        case WaitFor():
            return await _wait(effect, run, partial(_wait_for, effect.latches))
        case Sleep():
            return await _wait(effect, run, partial(_sleep, effect, engine))
        case CancelMembers():
            return await _wait(effect, run, partial(_cancel_members, as_flow_run(run)))
        case CallHook():
            return await _call_hook(effect, run)
        case Commit():
            return await _wait(effect, run, partial(_commit, run, engine))
        case AcquireWorker():
            return DONE
        case _:
            assert_never(effect)


async def _wait(effect: Effect, run: Run, wait: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Await this; what may come in between is said by the effect."""
    try:
        if effect.is_shielded:
            with anyio.CancelScope(shield=True):
                return await wait()
        return await (_unless_stopped(run, wait) if isinstance(run, FlowRun) else wait())
    except (Exception, GeneratorExit):
        raise
    except BaseException as interruption:
        if not effect.is_interruptible:
            raise
        return Interrupted(interruption)


async def _call_hook(effect: CallHook, run: Run) -> Outcome:
    """Call a hook, and await an async one here."""
    outcome = capture(run, effect.call)
    if type(outcome) is Value and isawaitable(outcome.value):
        awaitable = outcome.value
        return await _wait(effect, run, partial(capture_async, run, lambda: awaitable))
    return outcome


def _invoke(effect: Invoke, run: Run, engine: Engine) -> Awaitable[Outcome]:
    """Await the run's function."""
    if run.options.timeout_seconds is None and not isinstance(run, FlowRun):
        return capture_async(run, run.options.fn, run.args, run.kwargs)
    return _invoke_within(effect, run, engine)


async def _invoke_within(effect: Invoke, run: Run, engine: Engine) -> Outcome:
    """Await it within its time, and as long as nobody stops the flow run."""
    seconds = run.options.timeout_seconds
    within: Callable[[], Awaitable[Outcome]] = partial(_in_time, run.call(), seconds, engine)
    if isinstance(run, FlowRun) and not effect.is_shielded:
        within = partial(_unless_stopped, run, within)
    # What is raised by the user's code is captured outside of the scopes, which have to see it.
    outcome = await capture_async(run, within)
    return cast("Outcome", outcome.value) if type(outcome) is Value else outcome


async def _in_time(
    call: Callable[[], Awaitable[object]], seconds: float | None, engine: Engine
) -> Outcome:
    if seconds is None:
        return Value(await call())
    with engine.clock.move_on_after(seconds):
        return Value(await call())
    return DeadlinePassed()


async def _unless_stopped(run: FlowRun, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Await this as long as nobody stops the flow run."""
    port, stopping = run.port, run.stopping.latch
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


async def _sleep(effect: Sleep, engine: Engine) -> Outcome:
    await engine.clock.sleep_async(effect.seconds)
    return DONE


async def _wait_for(latches: Iterable[Latch]) -> Outcome:
    for latch in latches:
        await latch.wait_async()
    return DONE


async def _commit(run: Run, engine: Engine) -> Outcome:
    run.driver = None  # what is being written cannot be taken back
    await engine.commit().wait_async()
    engine.store.check()
    return DONE


async def _join(effect: Join, run: FlowRun, engine: Engine) -> Outcome:
    if effect.seconds is None:
        return await _wait_for_members(run)
    with engine.clock.move_on_after(effect.seconds):
        return await _wait_for_members(run)
    return DeadlinePassed()


async def _cancel_members(run: FlowRun) -> Outcome:
    run.cancel_members()
    await _remove_never_driven(run)
    return await _wait_for_members(run)


async def _remove_never_driven(run: FlowRun) -> None:
    """As in a thread: in trio's loop, Ctrl-C may come between any two lines of the user's code."""
    ends_at = time.monotonic() + STARTING_SECONDS
    while not_driven := run.members.not_driven():
        if time.monotonic() > ends_at:
            run.members.remove(not_driven)
            return
        await anyio.sleep(STARTING_SECONDS / 10)


async def _wait_for_members(run: FlowRun) -> Outcome:
    while unfinished := run.members.unfinished():
        await _wait_for(unfinished)
    return DONE
