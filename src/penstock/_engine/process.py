"""The process that owns an engine: it is made by the first run, and closed when the process ends.

It is closed after all that was submitted has ended. In a forked child it is dropped and not closed,
as it is the parent's; the child's first run makes another one.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Final

from penstock._engine.engine import Engine
from penstock._model.ids import restart_ids
from penstock._model.settings import Settings, load_settings
from penstock._remote.pipes.guard import refuse_unguarded_script
from penstock._rules.current_run import current_run
from penstock._stores.reading.forks import pause_looks, resume_looks
from penstock._waiting.clock import Clock
from penstock._waiting.free_threads import forget_abandoned_threads
from penstock._waiting.latch import begin_anew_in_forked_child
from penstock._waiting.thread_reserve import forget_reserve
from penstock.exceptions import ConfigurationError


class Process:
    """The engine of this process.

    Attributes:
        engine: the present one; None: the next run makes one. It is read without the lock, as each
            run does: a run that finds an engine uses it, even if another thread replaces it in the
            same moment. Who closes or replaces one has to let the runs of other threads end before.
        settings: what engines are made from; None: from those of the environment.
        lock: held while the engine is made or replaced, and from before a fork until after it, so
            that no child is born while an engine is half made.
    """

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.settings: Settings | None = None
        self.lock = threading.RLock()  # a signal handler may ask while this thread makes it
        self._open: list[Engine] = []  # the present one is the last, and stands in for the others

    def make_engine(self, settings: Settings, clock: Clock | None = None) -> Engine:
        """Make an engine, under the lock, and use it from now on."""
        self.engine = Engine(settings, clock)
        self._open.append(self.engine)
        return self.engine

    def own_engine(self) -> Engine:
        """The present engine; made, where there is none."""
        with self.lock:
            if self.engine is not None:
                return self.engine
            refuse_unguarded_script()
            engine = self.make_engine(self.settings_of_next())
            _close_at_the_end_of_a_worker_process()
            return engine

    def settings_of_next(self) -> Settings:
        """What the next engine would be made from."""
        return self.settings or load_settings()

    def replace(self, engine: Engine, after: Engine | None) -> None:
        """Close an engine that is still in use, and use another one from there on.

        In a child that was forked meanwhile, both are the parent's, and nothing is done.
        """
        if engine.is_inherited:
            return
        try:
            engine.drain()
        finally:
            with self.lock:
                self.engine = after
                # `shutdown` may have closed it before, inside of the block that ends here.
                self._open = [one for one in self._open if one is not engine]
            engine.close()

    def before_fork(self) -> None:
        """Let nobody make an engine, and let those that are open close what cannot be forked."""
        self.lock.acquire()
        pause_looks()
        for engine in self._open:
            engine.pause()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        for engine in self._open:
            engine.resume()
        resume_looks()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Have no engine, and a lock that no thread of the parent holds."""
        for engine in self._open:
            engine.leave_to_parent()
        self._open = []
        self.engine = None
        self.lock = threading.RLock()


_process = Process()


# Forks

AFTER_FORK_IN_CHILD: Final[Sequence[Callable[[], None]]] = (
    restart_ids,
    begin_anew_in_forked_child,
    forget_reserve,
    forget_abandoned_threads,
    resume_looks,
    _process.after_fork_in_child,
)
"""What is set right in a forked child, from the lowest layer up: each may use those before it.

Nothing else in the package registers itself for forks. One kind of object finds out by itself, when
it is next used, that it is in a child: `AsyncioCalls`, of which each open reader has one.
"""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_process.before_fork, after_in_parent=_process.after_fork_in_parent)
    for _hook in AFTER_FORK_IN_CHILD:  # they are called in this order
        os.register_at_fork(after_in_child=_hook)


# The present engine


def get_engine() -> Engine:
    """The engine of this process; made, from the environment's settings, where there is none.

    Raises:
        ConfigurationError: a setting has an impossible value.
        UsageError: a worker process imports a script that runs something.
        StoreError: the database cannot be used.
    """
    engine = _process.engine
    if engine is not None:
        return engine
    stand_in = _stand_in.get()
    return _process.own_engine() if stand_in is None else stand_in.engine


def engine_of_process() -> Engine:
    """The same, even where another one stands in; for what reads the history.

    Raises:
        ConfigurationError: a setting has an impossible value.
        UsageError: a worker process imports a script that runs something.
        StoreError: the database cannot be used.
    """
    return _process.own_engine()


def present_engine() -> Engine | None:
    """The engine of this process, where there is one already."""
    return _process.engine


def settings_of_process() -> Settings:
    """The settings of the present engine, or those from which one would be made.

    Raises:
        ConfigurationError: a setting has an impossible value.
    """
    engine = _process.engine
    return _process.settings_of_next() if engine is None else engine.settings


class _StandIn:
    """An engine that is made when it is needed, and keeps nothing."""

    @cached_property
    def engine(self) -> Engine:
        return Engine(load_settings({"PENSTOCK_DATABASE_URL": "memory:"}))

    def close(self) -> None:
        if "engine" in vars(self):
            self.engine.close()


_stand_in: ContextVar[_StandIn | None] = ContextVar("_stand_in", default=None)


@contextmanager
def no_new_engine() -> Generator[None]:
    """Calls that come from here make no engine of the process; for those that record nothing."""
    stand_in = _StandIn()
    token = _stand_in.set(stand_in)
    try:
        yield
    finally:
        _stand_in.reset(token)
        stand_in.close()


# Its settings


def use_from_now_on(settings: Settings) -> None:
    """Have the engines that this process makes use these settings, and not the environment's."""
    _process.settings = settings


@contextmanager
def use_settings(settings: Settings, clock: Clock | None = None) -> Generator[Engine]:
    """An engine of its own for the whole process while inside; closed at the end.

    Raises:
        ConfigurationError: a run asks for it.
    """
    if current_run.get() is not None:
        raise ConfigurationError(
            "A run cannot change the engine that it runs on: enter temporary_settings(), or the "
            "engine of a test, before you call the flow."
        )
    with _process.lock:
        before, mine = _process.engine, _process.make_engine(settings, clock)
    try:
        yield mine
    finally:
        _process.replace(mine, before)


# The end


def drain_engine() -> None:
    """Wait for what was submitted outside of flows, where anything was."""
    if _process.engine is not None:
        _process.engine.drain()


def shutdown() -> None:
    """End the engine of this process, once all is on disk; the next run starts a new one.

    It waits for the tasks that were submitted outside of flows. Let the flows of other threads end
    before. There is no need to call it: it is called when the process ends.
    """
    engine = _process.engine
    if engine is not None:
        _process.replace(engine, None)


def _close_at_the_end_of_a_worker_process() -> None:
    """Processes that multiprocessing has started end without calling what atexit knows."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, shutdown, exitpriority=0)


atexit.register(shutdown)
