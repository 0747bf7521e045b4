"""Readers of a file: one for sync code and one for async code, with the same reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from typing_extensions import Unpack

from penstock._model.records import FlowRunRecord, Graph, TaskRunRecord
from penstock._stores.reading.conditions import FlowRunConditions, TaskRunConditions
from penstock._stores.reading.reads import Reads
from penstock._waiting.asyncio_calls import AsyncioCalls
from penstock.exceptions import UsageError
from penstock.pictures import Picture

T = TypeVar("T")


class RunFile(ABC):
    """A file with runs, which is read and never written.

    Attributes:
        path: where it is.
    """

    path: Path

    @abstractmethod
    def read(self, call: Callable[[Reads], T]) -> T:
        """What `call` makes of the file as it is at one moment; it may be called more than once.

        Raises:
            StoreError: the file cannot be read.
        """

    @abstractmethod
    async def read_async(self, call: Callable[[Reads], T]) -> T:
        """The same in a loop of asyncio, in which nothing is read."""


class Reader:
    """Reads a file of runs, in sync code; `history.open` makes it.

    Each call reads the file as it is then, and nothing of it is open between two calls. So threads
    may share a reader, and a forked child may use that of its parent. What has been read stays when
    the reader is closed, with the results of states.
    """

    def __init__(self, file: RunFile) -> None:
        self._file = file
        self._is_closed = False
        file.read(_look_at)

    @property
    def path(self) -> Path:
        """The file that it reads."""
        return self._file.path

    def flow_runs(self, **conditions: Unpack[FlowRunConditions]) -> list[FlowRunRecord]:
        """The flow runs that meet all the conditions, newest first."""
        return self._read(lambda reads: reads.flow_runs(**conditions))

    def task_runs(self, **conditions: Unpack[TaskRunConditions]) -> list[TaskRunRecord]:
        """The task runs that meet all the conditions, newest first."""
        return self._read(lambda reads: reads.task_runs(**conditions))

    def flow_run(self, run_id: UUID | str) -> FlowRunRecord | None:
        """The flow run with this id; None: there is none."""
        return self._read(lambda reads: reads.flow_run(run_id))

    def task_run(self, run_id: UUID | str) -> TaskRunRecord | None:
        """The task run with this id; None: there is none."""
        return self._read(lambda reads: reads.task_run(run_id))

    def graph(self, run: FlowRunRecord | UUID | str) -> Graph | None:
        """A flow run with all that it ran, at one moment; None: there is no such run."""
        return self._read(lambda reads: reads.graph(run))

    def picture(self, run: FlowRunRecord | UUID | str) -> Picture | None:
        """A flow run with all that it and its subflows ran, drawn; None: there is no such run."""
        return self._read(lambda reads: reads.picture(run))

    def _read(self, call: Callable[[Reads], T]) -> T:
        _refuse_closed(self._is_closed, "history.open()")
        return self._file.read(call)

    def close(self) -> None:
        """Read no more; the second time changes nothing."""
        self._is_closed = True

    def __enter__(self) -> Self:
        _refuse_closed(self._is_closed, "history.open()")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return _shown(self, self._is_closed)


class AsyncReader:
    """Reads a file of runs, in async code on asyncio and trio; `history.open_async` makes it.

    The event loop goes on while aiosqlite reads in a thread, in which the records are made, too.
    Each call reads the file as it is then, and nothing of it is open between two calls. So tasks,
    loops and threads may share a reader. A call that is cancelled ends at once, and the reader can
    be used as before. What has been read stays when the reader is closed. The results of states are
    read by plain calls: see the guide.
    """

    def __init__(self, file: RunFile) -> None:
        self._file = file
        self._is_closed = False
        self._calls = AsyncioCalls("penstock-reader")

    @property
    def path(self) -> Path:
        """The file that it reads."""
        return self._file.path

    async def flow_runs(self, **conditions: Unpack[FlowRunConditions]) -> list[FlowRunRecord]:
        """The flow runs that meet all the conditions, newest first."""
        return await self._read(lambda reads: reads.flow_runs(**conditions))

    async def task_runs(self, **conditions: Unpack[TaskRunConditions]) -> list[TaskRunRecord]:
        """The task runs that meet all the conditions, newest first."""
        return await self._read(lambda reads: reads.task_runs(**conditions))

    async def flow_run(self, run_id: UUID | str) -> FlowRunRecord | None:
        """The flow run with this id; None: there is none."""
        return await self._read(lambda reads: reads.flow_run(run_id))

    async def task_run(self, run_id: UUID | str) -> TaskRunRecord | None:
        """The task run with this id; None: there is none."""
        return await self._read(lambda reads: reads.task_run(run_id))

    async def graph(self, run: FlowRunRecord | UUID | str) -> Graph | None:
        """A flow run with all that it ran, at one moment; None: there is no such run."""
        return await self._read(lambda reads: reads.graph(run))

    async def picture(self, run: FlowRunRecord | UUID | str) -> Picture | None:
        """A flow run with all that it and its subflows ran, drawn; None: there is no such run."""
        return await self._read(lambda reads: reads.picture(run))

    async def _read(self, call: Callable[[Reads], T]) -> T:
        _refuse_closed(self._is_closed, "history.open_async()")
        return await self._calls.run(lambda: self._file.read_async(call))

    async def close(self) -> None:
        """Read no more; it waits for calls that were cancelled, and may be called again."""
        self._is_closed = True
        await self._calls.close()

    async def __aenter__(self) -> Self:
        try:
            await self._read(_look_at)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return _shown(self, self._is_closed)


def _look_at(_reads: Reads) -> None:
    """What cannot be read is refused before this is called."""


def _refuse_closed(is_closed: bool, opener: str) -> None:
    if is_closed:
        raise UsageError(f"This reader is closed. Open another one with {opener}.")


def _shown(reader: Reader | AsyncReader, is_closed: bool) -> str:
    closed = "closed " if is_closed else ""
    return f"<{closed}{type(reader).__name__} of {str(reader.path)!r}>"
