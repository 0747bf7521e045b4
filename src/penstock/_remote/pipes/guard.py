"""A worker process that imports the user's script must not run its flows once more.

Why: docs/inside/remote.md, "A script without a guard is refused by its workers".
"""

from __future__ import annotations

import sys
from typing import Final

from penstock.exceptions import UsageError

WORKER_NAME: Final = "penstock-worker"
"""How the names of worker processes begin."""


def refuse_unguarded_script() -> None:
    """Raise where a worker process still imports the script, which wants to run something.

    Raises:
        UsageError: it does.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return
    current = process.current_process()
    if current.name.startswith(WORKER_NAME) and getattr(current, "_inheriting", False):
        raise UsageError(
            "A worker process imports this script, so all that the script runs has to stand below "
            "`if __name__ == '__main__':`."
        )
