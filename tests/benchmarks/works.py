"""What the cases do with Penstock, by public names alone: so older versions can do it, too."""

from __future__ import annotations

import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import anyio

import penstock
from penstock import flow, task
from penstock.task_runners import ProcessTaskRunner
from penstock.tasks import task_input_hash
from tests.benchmarks import runs
from tests.benchmarks.samples import Sample, Side, microseconds_a_task, peak_rss_bytes

# Calls and submits


@flow
def call_all(count: int) -> int:
    for number in range(count):
        runs.noop(number)
    return count


def _call(count: int, /) -> Sample:
    return runs.timed(lambda: call_all(count), count)


@flow
def submit_all(count: int) -> int:
    futures = [runs.noop.submit(number) for number in range(count)]
    return sum(future.result() for future in futures)


def _submit(count: int, /) -> Sample:
    return runs.timed(lambda: submit_all(count), count)


@flow
async def async_submit_all(count: int) -> int:
    futures = [runs.async_noop.submit(number) for number in range(count)]
    total = 0
    for future in futures:
        total += await future
    return total


def _submit_in_loop(backend: str, count: int, /) -> Sample:
    return runs.timed(lambda: anyio.run(async_submit_all, count, backend=backend), count)


# Cache hits

CACHE_KEYS: Final = 1000


@task(cache_key_fn=task_input_hash)
def cached_noop(number: int) -> int:
    return number


@flow
def call_cached(count: int) -> int:
    return sum(cached_noop(number % CACHE_KEYS) for number in range(count))


def _find_in_cache(is_restarted: bool, count: int, /) -> Sample:
    call_cached(CACHE_KEYS)
    runs.flush()
    if is_restarted:
        penstock.shutdown()
    sample = runs.timed(lambda: call_cached(count), count)
    return Sample(sample.value, sample.task_runs + CACHE_KEYS, sample.flow_runs + 1)


# Memory


@flow
def hold_all(count: int) -> int:
    futures = runs.noop.map(range(count))
    return sum(futures.result())


def _hold_futures(count: int, /) -> Sample:
    runs.warm_up()
    before = peak_rss_bytes()
    sample = runs.timed(lambda: hold_all(count), count)
    return Sample(
        (peak_rss_bytes() - before) / count,
        sample.task_runs + runs.WARM_UP_RUNS,
        sample.flow_runs + runs.WARM_UP_RUNS,
    )


@flow
def take_all(count: int) -> int:
    return sum(runs.noop.imap(range(count)))


def _map_lazily(count: int, /) -> Sample:
    return runs.timed(lambda: take_all(count), count)


def _peak_of_lazy_map(count: int, /) -> Sample:
    return _map_lazily(count)._replace(value=peak_rss_bytes() / 1e6)


# Work that waits

THREAD_SECONDS: Final = 0.05
LOOP_SECONDS: Final = 1.0


@task
def sleep() -> None:
    time.sleep(THREAD_SECONDS)


@flow
def sleep_on_threads(count: int) -> None:
    for future in [sleep.submit() for _ in range(count)]:
        future.result()


def _sleep_on_threads(count: int, /) -> Sample:
    return runs.timed(lambda: sleep_on_threads(count), count)


@task
async def async_sleep() -> None:
    await anyio.sleep(LOOP_SECONDS)


@flow
async def sleep_in_loop(count: int) -> None:
    for future in [async_sleep.submit() for _ in range(count)]:
        await future


def _sleep_in_loop(count: int, /) -> Sample:
    return runs.timed(lambda: anyio.run(sleep_in_loop, count), count)


# Runs that wait for runs


@flow
def chain(count: int) -> int:
    future = runs.noop.submit(0)
    for _ in range(count - 1):
        future = runs.noop.submit(future)
    return future.result()


def _chain(count: int, /) -> Sample:
    return runs.timed(lambda: chain(count), count)


@flow
async def async_chain(count: int) -> int:
    future = runs.async_noop.submit(0)
    for _ in range(count - 1):
        future = runs.async_noop.submit(future)
    return await future


def _chain_in_loop(count: int, /) -> Sample:
    return runs.timed(lambda: anyio.run(async_chain, count), count)


@task
def add(left: int, right: int) -> int:
    return left + right


