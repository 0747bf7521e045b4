"""One worker process, as the pool sees it: nothing that is done with it waits for it.

A worker has two sockets. One carries the messages; the other asks for jobs back while the worker's
main thread is busy with the user's code, and cannot read the first.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import socket
import sys
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from multiprocessing import process
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

from penstock._remote.pipes.messages import (
    GIVE_BACK,
    Bytes,
    Message,
    MessageReader,
    StartUp,
    joined,
)

_CHUNK_BYTES = 1 << 18


class WorkerProcess:
    """A process that waits for jobs.

    Nothing here blocks but the constructor. The pool calls all of it under its lock, but for
    `receive` and `close`, which its own thread alone calls.

    Args:
        context: the way in which multiprocessing starts it.
        name: of the process.
        start_up: what it is told when it starts.

    Attributes:
        socket: where its messages can be read, and sent.
        is_broken: nothing can be sent any more, as it has ended.

    Raises:
        OSError: it cannot be started.
        RuntimeError: it cannot be started any more, as the interpreter ends.
    """

    def __init__(self, context: SpawnContext, name: str, start_up: StartUp) -> None:
        self.socket, theirs = socket.socketpair()
        self._control, their_control = socket.socketpair()
        self.is_broken = False
        self._reader = MessageReader()
        self._unsent: deque[memoryview] = deque()
        self._process = context.Process(
            target=_serve, args=(theirs, their_control, start_up), name=name
        )
        try:
            with _ctrl_c_held_back():
                self._process.start()
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            their_control.close()
        self.socket.setblocking(False)
        self._control.setblocking(False)
        _disown(self._process)

    @property
    def pid(self) -> int | None:
        """The number that the system has given the process."""
        return self._process.pid

    def send(self, parts: Sequence[Bytes]) -> bool:
        """Send what goes without waiting; False: some is left, for `flush`.

        To a process that has ended it sends nothing; its end shows when its socket is read.
        """
        if self._unsent:
            self._unsent.extend(joined(parts))
            return False
        self._unsent = joined(parts)
        return self.flush()

    def flush(self) -> bool:
        """Send more of what is left; False: some still is."""
        unsent = self._unsent
        try:
            while unsent:
                sent = self.socket.send(unsent[0])
                if sent < len(unsent[0]):
                    unsent[0] = unsent[0][sent:]
                else:
                    unsent.popleft()
        except BlockingIOError:
            return False
        except OSError:
            self.is_broken = True
            unsent.clear()
        return True

    def ask_back(self) -> None:
        """Ask for the jobs that it has not taken; it answers with `GIVEN_BACK`."""
        with contextlib.suppress(OSError):
            self._control.send(GIVE_BACK)

    def receive(self) -> list[Message] | None:
        """What it has said by now; None: it can say nothing more."""
        try:
            data = self.socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._reader.feed(data) if data else None

    def receive_rest(self) -> list[Message]:
        """All that a process has said that has ended."""
        messages: list[Message] = []
        with contextlib.suppress(OSError):
            while data := self.socket.recv(_CHUNK_BYTES):
                messages += self._reader.feed(data)
        return messages

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def has_ended(self) -> bool:
        """Whether the process has."""
        return not self._process.is_alive()

    def ending(self) -> str:
        """How it has ended, in words."""
        return _in_words(self._process.exitcode)

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        self._control.close()


def _in_words(exitcode: int | None) -> str:
    if exitcode is None:  # the application has made SIGCHLD its own
        return "has ended, it is not known how"
    if exitcode >= 0:
        return f"has exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = "; perhaps the system ran out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


@contextmanager
def _ctrl_c_held_back() -> Generator[None]:
    """A process started inside does not see Ctrl-C before it is able to ignore it."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # where that starts it, it lets signals through again
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _disown(started: BaseProcess) -> None:
    """Take it off the list by which multiprocessing ends and joins processes.

    At the end of the interpreter it would wait for a worker that waits for jobs; and in a child
    that the application forks it would complain that the worker is not that child's.
    """
    children: set[BaseProcess] = getattr(process, "_children", set())
    children.discard(started)


def _serve(messages: socket.socket, control: socket.socket, start_up: StartUp) -> None:
    """What the process runs; by name, as it is above all that the pool knows."""
    importlib.import_module("penstock._worker.program").serve(messages, control, start_up)
