"""Workers: threads that call what they are given; every pool of them has this port."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


class Workers(ABC):
    """Threads that call what they are given."""

    __slots__ = ()

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """How many of them may be at work at once; None: as many as there is work for."""

    @abstractmethod
    def run_soon(self, work: Callable[[], None], /) -> None:
        """Call `work` once, soon, in a worker's thread; from any thread."""

    @abstractmethod
    def run_left_over(self, *, newest: bool) -> bool:
        """Call one thing in this thread for which no worker can be started any more.

        Args:
            newest: what was left over last, and not what has waited longest.

        Returns:
            Whether there was one.
        """

    @abstractmethod
    def close(self) -> None:
        """Let threads end as soon as they are idle, and those that are at once; never waits.

        Nothing is lost: what comes later is still called, in a thread that ends after it.
        """
