"""`print` in the code of a run: it writes to the run's log where the run asks for that."""

from __future__ import annotations

import builtins
import functools
import sys
from typing import Any

from penstock._logs.user_logger import logger_of
from penstock._rules.current_run import current_run


@functools.cache
def log_prints_from_now_on() -> None:
    """Replace `print` by a function that logs in runs that ask for it, and prints elsewhere."""
    plain_print = builtins.print

    @functools.wraps(plain_print)
    def print_or_log(*values: object, **options: Any) -> None:
        run = current_run.get()
        if run is not None and run.logs_prints and options.get("file") in (None, sys.stdout):
            text = (options.get("sep") or " ").join(map(str, values))
            logger_of(run).info("%s", text)
        else:
            plain_print(*values, **options)

    builtins.print = print_or_log
