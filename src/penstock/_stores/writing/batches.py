"""What waits to be written: items that add themselves to a batch, in the order in which they came.

The law: a batch is taken from the front of the queue and written in one transaction. What it says
of one run becomes one row, that of the run's last state in the batch.

Why: docs/inside/store.md, "A statement holds many rows".
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, TypeAlias

import msgspec

from penstock._model.rows import Source
from penstock._waiting.latch import Latch

RUNS_A_BATCH: Final = 2000


class QueueItem(Protocol):
    """What can be put into the queue.

    Items are Structs without garbage collection, as there are thousands of them: one is made in
    less time than a tuple, and the collector never looks at it.
    """

    def add_to(self, batch: Batch) -> None:
        """Become a part of what the batch writes."""
        ...


Queue: TypeAlias = deque[QueueItem]


class RunStates(msgspec.Struct, gc=False):
    """That a run has had so many states.

    Attributes:
        run: the run.
        length: how many states it has had.
    """

    run: Source
    length: int

    def add_to(self, batch: Batch) -> None:
        """Become the row of the run, in the place of what came before."""
        batch.latest[self.run] = self.length


class Barrier(msgspec.Struct, gc=False):
    """That somebody waits for all that came before.

    Attributes:
        latch: set when it is written.
    """

    latch: Latch

    def add_to(self, batch: Batch) -> None:
        """Be set after the batch has been written."""
        batch.barriers.append(self.latch)


class Batch:
    """What a transaction writes, and who waits for it.

    Attributes:
        latest: the runs, each where it came first, with the length that came last.
        ended: those of them that have ended.
        barriers: what is set when all this is written.

    Args:
        queue: what it is taken from, up to `RUNS_A_BATCH` runs.
    """

    def __init__(self, queue: Queue) -> None:
        self.latest: dict[Source, int] = {}
        self.barriers: list[Latch] = []
        take, latest = queue.popleft, self.latest
        try:
            while len(latest) < RUNS_A_BATCH:
                take().add_to(self)
        except IndexError:  # that was all
            pass
        self.ended: list[Source] = [run for run, length in latest.items() if run.is_final(length)]

    @property
    def cache_keys(self) -> list[str]:
        """The keys that it writes entries for."""
        return [run.cache_row.key for run in self.ended if run.cache_row is not None]

    def payload_bytes(self, at_least: int) -> int:
        """How many bytes the results have that have at least so many each."""
        payloads = (run.payload for run in self.ended)
        sizes = (len(payload) for payload in payloads if payload is not None)
        return sum(size for size in sizes if size >= at_least)
