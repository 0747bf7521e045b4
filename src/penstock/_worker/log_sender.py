"""What a worker logs goes to the pool, in place of handlers that the script has set up there."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from types import NoneType

from typing_extensions import override

from penstock._logs.run_log import extra_of
from penstock._remote.pipes.messages import LOGGED, framed
from penstock._rules.current_run import current_run
from penstock._worker.engine_pipe import Line


def log_over(line: Line, levels: Mapping[str, int]) -> None:
    """Send the log records to the pool, as far as the loggers' levels there say."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        if isinstance(logger, logging.Logger) and _reaches_root(logger):
            logger.handlers.clear()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.root.addHandler(_Sender(line))


def _reaches_root(logger: logging.Logger | None) -> bool:
    while logger is not None and logger.parent is not None:
        if not logger.propagate:
            return False
        logger = logger.parent
    return True


class _Sender(logging.Handler):
    """Sends each record to the pool, with the fields of the run whose code logs."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line
        self._formatter = logging.Formatter()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._line.send(framed(LOGGED, payload=self._pickled(record)))
        except OSError:
            pass  # the pool is gone
        except Exception:
            self.handleError(record)

    def _pickled(self, record: logging.LogRecord) -> bytes:
        fields = {**vars(record), "msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = self._formatter.formatException(record.exc_info)
        run = current_run.get()
        if run is not None:
            fields = {**extra_of(run), **fields}
        try:
            return pickle.dumps(fields)
        except Exception:  # something that was given as `extra`
            return pickle.dumps({name: _plain(value) for name, value in fields.items()})


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | NoneType) else repr(value)
