"""joblib: hits of a `Memory`, and `Parallel` on threads.

A `Memory` keeps a folder for each result and adds nothing to it for a hit. `Parallel` keeps
nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from joblib import Memory, Parallel, delayed  # pyright: ignore[reportMissingModuleSource]  # not in this env

from tests.benchmarks.peers.measurement import Measurement, insist, main, timed

_KEYS = 1000
_FILL = "fill"
_WORKERS = 40
_SLEEP_SECONDS = 0.05
_FOLDER = Path("cache").resolve()
_memory = Memory(_FOLDER, verbose=0)
_computed: list[int] = []


def noop(number: int) -> int:
    return number


@_memory.cache
def cached_noop(number: int) -> int:
    _computed.append(number)
    return number


@_memory.cache
def cached_warm_up() -> None: ...


def _call_cached(count: int) -> int:
    return sum(cached_noop(number % _KEYS) for number in range(count))


def _fill() -> None:
    _call_cached(_KEYS)
    cached_warm_up()


def _measure_hits(count: int) -> Measurement:
    insist("entries", _entries(), _KEYS + 1)
    cached_warm_up()
    _computed.clear()
    measurement = timed(lambda: _call_cached(count), count)
    insist("values computed", len(_computed), 0)
    insist("entries", _entries(), _KEYS + 1)
    return measurement._replace(records=_KEYS + 1)


def _entries() -> int:
    return sum(1 for _ in _FOLDER.rglob("output.pkl"))


def _measure_cache(count: int) -> Measurement:
    _fill()
    return _measure_hits(count)


def _measure_cache_restart(count: int) -> Measurement:
    assert __spec__ is not None
    subprocess.run([sys.executable, "-m", __spec__.name, _FILL], check=True)
    return _measure_hits(count)


def _measure_threads(work: Callable[[int], object], count: int) -> Measurement:
    """The threads are there when the clock starts, and batches are as `Parallel` makes them."""
    with Parallel(n_jobs=_WORKERS, backend="threading") as parallel:
        parallel(delayed(work)(number) for number in range(_WORKERS))
        return timed(lambda: parallel(delayed(work)(number) for number in range(count)), count)


def _sleep(_number: int) -> None:
    time.sleep(_SLEEP_SECONDS)


if __name__ == "__main__":
    if sys.argv[1:] == [_FILL]:
        _fill()
    else:
        main(
            "joblib",
            {
                "cache": _measure_cache,
                "cache-restart": _measure_cache_restart,
                "submit": lambda count: _measure_threads(noop, count),
                "sleep-threads": lambda count: _measure_threads(_sleep, count),
            },
        )
