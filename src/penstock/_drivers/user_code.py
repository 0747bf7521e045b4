"""User code is called as the code of its run: in this thread, in time, or in a loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from datetime import UTC, datetime
from inspect import isawaitable
from threading import current_thread
from typing import Any, Final, TypeAlias

import anyio

from penstock._engine.engine import Engine
from penstock._rules.current_run import current_attempt, current_run
from penstock._rules.effects import CallHook, DeadlinePassed, Error, Interrupted, Outcome, Value
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Run
from penstock._waiting.free_threads import (
    AbandonedThread,
    abandon,
    abandoned_threads,
    has_come_back,
)
from penstock._waiting.latch import Latch
from penstock._waiting.loops import context_for

Keywords: TypeAlias = Mapping[str, Any]
NO_KEYWORDS: Final[Keywords] = {}


def capture(
    run: Run, call: Callable[..., object], args: Sequence[Any] = (), kwargs: Keywords = NO_KEYWORDS
) -> Outcome:
    """Call sync code of the user's in this thread, as code of the run; what came of it."""
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        return Value(call(*args, **kwargs))
    except Exception as error:
        return Error(error)
    except BaseException as error:
        return Interrupted(error)
    finally:
        current_run.reset(token)


async def capture_async(
    run: Run,
    call: Callable[..., Awaitable[object]],
    args: Sequence[Any] = (),
    kwargs: Keywords = NO_KEYWORDS,
) -> Outcome:
    """Call async code of the user's and await it here, as code of the run; what came of it."""
    token = current_run.set(run)  # type: ignore[arg-type]  # there are two kinds of run
    try:
        outcome: Outcome = Value(await call(*args, **kwargs))
    except GeneratorExit:  # the coroutine is thrown away, wherever that happens
        raise
    except Exception as error:
        outcome = Error(error)
    except BaseException as error:
        outcome = Interrupted(error)
    current_run.reset(token)
    return outcome


def capture_of_attempt(run: Run, call: Callable[[], object]) -> Outcome:
    """`capture` of code that may be left to itself, by a timeout or a cancellation.

    It has the number of its attempt with it, so its flow run can refuse what it still calls.
    """
    if not isinstance(run, FlowRun):
        return capture(run, call)
    token = current_attempt.set((run, run.attempt))
    try:
        return capture(run, call)
    finally:
        current_attempt.reset(token)


def call_in_time(run: Run, call: Callable[[], object], engine: Engine) -> Outcome:
    """Call sync code in a thread that can be left to itself when its time is up.

    Code in a thread cannot be stopped; so it is not waited for.
    """
    seconds = run.options.timeout_seconds
    assert seconds is not None, "asked for only where there is a time limit"
    answers: list[Outcome] = []
    answered = Latch()
    context = context_for(None)
    names: list[str] = []

    def work() -> None:
        names.append(current_thread().name)
        answers.append(context.run(capture_of_attempt, run, call))
        answered.set()
        has_come_back(answered)

    engine.threads.run_soon(work)
    if engine.clock.wait_for(answered, seconds):
        return answers[0]
    since = datetime.fromtimestamp(engine.clock.now(), UTC)
    abandon(answered, AbandonedThread(run.name, "".join(names), since))
    if answered.is_set():  # in this very moment
        has_come_back(answered)
    else:
        engine.log.abandoned(run, seconds, len(abandoned_threads()))
    return DeadlinePassed()


def run_in(context: Context, call: Callable[..., Outcome], *args: Any) -> Outcome:
    try:
        return context.run(call, *args)
    except RuntimeError as error:
        if "is already entered" not in str(error):
            raise
    # What was left to itself, by a timeout or a cancellation, is still inside.
    return context.copy().run(call, *args)


def call_hook(effect: CallHook, run: Run, engine: Engine) -> Outcome:
    """Call a hook in this thread, and wait for an async one."""
    outcome = capture_of_attempt(run, effect.call)
    if type(outcome) is Value and isawaitable(outcome.value):
        return _await_elsewhere(outcome.value, run, engine)
    return outcome


def _await_elsewhere(awaitable: Awaitable[object], run: Run, engine: Engine) -> Outcome:
    """Await it in the engine's loop for async code, while this thread waits."""
    answers: list[Outcome] = []
    answered = Latch()

    async def work() -> None:
        current_attempt.set(None)  # it may be that of code left to itself
        try:
            answers.append(await capture_async(run, lambda: awaitable))
        finally:
            answered.set()

    loop = engine.async_loop
    if loop.is_current():  # it cannot wait for itself
        context = context_for(None)
        engine.threads.run_soon(lambda: context.run(lambda: anyio.run(work)))
    elif not loop.spawn(work, context_for(loop.port.library)):
        return Interrupted()
    answered.wait()
    return answers[0] if answers else Interrupted()