@flow
def tree(leaves: int) -> int:
    level = [add.submit(0, 1) for _ in range(leaves)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [add.submit(left, right) for left, right in pairs]
    return level[0].result()


def _tree(count: int, /) -> Sample:
    return runs.timed(lambda: tree(count // 2), count - 1)


# Strict durability

SUBMITS_AT_ONCE: Final = 100


def _be_strict(synchronous: str) -> None:
    os.environ["PENSTOCK_DURABILITY"] = "strict"
    os.environ["PENSTOCK_SYNCHRONOUS"] = synchronous


def _call_strictly(synchronous: str, count: int, /) -> Sample:
    _be_strict(synchronous)
    return _call(count)


@flow
def submit_rounds(rounds: int) -> int:
    for _ in range(rounds):
        for future in [runs.noop.submit(number) for number in range(SUBMITS_AT_ONCE)]:
            future.result()
    return rounds


def _submit_strictly(synchronous: str, count: int, /) -> Sample:
    _be_strict(synchronous)
    return runs.timed(lambda: submit_rounds(count // SUBMITS_AT_ONCE), count)


# What is paid once


@flow
def empty() -> None: ...


def _run_empty_flows(count: int) -> None:
    for _ in range(count):
        empty()


def _flows(count: int, /) -> Sample:
    sample = runs.timed(lambda: _run_empty_flows(count), count, flow_runs=count)
    return sample._replace(task_runs=runs.WARM_UP_RUNS)


def _first_flow(count: int, /) -> Sample:
    def run_and_flush() -> None:
        _run_empty_flows(count)
        penstock.shutdown()

    return Sample(microseconds_a_task(run_and_flush, count), flow_runs=count)


def import_time(modules: str, times: int, /) -> Sample:
    """The median over new interpreters; all modules are compiled already."""
    script = (
        "import time; began = time.perf_counter()\n"
        f"import {modules}\n"
        "print((time.perf_counter() - began) * 1e6)"
    )
    command = [sys.executable, "-c", script]
    outputs = (
        subprocess.run(command, capture_output=True, check=True, text=True).stdout
        for _ in range(times)
    )
    return Sample(statistics.median(map(float, outputs)))


# Logging


def log_to_a_file() -> None:
    """As an application that wants each line."""
    file = Path(os.environ["PENSTOCK_HOME"], "penstock.log")
    logging.basicConfig(filename=file, level=logging.INFO, force=True)


def _call_and_log(count: int, /) -> Sample:
    log_to_a_file()
    return _call(count)


# Many at once on one file

_THREADS: Final = 8
_PROCESSES: Final = 4
_TASKS_A_FLOW: Final = 100


def _run_flows(flows: int) -> None:
    for _ in range(flows):
        call_all(_TASKS_A_FLOW)


def one_thread(count: int, /) -> Sample:
    """As many flows, one after another."""
    flows = count // _TASKS_A_FLOW
    return runs.timed(lambda: _run_flows(flows), count, flows)


def _threads(count: int, /) -> Sample:
    flows = count // _TASKS_A_FLOW
    return runs.timed(lambda: _run_in_threads(_THREADS, flows // _THREADS), count, flows)


def _run_in_threads(threads: int, flows: int) -> None:
    workers = [threading.Thread(target=_run_flows, args=(flows,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _processes(count: int, /) -> Sample:
    context = multiprocessing.get_context("spawn")
    line = context.Barrier(_PROCESSES + 1)
    flows = count // _TASKS_A_FLOW
    share = flows // _PROCESSES
    workers = [context.Process(target=_run_between, args=(line, share)) for _ in range(_PROCESSES)]
    for worker in workers:
        worker.start()
    line.wait()
    elapsed = microseconds_a_task(line.wait, count)
    for worker in workers:
        worker.join()
    warm_ups = _PROCESSES * runs.WARM_UP_RUNS
    return Sample(elapsed, count + warm_ups, flows + warm_ups)


def _run_between(line: Barrier, flows: int) -> None:
    """Run flows in a process of its own, between two meetings at the line."""
    runs.set_up_logging()
    runs.warm_up()
    runs.flush()
    line.wait()
    _run_flows(flows)
    penstock.shutdown()
    line.wait()


# Worker processes

POOL_WORKERS: Final = 2
POOL_WARM_UP_TASKS: Final = 100


@flow(task_runner=ProcessTaskRunner(max_workers=POOL_WORKERS))
def submit_to_pool(count: int) -> int:
    futures = [runs.noop.submit(number) for number in range(count)]
    return sum(future.result() for future in futures)


def _pool(count: int, /) -> Sample:
    submit_to_pool(POOL_WARM_UP_TASKS)
    sample = runs.timed(lambda: submit_to_pool(count), count)
    return Sample(sample.value, sample.task_runs + POOL_WARM_UP_TASKS, sample.flow_runs + 1)


WORKS: Final[Mapping[str, Side]] = {
    "direct": _call,
    "submit": _submit,
    "submit-asyncio": partial(_submit_in_loop, "asyncio"),
    "submit-trio": partial(_submit_in_loop, "trio"),
    "cache": partial(_find_in_cache, False),
    "cache-restart": partial(_find_in_cache, True),
    "futures": _hold_futures,
    "lazy-map": _map_lazily,
    "lazy-memory": _peak_of_lazy_map,
    "sleep-threads": _sleep_on_threads,
    "sleep-async": _sleep_in_loop,
    "chain": _chain,
    "chain-async": _chain_in_loop,
    "tree": _tree,
    "strict": partial(_call_strictly, "normal"),
    "strict-full": partial(_call_strictly, "full"),
    "strict-100": partial(_submit_strictly, "normal"),
    "strict-100-full": partial(_submit_strictly, "full"),
    "empty-flow": _flows,
    "first-flow": _first_flow,
    "import": partial(import_time, "penstock"),
    "logging": _call_and_log,
    "threads": _threads,
    "processes": _processes,
    "process-pool": _pool,
}
"""By the names of the cases."""
