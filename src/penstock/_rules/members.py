"""The members of a flow run: what was submitted or called under it, and has to be joined."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from typing import Final, TypeAlias

from penstock._rules.run import Run
from penstock.states import StateType

STARTING_SECONDS: Final = 0.1
"""How long a run may take from its admission until it is driven, where its flow must end."""
Position: TypeAlias = tuple[bytes, int, int]
"""The run that called, the definition of what it called, and how many it had called before."""


class Passed:
    """What is kept of the runs that a flow run has let go of.

    Attributes:
        types: how many of them ended in which type of state.
        error: what the first one that failed has raised.
    """

    __slots__ = ("error", "types")

    def __init__(self) -> None:
        self.types: Counter[StateType] = Counter()
        self.error: BaseException | None = None


class Members:
    """The runs that a flow run has to join, its own and those of its tasks.

    Only its methods change them, and under the lock, as runs are admitted, removed and let go of by
    any thread; what needs no lock says why beside it. The lock can be taken twice by one thread: a
    signal handler that cancels the flow run may come while the code below it admits a run. Readers
    have no lock: each makes a copy of a list or of a dict in one step of the interpreter, and what
    is admitted after that step had not been when it read.

    Attributes:
        earlier: those of attempts before that nobody has taken the position of.
        passed: what is known of those that it has let go of; None: it has let go of none.
        watched: those of which one that fails lets the flow run fail.
    """

    __slots__ = ("_kept", "_last_submitted", "_lock", "_passing", "earlier", "passed", "watched")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: list[Run] = []
        self._passing: dict[Run, None] = {}
        self.earlier: dict[Position, Run] = {}
        self._last_submitted: dict[bytes, Run] = {}
        self.passed: Passed | None = None
        self.watched: set[Run] = set()

    def all(self) -> tuple[Run, ...]:
        """All that it has not let go of: first those that it keeps, in order."""
        return (*self._kept, *tuple(self._passing))

    def unfinished(self) -> list[Run]:
        """Those that have not ended."""
        return [run for run in self.all() if not run.is_set()]

    def not_driven(self) -> list[Run]:
        """Those that have been admitted, and that nobody drives yet."""
        return [run for run in self.unfinished() if run.phase is None]

    def add(self, run: Run, passes: bool) -> None:
        """Add a member.

        Args:
            run: the member.
            passes: whether it can be let go of before the flow has ended.
        """
        with self._lock:
            if passes:
                self._passing[run] = None
            else:
                self._kept.append(run)

    def remove(self, runs: Collection[Run]) -> None:
        """Remove these members; nobody joins them."""
        with self._lock:
            self._kept = [run for run in self._kept if run not in runs]
            for run in runs:
                self._passing.pop(run, None)

    def let_go_of(self, run: Run, *, counts: bool) -> None:
        """Drop a run that passes, but for what a final state asks for, where it counts."""
        with self._lock:
            if run not in self._passing:
                return
            if counts:
                self.passed = self.passed or Passed()
                self.passed.types[run.history[-1].type] += 1
                if self.passed.error is None:
                    self.passed.error = run.error
            del self._passing[run]

    def clear(self) -> None:
        """The flow run has ended, and will not run again."""
        with self._lock:
            self._kept, self._passing, self.earlier, self._last_submitted = [], {}, {}, {}
            self.watched = set()

    # A flow run that fails with its first member

    def watch(self, run: Run) -> None:
        """Let the flow run fail where this member does."""
        with self._lock:
            self.watched.add(run)

    def unwatch(self, run: Run) -> bool:
        """Watch a member no longer; whether it was watched until now."""
        with self._lock:
            was_watched = run in self.watched
            self.watched.discard(run)
        return was_watched

    # The queue of a sequential task runner

    def follow(self, run: Run, parent_id: bytes) -> Run | None:
        """Put a run at the end of its parent's queue; the run that it comes after."""
        with self._lock:
            before = self._last_submitted.get(parent_id)
            self._last_submitted[parent_id] = run
        return before

    # Attempts

    def begin_again(self) -> None:
        """Make way for the members of another attempt, which may stand for those of this one."""
        with self._lock:
            self.earlier |= self._by_position()
            self._kept, self._last_submitted = [], {}

    def come_after(self, before: Members) -> None:
        """Stand for the members of a flow run in whose place this one is."""
        with before._lock:  # and none of its own: nobody else knows this flow run yet
            self.earlier = before.earlier | before._by_position()

    def take_earlier(self, run: Run) -> Run | None:
        """The run that was at this position in an attempt before; it is given once."""
        assert run.parent is not None, "a member was called by some code"
        position = (run.parent.run_id, run.definition.id, run.ordinal)
        return self.earlier.pop(position, None)  # in one step: of two threads, one gets it

    def _by_position(self) -> dict[Position, Run]:
        return {
            (run.parent.run_id, run.definition.id, run.ordinal): run
            for run in self._kept
            if run.parent is not None
        }
