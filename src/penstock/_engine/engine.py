"""The engine of a process: one store, one loop thread for it, and the workers.

It does what the drivers ask for, and decides nothing. Which engine is that of the process is said
by `process.py`.
"""

from __future__ import annotations

import importlib
import logging
import threading
import traceback
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from penstock._engine.cache import Cache
from penstock._engine.executors import start_executor
from penstock._engine.slot_broker import SlotBroker, SlotGrant
from penstock._engine.unjoined_runs import LOOK_SECONDS, UnjoinedRuns
from penstock._logs.run_log import RunLog
from penstock._model.settings import Settings, environment_of
from penstock._rules.flow_run import FlowRun
from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._stores.opening import open_store
from penstock._stores.port import Store
from penstock._stores.reading.results import Results
from penstock._waiting.clock import Clock, RealClock
from penstock._waiting.free_threads import FreeThreads, abandoned_threads
from penstock._waiting.latch import Latch, this_thread
from penstock._waiting.loops import LoopThread
from penstock._waiting.thread_reserve import fill_reserve, start_from_reserve
from penstock._waiting.worker_lanes import Lanes
from penstock._waiting.workers import Workers
from penstock.task_runners import ConcurrentTaskRunner, TaskRunner

if TYPE_CHECKING:
    from penstock._remote.executor import Executor

_NOTHING_TO_WAIT_FOR = Latch()
_NOTHING_TO_WAIT_FOR.set()


def _draw() -> float:
    """A random number that takes none from the program's own `random`, and is no parent's."""
    from random import SystemRandom  # imported where it is used, as few runs have jitter

    return SystemRandom().random()


