"""How long the tests wait, in one place: they hold on a machine several times as slow as the usual.

What must come is waited for with patience: only what hangs takes so long. What must come soon has a
bound on real time; where that is exceeded, how slow the machine is now stretches it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

PATIENCE_SECONDS: Final = 60.0
"""For what must come; well above what anything takes, and below the time limit of a test."""

_USUAL_SECONDS: Final = 0.2
_SLOWEST: Final = 8.0


def soon(took: float, within: float) -> bool:
    """Whether something took less than so many seconds, times how slow the machine is now."""
    return took < within or took < within * _slowness()


def _slowness() -> float:
    """How many times as long as usually an import takes now, in a new process; at least 1."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import penstock"], check=True)
    return min(_SLOWEST, max(1.0, (time.monotonic() - began) / _USUAL_SECONDS))
