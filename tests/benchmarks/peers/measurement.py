"""What a rival's side says: one JSON object, once the records it must have left are counted.

Runs in the rival's environment, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from os import getpid
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Measurement(NamedTuple):
    """What one side has measured.

    Attributes:
        value: µs a task, to the last record on disk.
        returned: µs a task, to the moment when the work returned.
        peak_rss_bytes: of the process.
        children_peak_rss_bytes: of its children and theirs, summed; 0 where there is no `/proc`.
        records: what the rival has left behind for the timed tasks and the warm-up.
    """

    value: float
    returned: float
    peak_rss_bytes: int
    children_peak_rss_bytes: int
    records: int = 0


Side: TypeAlias = Callable[[int], Measurement]


def main(distribution: str, sides: Mapping[str, Side]) -> None:
    """Measure the case and the count that the command line says."""
    case, count = sys.argv[1:]
    measurement = sides[case](int(count))
    report = {"version": version(distribution), **measurement._asdict()}
    sys.stdout.write(f"{json.dumps(report)}\n")


def _nothing() -> None: ...


def timed(
    work: Callable[[], object], tasks: int, flush: Callable[[], object] = _nothing
) -> Measurement:
    """Do the work once, by the clock; `flush` returns when all of it is on disk."""
    began = time.perf_counter()
    work()
    returned = time.perf_counter() - began
    flush()
    elapsed = time.perf_counter() - began
    children = sum(map(_peak_rss_bytes_of, _descendants(getpid())))
    return Measurement(elapsed / tasks * 1e6, returned / tasks * 1e6, _peak_rss_bytes(), children)


def insist(what: str, found: int, expected: int) -> None:
    """A figure is worth nothing where the records are not there."""
    if found != expected:
        raise RuntimeError(f"{found} {what} instead of {expected}")


# Memory


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _descendants(process: int) -> Iterator[int]:
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _descendants(child)


def _peak_rss_bytes_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
