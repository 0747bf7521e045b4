"""Tracebacks as the user wants them: without the frames of this library."""

from __future__ import annotations

import traceback
from types import TracebackType

_LIBRARY = __name__.partition(".")[0]


def users_traceback(frames: TracebackType | None) -> TracebackType | None:
    """A traceback from its first frame outside of this library on; whole where all is inside."""
    first = frames
    while first is not None:
        if first.tb_frame.f_globals.get("__name__", "").partition(".")[0] != _LIBRARY:
            return first
        first = first.tb_next
    return frames


def format_error(error: BaseException) -> str:
    """What was raised, as text."""
    frames = users_traceback(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, frames))
