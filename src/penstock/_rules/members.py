"""The members of a flow run: what was submitted or called under it."""

from __future__ import annotations

import threading
from collections import Counter

from penstock._rules.run import Run
from penstock.states import (
    StateType,
)


class Passed:
    """What is kept of the runs that a flow run has let go of.

    Attributes:
        types: how many of them ended in which type of state.
        error: what the first one that failed has raised.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.types: Counter[StateType] = Counter()
        self.error: BaseException | None = None

    def add(self, run: Run) -> None:
        """Take account of a run that has ended; from any thread."""
        with self._lock:
            self.types[run.history[-1].type] += 1
            if self.error is None:
                self.error = run.error
