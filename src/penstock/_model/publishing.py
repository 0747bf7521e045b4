"""What a public module offers shows that module as its home, wherever it is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FunctionType


def publish(module: str, names: Iterable[str]) -> None:
    """Let classes and functions that a public module takes from private ones show its path.

    So `repr`, `help`, tracebacks and pickles name what users can import.
    """
    home = vars(sys.modules[module])
    for name in names:
        offered = home[name]
        if isinstance(offered, type | FunctionType) and offered.__module__.startswith("penstock._"):
            offered.__module__ = module
