"""Log records of the engine's own lines, copied from one that logging has made.

Where its two log lines are enabled, they are most of the cost of a task run. Half of that went into
making the records: into looking for the caller, which is always this library, and into asking for
the process and the thread again.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any

_LEVELS = {level: logging.getLevelName(level) for level in (logging.INFO, logging.ERROR)}


class _Patterns(threading.local):
    """The fields that all records of this thread have in common."""

    def __init__(self) -> None:
        pattern = logging.LogRecord("", logging.INFO, __file__, 0, "", (), None, "log_line")
        self.fields = vars(pattern)
        self.started_at = pattern.created - pattern.relativeCreated / 1000


class RecordMaker:
    """Makes records and has them handled; one in each process, as a forked child has another id."""

    def __init__(self) -> None:
        self._patterns = _Patterns()

    def log_line(
        self,
        logger: logging.Logger,
        level: int,
        created: float,
        extra: Mapping[str, object],
        message: str,
        *args: object,
    ) -> None:
        """Have a line handled, if the logger is enabled for its level.

        Args:
            logger: the logger that the line goes to.
            level: INFO or ERROR.
            created: when the logged event happened, in seconds since 1970.
            extra: attributes of the record.
            message: the format string.
            *args: the values for the format string.
        """
        if not logger.isEnabledFor(level):
            return
        if type(logger) is logging.Logger and logging.getLogRecordFactory() is logging.LogRecord:
            record = self._new_record(logger.name, level, created, extra, message, args)
        else:  # the application makes records of its own
            record = logger.makeRecord(
                logger.name, level, __file__, 0, message, args, None, "log_line", extra
            )
        logger.handle(record)

    def _new_record(
        self,
        name: str,
        level: int,
        created: float,
        extra: Mapping[str, object],
        message: str,
        args: tuple[object, ...],
    ) -> logging.LogRecord:
        record = logging.LogRecord.__new__(logging.LogRecord)
        patterns = self._patterns
        fields: dict[str, Any] = record.__dict__
        fields.update(patterns.fields)
        fields.update(extra)
        record.name = name
        record.levelno = level
        record.levelname = _LEVELS[level]
        record.msg = message
        record.args = args
        record.created = created
        record.msecs = int((created - int(created)) * 1000) + 0.0
        record.relativeCreated = (created - patterns.started_at) * 1000
        record.threadName = threading.current_thread().name
        if sys.version_info >= (3, 12):
            record.taskName = _task_name()
        return record


def _task_name() -> str | None:
    """The name of the current asyncio task, as logging finds it."""
    asyncio = sys.modules.get("asyncio")
    is_enabled = getattr(logging, "logAsyncioTasks", False)
    if not is_enabled or asyncio is None or asyncio._get_running_loop() is None:
        return None
    task = asyncio.current_task()
    return None if task is None else str(task.get_name())
