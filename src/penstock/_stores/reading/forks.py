"""No look at a file has a connection open while the process forks.

SQLite keeps the state of its locks in the memory of the process, so that a child would take the
locks of its parent for its own.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from weakref import WeakSet


class PausableLook(ABC):
    """A look at a file; one that a fork has interrupted is repeated."""

    @abstractmethod
    def pause(self) -> None:
        """Wait for the read, close the connection, and let nobody read until `resume`."""

    @abstractmethod
    def resume(self) -> None:
        """Let them go on, to find that the look has to be repeated."""


_looks: WeakSet[PausableLook] = WeakSet()
_registering = threading.Lock()
"""Held while a look is added, and from before a fork until after it."""
_paused: list[PausableLook] = []


def register_look(look: PausableLook) -> None:
    """Have it paused before each fork, before it opens anything."""
    with _registering:
        _looks.add(look)


def pause_looks() -> None:
    """Before a fork."""
    _registering.acquire()
    _paused.extend(_looks)
    for look in _paused:
        look.pause()


def resume_looks() -> None:
    """After a fork, in the parent and in the child: the thread is that of `pause_looks` in both."""
    for look in _paused:
        look.resume()
    _paused.clear()
    _registering.release()
