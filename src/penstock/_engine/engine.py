"""The engine of a process: one store, one loop thread for it, and the workers.

It is made when the first run starts, thrown away (not closed) in a forked child, and closed when
the interpreter ends, after all that was submitted has ended.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from typing import Any
from weakref import WeakValueDictionary

from penstock._caching.explanations import ENTRIES_COMPARED, CacheExplanation, number_of_task
from penstock._caching.keys import CacheKey
from penstock._engine.slot_broker import SlotBroker, SlotRequest
from penstock._logs.run_log import RunLog
from penstock._model.ids import restart_ids
from penstock._model.payloads import any_type, decode_result, referenced_run
from penstock._model.rows import CacheHit
from penstock._model.settings import Settings, load_settings
from penstock._remote.pipes.guard import refuse_unguarded_script
from penstock._rules.current import current_run
from penstock._rules.flow_run import FlowRun
from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._stores.memory import MemoryStore
from penstock._stores.port import Store
from penstock._waiting.clock import Clock, RealClock
from penstock._waiting.latch import Latch, begin_anew_in_forked_child
from penstock._waiting.loops import LoopThread
from penstock._waiting.threads import FreeThreads, abandoned_threads, forget_abandoned_threads
from penstock._waiting.workers import Workers
from penstock.exceptions import ConfigurationError, ResultUnavailable, StoreError
from penstock.task_runners import ConcurrentTaskRunner, TaskRunner

_PATIENCE_SECONDS = 0.05
_FAREWELL_SECONDS = 5.0
_NOTHING_TO_WAIT_FOR = Latch()
_NOTHING_TO_WAIT_FOR.set()


def _draw() -> float:
    """A random number that takes none from the program's own `random`, and is no parent's."""
    from random import SystemRandom  # imported where it is used, as few runs have jitter

    return SystemRandom().random()


class Engine:
    """What the drivers need to do what the rules ask for.

    Attributes:
        left_behind: this is a forked child, and the runtime is its parent's.
        flow_runs: those that are on, and maybe some that have ended, by their ids.

    Args:
        settings: where to keep the history, and how.
        clock: the time that it lives in; None: that of the machine.

    Raises:
        StoreError: the database cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        # anyio would load this in another thread, and a child forked meanwhile could never: a fork
        # waits until this runtime is made.
        importlib.import_module("anyio._backends._asyncio")
        self.settings = settings
        self.left_behind = False
        self.flow_runs: WeakValueDictionary[bytes, FlowRun] = WeakValueDictionary()
        self.log = RunLog(settings.logging_level)
        self.host = LoopThread("penstock-engine")
        self.clock: Clock = clock or RealClock(self.host)
        self.store: Store = self._new_store()
        self.slots = SlotBroker(self.store.slots, self.clock.now, self.clock.call_later)
        if self.store.slots.limits():
            self.slots.start()
        self.threads: Workers = self.clock.watch_workers(FreeThreads())
        self.rules = Rulebook(
            self.clock.now,
            self.log.warn,
            settings.durability == "strict",
            self.log.raised_beside,
            _draw,
            self._missed,
        )
        self.default_task_runner: TaskRunner = ConcurrentTaskRunner()
        self._async_loop: LoopThread | None = None
        self._workers: dict[TaskRunner, Workers] = {}
        self._owners: dict[str, TaskRun] = {}
        self._loose: set[Run] = set()
        self._lock = threading.Lock()

    def _new_store(self) -> Store:
        path = self.settings.database_path()
        if path is None:
            return MemoryStore()
        from penstock._stores.sqlite.store import SqliteStore

        try:
            return SqliteStore(path, self.settings.local_storage_path, self.settings.synchronous)
        except BaseException:
            self.host.stop()
            raise

    # What the drivers ask for

    def record(self, run: Run) -> None:
        """Put the states on record that the run has entered since the last time; never waits."""
        history = run.history  # which a store may cut as soon as it has it
        since, length = run.recorded, len(history)
        if since >= length:  # a stored run has let go of its history
            return
        run.recorded = length
        if not self.left_behind:
            self.store.record(run, length)
            try:
                self.log.entered(run, history[since:])
            except Exception:  # a handler's trouble is not the run's
                if logging.raiseExceptions:
                    traceback.print_exc()

    def commit(self) -> Latch:
        """Set when all that was recorded is durable."""
        return _NOTHING_TO_WAIT_FOR if self.left_behind else self.store.barrier()

    def look_up(self, key: str, returned: Callable[[], Any]) -> CacheHit | None:
        """The result stored under a key; one that cannot be read back counts as none.

        Args:
            key: of the run that asks.
            returned: gives the type of its function's results.
        """
        found = self.store.look_up(key, self.clock.now())
        if found is None:
            return None
        try:
            return CacheHit(found.run_id, self.decode(found.payload, returned), found.expires_at)
        except ResultUnavailable as error:
            self.log.unreadable(key, error)
            return None

    # How the cache explains itself

    def explain(self, run: TaskRun) -> CacheExplanation:
        """Whether a run would be served from the cache; if not, why."""
        name = run.definition.name
        if not run.options.is_cached:
            return CacheExplanation.uncached(name, "it has no cache policy")
        if run.options.refresh_cache:
            return CacheExplanation.uncached(name, "refresh_cache has it computed anew")
        try:
            key = run.options.cache_key_of(run)
        except Exception as error:
            return CacheExplanation.uncached(name, f"its key cannot be made: {error!r}")
        if key is None:
            return CacheExplanation.uncached(name, "its policy gives this call no key")
        found = self.store.look_up(key.text, self.clock.now())
        if found is not None:
            return CacheExplanation.hit(name, key.text, found.run_id)
        return self._explain_miss(run, key)

    def _explain_miss(self, run: TaskRun, key: CacheKey) -> CacheExplanation:
        parts = key.parts()
        task = number_of_task(run.options.task_key)
        entries = self.store.entries_of(task, ENTRIES_COMPARED) if parts else ()
        return CacheExplanation.miss(run.definition.name, key.text, parts, entries)

    def _missed(self, run: TaskRun, key: CacheKey) -> None:
        """Log why, where anybody reads that; a run does not end because nobody can tell."""
        if not self.log.tells_of_misses:
            return
        try:
            explanation: object = self._explain_miss(run, key)
        except StoreError as error:
            explanation = f"Task '{run.definition.name}': miss; no more can be said: {error}"
        self.log.missed(run, explanation)

    def decode(self, payload: bytes, returned: Callable[[], Any] = any_type) -> object:
        """The value in a payload; raises `ResultUnavailable`."""
        source = referenced_run(payload)
        if source is not None:
            found = self.store.payload_of(source)
            if found is None:
                raise ResultUnavailable("The run that made the cached result is no longer stored.")
            payload = found
        return decode_result(payload, self.store.storage, returned)

    def claim(self, key: str, run: TaskRun) -> Latch | None:
        """Make `run` the owner of the key; or the run that already is."""
        owner = self._owners.setdefault(key, run)
        if owner is run:
            run.claimed_key = key
        # A run that its owner itself waits for must not wait for the owner.
        return None if owner is run or owner in _ancestors(run) else owner

    def occupy(self, tags: Sequence[str]) -> SlotRequest | None:
        """Ask for a slot of each limit that a tag names; None: there is no such limit."""
        if self.left_behind:
            return None
        limits = self.store.slots.limits()
        names = [tag for tag in tags if tag in limits]
        return self.slots.ask(names) if names else None

    def vacate(self, run: Run) -> None:
        """Give back the slots of a run."""
        if run.slots is not None:
            run.slots.give_back()
            run.slots = None

    def finish(self, run: Run) -> None:
        """Let everybody know that the run has ended."""
        if run.slots is not None:  # its rules were aborted
            self.vacate(run)
        if isinstance(run, TaskRun) and run.claimed_key is not None:
            self._owners.pop(run.claimed_key, None)
        run.end()

    def workers_of(self, runner: TaskRunner) -> Workers:
        """The workers of a task runner; equal runners share them."""
        workers = self._workers.get(runner)
        if workers is None:
            with self._lock:
                workers = self._workers.get(runner)
                if workers is None:
                    limit = self.settings.task_runner_max_workers
                    workers = self.clock.watch_workers(runner.start_workers(self.host, limit))
                    self._workers[runner] = workers
        return workers

    @property
    def async_loop(self) -> LoopThread:
        """Where async code runs that was started from sync code."""
        if self._async_loop is None:
            with self._lock:
                if self._async_loop is None:
                    loop = LoopThread("penstock-async")
                    self.clock.watch_loop(loop.port)
                    self._async_loop = loop
        return self._async_loop

    def keep(self, run: Run) -> None:
        """Remember a run that no flow joins, until it has ended."""
        self._loose.add(run)
        run.add_callback(partial(self._loose.discard, run))

    # Its own life

    def drain(self) -> None:
        """Wait for what was submitted outside of flows, and for what that submits."""
        try:
            self._wait_for_loose()
        except KeyboardInterrupt:
            for run in tuple(self._loose):
                run.cancel()
            self._wait_for_loose(_FAREWELL_SECONDS)  # their hooks are called, and their flows end
            raise

    def _wait_for_loose(self, seconds: float = math.inf) -> None:
        ends_at = time.monotonic() + seconds
        while runs := tuple(self._loose):
            for run in runs:
                while not run.wait(_PATIENCE_SECONDS):
                    if time.monotonic() > ends_at:
                        return
                    for workers in tuple(self._workers.values()):
                        workers.rescue()

    def close(self) -> None:
        """End the threads, and make everything durable.

        Raises:
            StoreError: something could not be written.
        """
        self.log.still_abandoned(abandoned_threads())
        if self._async_loop is not None:
            self._async_loop.stop()
        for workers in self._workers.values():
            workers.close()
        self.slots.close()
        try:
            self.store.close()
        finally:
            self.host.stop()


