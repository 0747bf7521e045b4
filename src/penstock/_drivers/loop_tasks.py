"""Drives a run in a task of its own of some event loop, from any thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import anyio
from typing_extensions import override

from penstock._drivers.aborting import end_by
from penstock._drivers.in_loop import drive_async
from penstock._engine.engine import Engine
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Driver, Run
from penstock._waiting.loops import LoopPort, context_for
from penstock.exceptions import RunCancelled


class LoopRun(Driver):
    """Drives a run in a task of its own of the loop behind a port.

    One object for what could be five closures: they would be most of what a submit allocates.
    """

    __slots__ = ("_cancel", "_context", "_engine", "_is_cancelled", "_is_limited", "_port", "run")

    def __init__(self, run: Run, engine: Engine, port: LoopPort) -> None:
        self.run = run
        self._engine = engine
        self._port = port
        self._context = context_for(port.library)
        self._cancel: Callable[[], object] | None = None
        self._is_cancelled = False
        self._is_limited = False
        run.port = port
        run.driver = self

    def start(self) -> None:
        """Run beside the code that asks for it; from any thread."""
        if self._port.is_here():
            self._begin()
        elif not self._port.call_soon(self._begin):
            self._end()

    def end_unstarted(self, _error: BaseException) -> None:
        """End the cancelled run where `start` was kept from handing it to the loop."""
        if not self._port.call_soon(self._end_unbegun):
            self._end()

    def _end_unbegun(self) -> None:
        if self._cancel is None:
            self._end()

    def _begin(self) -> None:
        if self.run.flow_run is None:  # nobody waits for it before the loop is closed
            self()
        else:
            self._port.start_limiter.start(self)

    def __call__(self) -> None:
        """Begin, in the loop's thread."""
        run = self.run
        self._is_limited = run.flow_run is not None
        if self._is_cancelled:
            self._end()
            return
        self._cancel = cancel = self._port.start(self._drive, self._context, self._end)
        if self._is_cancelled and not isinstance(run, FlowRun):  # by another thread, a moment ago
            cancel()

    @override
    def cancel(self) -> None:
        if self._is_cancelled:  # twice, and the code's own cleaning up would be cancelled
            return
        self._is_cancelled = True
        cancel = self._cancel
        if cancel is not None and not isinstance(self.run, FlowRun):  # whose waits see it
            self._port.call_soon(cancel)

    def _note_begun(self) -> None:
        if self._is_limited:
            self._is_limited = False
            self._port.start_limiter.note_begun()

    async def _drive(self) -> None:
        self._note_begun()
        try:
            await drive_async(self.run, self._engine)
        except GeneratorExit:  # the coroutine is thrown away
            raise
        except BaseException as error:
            # On record already; whoever asks for the result gets it. The loop gets nothing but its
            # own cancellation, as anything else in one of its tasks would be taken for its trouble.
            cancelled, others = _split(error)
            if others is not None:
                self._engine.log.ended_by(self.run, others)
            if cancelled is not None:
                raise cancelled from None

    def _end(self, _task: object = None) -> None:
        self._cancel = None  # it leads back to this
        try:
            if not self.run.is_set():  # cancelled before its first step, or the loop is closed
                error = RunCancelled("The run was cancelled before it began.")
                end_by(self.run, self._engine, error)
        finally:
            self._note_begun()


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The part of it that is the loop's cancellation, and the part that is not."""
    kind = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(kind)
    return (error, None) if isinstance(error, kind) else (None, error)
