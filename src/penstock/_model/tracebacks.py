"""Tracebacks without the frames of this library."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from penstock.exceptions import PenstockError

_LIBRARY = f"{Path(__file__).parents[1]}{os.sep}"


class RemoteTraceback(Exception):
    """The cause of an exception from another process: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def format_error(error: BaseException) -> str:
    """The traceback of an exception and its causes, as text."""
    report = traceback.TracebackException.from_exception(error)
    for one in _with_related(report):
        users = [frame for frame in one.stack if not frame.filename.startswith(_LIBRARY)]
        if users:
            one.stack = traceback.StackSummary.from_list(users)
        elif one is report and isinstance(error.__cause__, RemoteTraceback):
            return error.__cause__.text
        elif one is report and isinstance(error, PenstockError):
            # The message says everything; without a stack, `format` writes the message alone.
            one.stack = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]  # as above
    return "".join(report.format())


def format_without_cause(error: BaseException) -> str:
    """The type and the message of an exception."""
    kind = type(error)  # without the module `traceback`, which would also read the causes
    return f"{kind.__module__}.{kind.__qualname__}: {error}\n"


def _with_related(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """A report and those of all causes, contexts and members of groups."""
    yield report
    for related in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if related is not None:
            yield from _with_related(related)
