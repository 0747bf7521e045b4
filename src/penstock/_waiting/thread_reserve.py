"""How a thread is started, even where the interpreter starts none any more.

CPython 3.12 refuses to start a thread once the main thread has ended, and what a script has
submitted goes on then: runs wait for workers, for the loop of async code and for slots. So on 3.12
a few threads are started with the engine, and wait in reserve until no other can be had.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from typing_extensions import override

_STARTS_NONE_AT_THE_END: Final = sys.version_info[:2] == (3, 12)
_COUNT: Final = 8


class _Spare(threading.Thread):
    """A daemon thread that waits until it is given its one call."""

    def __init__(self) -> None:
        super().__init__(name="penstock-spare", daemon=True)
        self._gate = threading.Lock()
        self._gate.acquire()
        self._call: Callable[[], object] | None = None

    def give(self, call: Callable[[], object], name: str) -> None:
        self.name = name
        self._call = call
        self._gate.release()

    @override
    def run(self) -> None:
        self._gate.acquire()
        call, self._call = self._call, None
        if call is not None:
            call()


_spares: deque[_Spare] = deque()
"""Those in reserve. No lock: to take one is a single step, so each is given one call at most."""


def start_thread(call: Callable[[], object], name: str) -> threading.Thread:
    """Call `call` in a daemon thread of its own; from any thread.

    Raises:
        RuntimeError: no thread can be started any more, and none is left in reserve.
    """
    thread = threading.Thread(target=call, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        spare = _taken_spare()
        if spare is None:
            raise
        spare.give(call, name)
        return spare
    return thread


def start_from_reserve(call: Callable[[], object], name: str) -> bool:
    """Call `call` in a thread of the reserve, where another could not be started.

    Gives whether there was one.
    """
    spare = _taken_spare()
    if spare is not None:
        spare.give(call, name)
    return spare is not None


def _taken_spare() -> _Spare | None:
    try:
        return _spares.pop()
    except IndexError:
        return None


def fill_reserve() -> None:
    """Have threads in reserve from now on, where the interpreter may refuse to start one."""
    if _STARTS_NONE_AT_THE_END:
        add_spares(_COUNT - len(_spares))


def add_spares(count: int) -> None:
    """Put so many threads more in reserve; fewer, where no more can be started."""
    with suppress(RuntimeError):
        for _ in range(count):
            spare = _Spare()
            spare.start()
            _spares.append(spare)


def forget_reserve() -> None:
    """Have none, as in a forked child, which has none of these threads."""
    _spares.clear()
