"""An engine for one test: of its own, in memory, and gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from operator import attrgetter
from pathlib import Path

from typing_extensions import Unpack

from penstock import history
from penstock._engine.process import use_settings
from penstock._model import checks
from penstock._model.records import FlowRunRecord, TaskRunRecord
from penstock._model.settings import PREFIX, SettingsChanges, changed, load_settings
from penstock.testing._clock import FakeClock

_UNTOUCHED = Path(tempfile.gettempdir(), "penstock-testing")
"""A home for settings: an engine in memory makes no file."""
_ALL = 2**31


class Engine:
    """The engine of a test.

    Attributes:
        clock: the clock that it lives by; None: that of the machine.
    """

    def __init__(self, clock: FakeClock | None) -> None:
        self.clock = clock

    def runs(self) -> list[FlowRunRecord | TaskRunRecord]:
        """All runs so far, of flows and of tasks, in the order in which they were submitted."""
        flow_runs, task_runs = history.flow_runs(limit=_ALL), history.task_runs(limit=_ALL)
        runs: list[FlowRunRecord | TaskRunRecord] = [*flow_runs, *task_runs]
        return sorted(runs, key=attrgetter("id"))


@contextmanager
def engine(
    clock: FakeClock | None = None, **settings: Unpack[SettingsChanges]
) -> Generator[Engine]:
    """An engine of its own for the whole process while inside.

    It keeps its runs in memory, and knows nothing of the user's files and environment. Inside,
    `penstock.history` reads its runs. At the end it waits for all that was submitted, and is gone.

    Args:
        clock: a clock to live by; None: that of the machine.
        settings: see `penstock.settings`; with `home=tmp_path` it keeps its runs in files there.

    Raises:
        ConfigurationError: a setting has an impossible value, the clock is none or another
            engine's, or a run calls this.
        TimeStoodStill: at the end: somebody waited for the clock, and its time could not go on.
    """
    if clock is not None:
        checks.instance(clock, FakeClock, "clock", "engine()", "a FakeClock")
    environ = {f"{PREFIX}HOME": str(_UNTOUCHED), f"{PREFIX}DATABASE_URL": "memory:"}
    chosen = changed(load_settings(environ), settings)
    with nullcontext() if clock is None else clock.running(), use_settings(chosen, clock):
        yield Engine(clock)
