"""The port between the writer and a database: one connection, which has a thread of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from penstock._stores.writing.batches import Batch


class BatchTarget(ABC):
    """Where batches are written; `open`, `call` and `close` are awaited in the engine's loop."""

    @abstractmethod
    async def open(self) -> None:
        """Open the connection, whose thread is a daemon: the end of a script waits for no other."""

    @abstractmethod
    async def call(self, function: Callable[[], None]) -> None:
        """Call `function` in the connection's thread, after all that it was given before."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction; in the connection's thread.

        Raises:
            StoreError: it cannot be written, however often it was tried.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connection and end its thread."""