class Engine:
    """What the drivers need to do what the rules ask for.

    Attributes:
        settings: where the history is kept, and how.
        is_inherited: this is a forked child, and the engine is its parent's: nothing is recorded.
        flow_runs: those that are under way, and perhaps some that have ended, by their ids.
        log: writes the log lines of runs.
        host: a loop in a thread of its own, for timers and the watching of workers; it runs none of
            the user's code.
        clock: the time that it lives in.
        store: where runs are kept.
        results: decodes what the store holds of results.
        cache: results by their keys, and the runs that compute them.
        slots: gets slots of limits from the store.
        threads: workers for what must not wait for one.
        rules: what the rules of runs know of the world.
        default_task_runner: where tasks go that are submitted outside of flows.

    Args:
        settings: where to keep the history, and how.
        clock: the time that it lives in; None: that of the machine.

    Raises:
        StoreError: the database cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        # anyio would load this in another thread, and a child forked meanwhile could never: a fork
        # waits until this engine is made.
        importlib.import_module("anyio._backends._asyncio")
        self.settings = settings
        self.is_inherited = False
        self.flow_runs: WeakValueDictionary[bytes, FlowRun] = WeakValueDictionary()
        self.log = RunLog(settings.logging_level)
        self.host = LoopThread("penstock-engine")
        fill_reserve()
        self.clock: Clock = clock or RealClock(self.host)
        self.store: Store = self._new_store()
        self.results = Results(self.store.load, self.store.payload_of)
        self.cache = Cache(self.store, self.results, self.clock.now, self.log)
        self.slots = SlotBroker(self.store.slots, self.clock.now, self.clock.call_later)
        if self.store.slots.limits():
            self.slots.start()
        self.threads: Workers = self.clock.watch_workers(FreeThreads())
        self.rules = self._new_rules()
        self.default_task_runner: TaskRunner = ConcurrentTaskRunner()
        self._async_loop: LoopThread | None = None
        self._workers: dict[TaskRunner, Workers] = {}
        self._executors: dict[TaskRunner, Executor] = {}
        self._unjoined = UnjoinedRuns()
        self._lock = threading.Lock()

    def _new_store(self) -> Store:
        try:
            return open_store(self.settings, self.host)
        except BaseException:
            self.host.stop()
            raise

    def _new_rules(self) -> Rulebook:
        return Rulebook(
            now=self.clock.now,
            warn=self.log.warn,
            strict=self.settings.durability == "strict",
            report=self.log.raised_beside,
            draw=_draw,
            missed=self.cache.note_miss,
        )

    # What happens to a run

    def record(self, run: Run) -> None:
        """Put the states on record that the run has entered since the last time; never waits."""
        history = run.history  # which a store may cut as soon as it has it
        since, length = run.recorded, len(history)
        if since >= length:  # a stored run has let go of its history
            return
        run.recorded = length
        if not self.is_inherited:
            self.store.record(run, length)
            try:
                self.log.entered(run, history[since:])
            except Exception:  # a handler's trouble is not the run's
                if logging.raiseExceptions:
                    traceback.print_exc()

    def commit(self) -> Latch:
        """Set when all that was recorded is durable."""
        return _NOTHING_TO_WAIT_FOR if self.is_inherited else self.store.barrier()

    def acquire_slots(self, tags: Sequence[str]) -> SlotGrant | None:
        """Ask for a slot of each limit that a tag names; None: there is no such limit."""
        if self.is_inherited:
            return None
        limits = self.store.slots.limits()
        names = [tag for tag in tags if tag in limits]
        return self.slots.ask(names) if names else None

    def release_slots(self, run: TaskRun) -> None:
        """Give back the slots of a run, if it has or wants any."""
        if run.slots is not None:
            run.slots.give_back()
            run.slots = None

    def finish(self, run: Run) -> None:
        """Let everybody know that the run has ended."""
        if isinstance(run, TaskRun):
            if run.slots is not None:  # its rules were aborted
                self.release_slots(run)
            if run.claimed_key is not None:
                self.cache.release(run)
        run.end()

    def keep(self, run: Run) -> None:
        """Remember a run that no flow joins, until it has ended."""
        self._unjoined.add(run)

    # Where code runs

    def workers_of(self, runner: TaskRunner) -> Workers:
        """The workers of a task runner; equal runners share them."""
        # Without the lock, as each submitted run asks: a dict is read in one step, nothing is ever
        # removed from it, and what is in it was complete before. Only who finds nothing takes the
        # lock, and looks again, as another thread may have been there first.
        workers = self._workers.get(runner)
        if workers is None:
            with self._lock:
                workers = self._workers.get(runner)
                if workers is None:
                    workers = self._start_workers(runner)
                    self._workers[runner] = workers
        return workers

    def _start_workers(self, runner: TaskRunner) -> Workers:
        limit = runner.max_threads or self.settings.task_runner_max_workers
        workers = self.clock.watch_workers(Lanes(self.host, limit))
        executor = start_executor(runner, environment_of(self.settings))
        if executor is not None:
            self._executors[runner] = executor
        return workers

    def executor_of(self, runner: TaskRunner) -> Executor | None:
        """What runs the code of its tasks outside of this process; None: its workers do.

        Known once `workers_of` was asked.
        """
        return self._executors.get(runner) if self._executors else None

    @property
    def async_loop(self) -> LoopThread:
        """Where async code runs that was started from sync code."""
        # As in `workers_of`: once it is set it stays, and it is set when it is complete.
        if self._async_loop is None:
            with self._lock:
                if self._async_loop is None:
                    loop = LoopThread("penstock-async")
                    self.clock.watch_loop(loop.port)
                    self._async_loop = loop
        return self._async_loop

    # Its end

    def drain(self) -> None:
        """Wait for what was submitted outside of flows, and for what that submits."""
        over = threading.Event()
        # Not this thread, where there is another one: code that runs in it would get its Ctrl-C.
        helps = partial(self._run_left_over_until, over)
        try:
            is_helped = bool(self._unjoined) and start_from_reserve(helps, "penstock-left-over")
            self._unjoined.join(self._run_left_over, is_helped=is_helped)
        finally:
            over.set()
            fill_reserve()

    def _run_left_over_until(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            self._run_left_over()

    def _run_left_over(self) -> None:
        """Do in this thread what no worker is left for, and while that waits, do more of it.

        What came last is done first then, as it is most likely what the wait is for.
        """
        before, this_thread.help = this_thread.help, partial(self._run_one_left_over, newest=True)
        try:
            while self._run_one_left_over(newest=False):
                pass
        finally:
            this_thread.help = before

    def _run_one_left_over(self, *, newest: bool) -> bool:
        pools = tuple(self._workers.values())
        return any(workers.run_left_over(newest=newest) for workers in pools)

    def close(self) -> None:
        """End the threads, and make everything durable.

        Raises:
            StoreError: something could not be written.
        """
        self.log.still_abandoned(abandoned_threads())
        if self._async_loop is not None:
            self._async_loop.stop()
        for executor in self._executors.values():
            executor.close()
        for workers in (*self._workers.values(), self.threads):
            workers.close()
        self.slots.close()
        try:
            self.store.close()
        finally:
            self.host.stop()

    # Across a fork

    def pause(self) -> None:
        """Before a fork: SQLite keeps locks in memory, so no connection may be open across it."""
        self.store.pause()

    def resume(self) -> None:
        """Go on in the parent."""
        self.store.resume()

    def leave_to_parent(self) -> None:
        """In the child: the threads are gone, and what they had to write is the parent's."""
        self.is_inherited = True
        self.store.leave_behind()