def _ancestors(run: Run) -> Iterator[Run]:
    parent = run.parent
    while parent is not None:
        yield parent
        parent = parent.parent


class _Process:
    """The runtime of this process, and the lock under which it is made.

    Attributes:
        settings: what it is made from; None: from the environment's.
    """

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.settings: Settings | None = None
        self.lock = threading.RLock()

    def before_fork(self) -> None:
        """SQLite's connections must not be open across a fork: it keeps locks in memory."""
        self.lock.acquire()  # nobody is opening the file either
        if self.engine is not None:
            self.engine.store.pause()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self.engine is not None:
            self.engine.store.resume()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """The threads are gone, and what they had to write is the parent's to write."""
        if self.engine is not None:
            self.engine.left_behind = True
            self.engine.store.leave_behind()
        self.engine = None
        self.lock = threading.RLock()


_process = _Process()


def _begin_in_forked_child() -> None:
    """What below the engine holds for one process alone first, as the engine uses it."""
    restart_ids()
    begin_anew_in_forked_child()
    forget_abandoned_threads()
    _process.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork,
        after_in_parent=_process.after_fork_in_parent,
        after_in_child=_begin_in_forked_child,
    )


def get_engine() -> Engine:
    """The runtime of this process; made, from the environment's settings, where there is none.

    Raises:
        ConfigurationError: a setting has an impossible value.
        UsageError: a worker process imports a script that runs something.
        StoreError: the database cannot be used.
    """
    engine = _process.engine
    if engine is not None:
        return engine
    stand_in = _stand_in.get()
    return engine_of_process() if stand_in is None else stand_in.engine


