"""Tracebacks as the user wants them: without the frames of this library."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from penstock.exceptions import PenstockError

_LIBRARY = f"{Path(__file__).parents[1]}{os.sep}"


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: its traceback, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def format_error(error: BaseException) -> str:
    """What was raised, with its causes, as text."""
    report = traceback.TracebackException.from_exception(error)
    for part in _parts_of(report):
        users = [frame for frame in part.stack if not frame.filename.startswith(_LIBRARY)]
        if users:
            part.stack = traceback.StackSummary.from_list(users)
        elif part is report and isinstance(error.__cause__, RemoteTraceback):
            return error.__cause__.text
        elif part is report and isinstance(error, PenstockError):
            # The message says all; `format` knows this as a part without a traceback.
            part.stack = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]  # as above
    return "".join(report.format())


def format_without_cause(error: BaseException) -> str:
    """The type and the message of what was raised."""
    kind = type(error)  # the module `traceback` would look at the causes, if only to drop them
    return f"{kind.__module__}.{kind.__qualname__}: {error}\n"


def _parts_of(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    yield report
    related = (report.__cause__, report.__context__, *(report.exceptions or ()))
    for part in related:
        if part is not None:
            yield from _parts_of(part)
