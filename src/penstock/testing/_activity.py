"""The activity of an engine in a test: once it is idle, only a change of the time lets it go on.

A thread is idle while it waits for a latch that is not set. A loop is idle while none of its tasks
can go on. Work that is queued is about to begin, unless its pool is full. What is not seen is a
thread that the test has started itself, and what a loop waits for outside: a socket, a timer of its
own, another thread.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from typing_extensions import override

from penstock._waiting.latch import Latch, Observer
from penstock._waiting.loops import LoopPort
from penstock._waiting.workers import Workers
from penstock.testing._questions import Question, question_to

_LOOK_SECONDS = 0.002
_ANSWER_SECONDS = 0.1
_NOT_OF_THE_TEST = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"))


class Pool(Workers):
    """Workers, and how much of their work has begun.

    Attributes:
        queued: pieces of work that have not begun.
        at_work: workers that are at work; one that waits for a run may have been released.
    """

    def __init__(self, workers: Workers, activity: Activity) -> None:
        self._workers = workers
        self._activity = activity
        self.queued: int = 0
        self.at_work: int = 0

    @property
    def is_full(self) -> bool:
        """Whether what is queued has to wait for what is at work."""
        limit = self.limit
        return limit is not None and self.at_work >= limit

    @property
    @override
    def limit(self) -> int | None:
        return self._workers.limit

    @override
    def run_soon(self, work: Callable[[], None], /) -> None:
        with self._activity.changing():
            self.queued += 1
        self._workers.run_soon(partial(self._activity.work, self, work))

    @override
    def run_left_over(self, *, newest: bool) -> bool:
        return self._workers.run_left_over(newest=newest)

    @override
    def close(self) -> None:
        self._workers.close()


class _Wait(NamedTuple):
    """What a thread waits for; `released` is the pool that lets others work in its stead."""

    latch: Latch
    released: Pool | None

    @property
    def is_idle(self) -> bool:
        return not self.latch.is_set() or (self.released is not None and self.released.is_full)


class _Loop:
    """A loop of the engine; `thread` is the one that runs it, once that is known."""

    def __init__(self, port: LoopPort) -> None:
        self.port = port
        self.thread: int | None = None


class Activity(Observer):
    """Which threads and loops work for the engine of a test, and which of them wait.

    Attributes:
        changes: how much has happened so far; while it stays the same, no thread has done anything.
        progress: how much of that has brought a run further; to wait again and again does not.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.changes: int = 0
        self.progress: int = 0
        self._pools: list[Pool] = []
        self._at_work: dict[int, Pool | None] = {}
        self._waits: dict[int, _Wait] = {}
        self._loops: dict[object, _Loop] = {}
        self._expected = 0

    @contextmanager
    def changing(self, is_progress: bool = True) -> Generator[None]:
        """Something happens while inside."""
        with self._changed:
            yield
            self.changes += 1
            self.progress += is_progress
            self._changed.notify_all()

    def wait_for_change(self, since: int, seconds: float | None = None) -> None:
        """Block until more than `since` has happened; for `seconds` at most."""
        with self._changed:
            self._changed.wait_for(lambda: self.changes != since, seconds)

    # What belongs to it

    @contextmanager
    def taking_part(self) -> Generator[None]:
        """This thread belongs to it while inside: it is at work unless it waits."""
        ident = threading.get_ident()
        with self.changing():
            self._at_work[ident] = None
        try:
            yield
        finally:
            with self.changing():
                self._at_work.pop(ident, None)

    def add_pool(self, workers: Workers) -> Pool:
        """These workers belong to it, if they are called through what this returns."""
        pool = Pool(workers, self)
        with self.changing():
            self._pools.append(pool)
        return pool

    def work(self, pool: Pool, work: Callable[[], None]) -> None:
        """Do a piece of work, in a thread of the pool."""
        ident = threading.get_ident()
        with self.changing():
            pool.queued -= 1
            pool.at_work += 1
            self._at_work[ident] = pool
        try:
            work()
        finally:
            with self.changing():
                pool.at_work -= 1
                self._at_work.pop(ident, None)

    def add_loop(self, port: LoopPort) -> None:
        """The loop behind the port belongs to it."""
        if port.key not in self._loops:
            with self.changing():
                self._loops[port.key] = _Loop(port)

    def note_loop(self, port: LoopPort) -> None:
        """The loop belongs to it, and this thread runs it."""
        self.add_loop(port)
        loop, ident = self._loops[port.key], threading.get_ident()
        if loop.thread != ident:
            with self.changing():
                loop.thread = ident

    # What waits

    @override
    @contextmanager
    def waiting(self, latch: Latch, releases_worker: bool) -> Generator[None]:
        ident = threading.get_ident()
        with self.changing(is_progress=False):
            released = self._at_work.get(ident) if releases_worker else None
            if released is not None:
                released.at_work -= 1
            self._waits[ident] = _Wait(latch, released)
        try:
            yield
        finally:
            with self.changing(is_progress=False):
                del self._waits[ident]
                if released is not None:
                    released.at_work += 1

    @override
    def awaiting(self, port: LoopPort) -> None:
        self.note_loop(port)

    @override
    def expecting(self, latch: Latch) -> None:
        with self.changing():
            self._expected += 1
        # Once it is set, those that wait for it are called first.
        latch.add_callback(lambda: latch.add_callback(self._note_expected))

    def _note_expected(self) -> None:
        with self.changing():
            self._expected -= 1

    # Whether it is idle

    def is_idle(self) -> bool:
        """Whether nothing can go on; it holds the loops for a moment, and gives up after 0.1 s."""
        with self._changed:
            changes = self.changes
            asked = [(loop, question_to(loop.port)) for loop in self._loops.values()]
        # A loop that shows what it was sent while it is held can be held before the others.
        asked.sort(key=lambda pair: not pair[1].shows_what_came)
        ends_at = time.monotonic() + _ANSWER_SECONDS
        try:
            for loop, question in asked:
                question.ask()
                while not self._has_answered(loop, question, _LOOK_SECONDS):
                    if self.changes != changes or time.monotonic() > ends_at:
                        return False
            with self._changed:
                return self.changes == changes and self._is_all_idle(asked)
        finally:
            for _, question in asked:
                question.close()

    def may_be_idle(self) -> bool:
        """Whether all threads are, but for those that run a loop; it asks nobody."""
        with self._changed:
            return self._threads_are_idle({loop.thread for loop in self._loops.values()})

    def _has_answered(self, loop: _Loop, question: Question, seconds: float) -> bool:
        """Whether it is held, does not run, or has a thread that waits itself."""
        return (
            question.is_quiet(seconds)
            or question.is_unanswerable()
            or self._is_idle(loop.thread, ())
        )

    def _is_all_idle(self, asked: Collection[tuple[_Loop, Question]]) -> bool:
        held = {loop.thread for loop, question in asked if question.is_quiet()}
        answered = all(self._has_answered(loop, question, 0) for loop, question in asked)
        return answered and self._threads_are_idle(held)

    def _threads_are_idle(self, held: Collection[int | None]) -> bool:
        """Whether nothing is about to happen, and all at work wait or run a loop that is held."""
        return (
            not self._expected
            and all(not pool.queued or pool.is_full for pool in self._pools)
            and all(self._is_idle(thread, held) for thread in self._at_work)
        )

    def _is_idle(self, thread: int | None, held: Collection[int | None]) -> bool:
        wait = self._waits.get(thread or 0)
        return thread in held if wait is None else wait.is_idle

    def threads_at_work(self) -> Iterator[str]:
        """The threads that neither wait nor run a loop, and where their code is."""
        with self._changed:
            loops = {loop.thread for loop in self._loops.values()}
            busy = [thread for thread in self._at_work if not self._is_idle(thread, loops)]
        frames = sys._current_frames()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for thread in busy:
            if thread in frames:
                yield f"The thread {names.get(thread)!r} is at {_position_of(frames[thread])}."


def _position_of(frame: FrameType) -> str:
    """Where a thread is: in the code of the test, if any of it is there."""
    stack = traceback.extract_stack(frame)
    own = [entry for entry in stack if not entry.filename.startswith(_NOT_OF_THE_TEST)]
    entry = (own or stack)[-1]
    return f"{entry.filename}:{entry.lineno}, in {entry.name}: {entry.line}"