def engine_of_process() -> Engine:
    """The same, even where another one stands in; for what reads the history.

    Raises:
        ConfigurationError: a setting has an impossible value.
        UsageError: a worker process imports a script that runs something.
        StoreError: the database cannot be used.
    """
    with _process.lock:
        if _process.engine is None:
            refuse_unguarded_script()
            _process.engine = Engine(_process.settings or load_settings())
            _close_at_the_end_of_a_worker_process()
        return _process.engine


def _close_at_the_end_of_a_worker_process() -> None:
    """Processes that multiprocessing has started end without calling what atexit knows."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, close_engine, exitpriority=0)


def present_engine() -> Engine | None:
    """The runtime of this process, where there is one already."""
    return _process.engine


class _StandIn:
    """A runtime that is made when it is needed, and keeps nothing."""

    @cached_property
    def engine(self) -> Engine:
        return Engine(load_settings({"PENSTOCK_DATABASE_URL": "memory:"}))

    def close(self) -> None:
        if "engine" in vars(self):
            self.engine.close()


_stand_in: ContextVar[_StandIn | None] = ContextVar("_stand_in", default=None)


@contextmanager
def no_new_engine() -> Generator[None]:
    """Calls that come from here make no runtime of the process; for those that record nothing."""
    stand_in = _StandIn()
    token = _stand_in.set(stand_in)
    try:
        yield
    finally:
        _stand_in.reset(token)
        stand_in.close()


def use_from_now_on(settings: Settings) -> None:
    """Have the runtimes that this process makes use these, and not the environment's."""
    _process.settings = settings


@contextmanager
def use_settings(settings: Settings, clock: Clock | None = None) -> Generator[Engine]:
    """A runtime of its own for the whole process while inside; closed at the end.

    Raises:
        ConfigurationError: a run asks for it.
    """
    if current_run.get() is not None:
        raise ConfigurationError(
            "A run cannot change the engine that it runs on: enter temporary_settings(), or the "
            "engine of a test, before you call the flow."
        )
    with _process.lock:
        before, _process.engine = _process.engine, Engine(settings, clock)
        mine = _process.engine
    try:
        yield mine
    finally:
        _close(mine, before)


def drain_engine() -> None:
    """Wait for what was submitted outside of flows, where anything was."""
    if _process.engine is not None:
        _process.engine.drain()


def close_engine() -> None:
    """End the engine of this process, once all is on disk; the next run starts a new one.

    It waits for the tasks that were submitted outside of flows. Let the flows of other threads end
    before. There is no need to call it: it is called when the process ends.
    """
    engine = _process.engine
    if engine is not None:
        _close(engine, None)


def _close(engine: Engine, after: Engine | None) -> None:
    """Close a runtime that the process still uses, and use another one from there on."""
    try:
        engine.drain()
    finally:
        with _process.lock:
            _process.engine = after
        engine.close()


atexit.register(close_engine)
