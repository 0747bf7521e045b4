"""What one side of a case says of its work, and what it measures with."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol


class Sample(NamedTuple):
    """What one side says after its work.

    Attributes:
        value: in the case's unit, a task.
        task_runs: completed task runs that the database must hold now, warm-up included.
        flow_runs: completed flow runs that it must hold now, warm-up included.
        parts: what the value was taken from, each in the case's unit.
    """

    value: float
    task_runs: int = 0
    flow_runs: int = 0
    parts: Mapping[str, float] = MappingProxyType({})


class Side(Protocol):
    """Does the work for `count` tasks, everything flushed to disk, and measures it."""

    def __call__(self, count: int, /) -> Sample: ...


def microseconds_a_task(work: Callable[[], object], tasks: int) -> float:
    """Do the work once, by the clock."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / tasks * 1e6


def peak_rss_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
