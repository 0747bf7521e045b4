"""The runs that no flow joins are joined by the engine, before it is closed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from penstock._rules.run import Run

LOOK_SECONDS: Final = 0.05
"""Between two looks whether something is left that no worker can be started for."""
_CANCELLED_SECONDS = 5.0
"""How long cancelled runs may take to end: their hooks are called, and their flows end."""


class UnjoinedRuns:
    """What was submitted outside of flows and has not ended.

    It has no lock: adding to a set and discarding are single steps of the interpreter, and so is
    the copy over which `join` goes. A run that is added during that is found by its next look.
    """

    def __init__(self) -> None:
        self._runs: set[Run] = set()

    def add(self, run: Run) -> None:
        """Remember a run until it has ended."""
        self._runs.add(run)
        run.add_callback(partial(self._runs.discard, run))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def join(self, run_left_over: Callable[[], object], *, is_helped: bool) -> None:
        """Wait for them all, and for what they submit; Ctrl-C cancels them.

        Args:
            run_left_over: is called again and again, as at the interpreter's end no worker may be
                left to do their work.
            is_helped: another thread calls it, so that this one does only after Ctrl-C.
        """
        try:
            self._wait(_nothing if is_helped else run_left_over)
        except KeyboardInterrupt:
            for run in tuple(self._runs):
                run.cancel()
            self._wait(run_left_over, _CANCELLED_SECONDS)
            raise

    def _wait(self, run_left_over: Callable[[], object], seconds: float = math.inf) -> None:
        ends_at = time.monotonic() + seconds
        while runs := tuple(self._runs):
            for run in runs:
                while not run.wait(LOOK_SECONDS):
                    if time.monotonic() > ends_at:
                        return
                    run_left_over()


def _nothing() -> None: ...
