"""The lock of a process, by which others see whether it lives.

The law: a process holds the lock of a file of its own for as long as it lives, and the operating
system takes the lock from it when it dies, however it dies. So no process has to say that it lives,
and no clock decides that one is dead; a process that is stopped is not.

Why: docs/inside/limits.md, "The system tells that a process has died".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from penstock._model.ids import new_id

if sys.platform == "win32":
    import msvcrt

    def _is_locked_by_me(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _is_locked_by_me(descriptor: int) -> bool:
        # Of the two kinds of lock, the one that belongs to the open file and not to the process:
        # so two stores of one process have a lock each.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class ProcessLock:
    """The lock that this process holds as long as it lives.

    Attributes:
        id: what the slots of the process are kept under.

    Args:
        folder: where the files are; made where there is none.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.id: bytes = new_id()
        self._path = _file_of(self.id, folder)
        folder.mkdir(exist_ok=True, mode=0o700)
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if not _is_locked_by_me(self._descriptor):
            raise OSError(f"{self._path} cannot be locked")

    def end(self) -> None:
        """Give the lock up."""
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def leave_behind(self) -> None:
        """Let the parent alone hold the lock; this process is its forked child."""
        os.close(self._descriptor)


def is_alive(process: bytes, folder: Path) -> bool:
    """Whether the process still runs; where it does not, its file is deleted."""
    path = _file_of(process, folder)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        has_died = _is_locked_by_me(descriptor)
    finally:
        os.close(descriptor)
    if has_died:
        path.unlink(missing_ok=True)
    return not has_died


def _file_of(process: bytes, folder: Path) -> Path:
    return folder / process.hex()
