"""What a benchmark is: a case measures Penstock and its references on the same work.

Every side of a case runs in a process of its own, on a database of its own, and says how many rows
it must have left behind: the figures of a side whose rows are not there are not printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tests.benchmarks.samples import Sample, Side
from tests.benchmarks.works import WORKS


class Reference(NamedTuple):
    """What Penstock is held against.

    Attributes:
        name: as the table calls it.
        measure: the same work, done so.
        at_most: the goal: Penstock's figure by this one; None: there is none.
        divisor: the reference does the work for so many times fewer tasks.
    """

    name: str
    measure: Side
    at_most: float | None = None
    divisor: int = 1


class Case(Protocol):
    """A piece of work.

    Attributes:
        name: as `--only` takes it.
        what: one line for the table.
        count: tasks of a full run.
        quick_count: tasks of a quick run.
        unit: of all its values.
        limit: the goal for Penstock's own figure, in the unit; None: there is none.
        on_request: it takes minutes, or older versions cannot do it, so it is measured once, and
            only where `--only` names it.
        timeout_seconds: for one side.
    """

    name: str
    what: str
    count: int
    quick_count: int
    unit: str = "µs"
    limit: float | None = None
    on_request: bool = False
    timeout_seconds: float = 300

    def penstock(self, count: int, /) -> Sample:
        """Do the work with Penstock, and measure it."""
        return WORKS[self.name](count)

    def references(self) -> Sequence[Reference]:
        """What Penstock is held against, if anything."""
        return ()
