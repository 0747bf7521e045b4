"""A history of years: what a look-up and the pages cost in a file with ten million task runs.

Filling the file takes minutes. Where `BENCHMARK_HISTORIES` names a folder, it is kept there, and
used again the next time.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

from penstock import history
from penstock._engine.process import get_engine
from penstock._model.ids import id_bound
from tests.benchmarks import filling, floor
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample

_FEW: Final = 10_000
_LOOK_UPS: Final = 1000
_MIDDLE: Final = filling.BEGIN + filling.SPAN / 2
DEEP: Final = id_bound(filling.BEGIN + filling.SPAN * 0.605)
"""Where a deep page begins: within the flow run `BIG`, and after `_MIDDLE`."""
BIG: Final = 18
_DAY: Final = filling.SPAN / 730

Conditions: TypeAlias = Mapping[str, Any]
Work: TypeAlias = Callable[[], object]

FLOW_CONDITIONS: Final[Mapping[str, Conditions]] = {
    "none": {},
    "flow": {"flow": "hourly"},
    "flow in 4 versions": {"flow": "nightly"},
    "flow, absent": {"flow": "weekly"},
    "COMPLETED": {"state": "COMPLETED"},
    "FAILED": {"state": "FAILED"},
    "TimedOut": {"state": "TimedOut"},
    "PENDING, absent": {"state": "PENDING"},
    "tag": {"tag": "prod"},
    "tag, rare": {"tag": "manual"},
    "tag, absent": {"tag": "nothing"},
    "since": {"since": _MIDDLE},
    "until": {"until": _MIDDLE},
    "since, until": {"since": _MIDDLE - _DAY, "until": _MIDDLE + _DAY},
    "flow, FAILED": {"flow": "nightly", "state": "FAILED"},
    "flow, COMPLETED": {"flow": "nightly", "state": "COMPLETED"},
    "flow, PENDING, absent": {"flow": "hourly", "state": "PENDING"},
    "flow, tag": {"flow": "nightly", "tag": "prod"},
    "flow, tag, absent": {"flow": "hourly", "tag": "prod"},
    "flow, since": {"flow": "nightly", "since": _MIDDLE},
    "tag, FAILED": {"tag": "prod", "state": "FAILED"},
    "tag, until": {"tag": "prod", "until": _MIDDLE},
    "FAILED, until": {"state": "FAILED", "until": _MIDDLE},
}
TASK_CONDITIONS: Final[Mapping[str, Conditions]] = {
    "none": {},
    "task": {"task": "extract"},
    "task in 5 versions": {"task": "transform"},
    "task, long ago": {"task": "legacy"},
    "task, absent": {"task": "nothing"},
    "COMPLETED": {"state": "COMPLETED"},
    "FAILED": {"state": "FAILED"},
    "TimedOut": {"state": "TimedOut"},
    "Cached": {"state": "Cached"},
    "RUNNING, rare": {"state": "RUNNING"},
    "SCHEDULED, absent": {"state": "SCHEDULED"},
    "tag": {"tag": "etl"},
    "tag, rare": {"tag": "audit"},
    "tag, absent": {"tag": "nothing"},
    "since": {"since": _MIDDLE},
    "until": {"until": _MIDDLE},
    "since, until": {"since": _MIDDLE - _DAY, "until": _MIDDLE + _DAY},
    "task, COMPLETED": {"task": "transform", "state": "COMPLETED"},
    "task, FAILED": {"task": "load", "state": "FAILED"},
    "task, FAILED, absent": {"task": "extract", "state": "FAILED"},
    "task, Cached": {"task": "fetch", "state": "Cached"},
    "task, tag": {"task": "transform", "tag": "etl"},
    "task, tag, absent": {"task": "extract", "tag": "etl"},
    "task, since": {"task": "extract", "since": _MIDDLE},
    "task, until": {"task": "transform", "until": _MIDDLE},
    "tag, COMPLETED": {"tag": "etl", "state": "COMPLETED"},
    "tag, FAILED": {"tag": "network", "state": "FAILED"},
    "tag, FAILED, absent": {"tag": "audit", "state": "FAILED"},
    "tag, until": {"tag": "etl", "until": _MIDDLE},
    "FAILED, until": {"state": "FAILED", "until": _MIDDLE},
    "COMPLETED, since": {"state": "COMPLETED", "since": _MIDDLE},
}
IN_FLOW_RUN: Final[Mapping[str, Conditions]] = {
    "": {},
    ", task": {"task": "transform"},
    ", task, absent": {"task": "legacy"},
    ", COMPLETED": {"state": "COMPLETED"},
    ", FAILED": {"state": "FAILED"},
    ", SCHEDULED, absent": {"state": "SCHEDULED"},
    ", tag": {"tag": "etl"},
    ", tag, absent": {"tag": "nothing"},
    ", since": {"since": _MIDDLE},
}
OF_PARENT: Final[Mapping[str, Conditions]] = {
    "": {},
    ", flow": {"flow": "child"},
    ", flow, absent": {"flow": "nightly"},
    ", FAILED": {"state": "FAILED"},
    ", tag, absent": {"tag": "prod"},
    ", since": {"since": _MIDDLE},
}


class OldPages(Case):
    name = "scale"
    what = "the slowest page of a history of years"
    count = 10_000_000
    quick_count = 200_000
    unit = "ms"
    limit = 50
    on_request = True
    timeout_seconds = 3600

    def penstock(self, count: int, /) -> Sample:
        use_filled(count)
        parts = {**_look_ups(count), **{name: _first_call(work) for name, work in _pages(count)}}
        return Sample(max(parts.values()), parts=parts)

    def few(self, _count: int, /) -> Sample:
        return self.penstock(_FEW)

    def references(self) -> Sequence[Reference]:
        return [Reference(f"{_FEW:,} task runs", self.few)]


class Pruning(Case):
    name = "prune"
    what = "deleting the older half of a history, µs a run deleted"
    count = 10_000_000
    quick_count = 200_000
    on_request = True
    timeout_seconds = 3600

    def penstock(self, count: int, /) -> Sample:
        use_filled(count, is_changed=True)
        began = time.perf_counter()
        pruned = history.prune(until=_MIDDLE)
        return Sample((time.perf_counter() - began) / pruned.task_runs * 1e6)

    def few(self, _count: int, /) -> Sample:
        return self.penstock(_FEW)

    def references(self) -> Sequence[Reference]:
        return [Reference(f"of {_FEW:,} task runs", self.few)]


def use_filled(count: int, *, is_changed: bool = False) -> None:
    """Have this process use a file with so many task runs."""
    path = floor.database()
    kept = os.environ.get("BENCHMARK_HISTORIES")
    if kept is None:
        filling.fill(path, count)
        return
    source = Path(kept) / f"{count}.db"
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        filling.fill(source.with_suffix(".part"), count)
        source.with_suffix(".part").rename(source)
    if is_changed:
        shutil.copy(source, path)
    else:
        os.environ["PENSTOCK_DATABASE_URL"] = f"sqlite:///{source}"


def _first_call(work: Work) -> float:
    """In milliseconds; nothing of it was asked before in this process."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def _look_ups(count: int) -> dict[str, float]:
    """Milliseconds a look-up, of keys all over the file."""
    history.flow_runs(limit=1)  # starts the engine
    look_up = get_engine().store.look_up
    numbers = random.Random(0).sample(range(count // 100), min(_LOOK_UPS, count // 100))

    def each(last_digits: int, is_there: bool) -> Work:
        def look_up_all() -> None:
            for number in numbers:
                found = look_up(filling.key_of(number * 100 + last_digits), time.time())
                assert (found is not None) is is_there

        return look_up_all

    look_ups = {"look-up, hit": each(70, True), "look-up, miss": each(10, False)}
    for work in look_ups.values():
        work()  # the file may not be in the memory of the system yet
    return {name: _first_call(work) / len(numbers) for name, work in look_ups.items()}


def _pages(count: int) -> Iterator[tuple[str, Work]]:
    """The first page, and one from the middle of the file."""
    big, small = filling.flow_run_ids(count, count // 100), filling.flow_run_ids(count, 120)
    parent = UUID(bytes=big[0])
    flows = {**FLOW_CONDITIONS, **_with({"parent": parent}, "parent", OF_PARENT)}
    for name, conditions in flows.items():
        yield from _turned(f"flow runs: {name}", history.flow_runs, conditions)
    in_flow_run = _with({"flow_run": UUID(bytes=big[BIG])}, "big flow run", IN_FLOW_RUN)
    for name, conditions in {**TASK_CONDITIONS, **in_flow_run}.items():
        yield from _turned(f"task runs: {name}", history.task_runs, conditions)
    normal = UUID(bytes=small[len(small) // 2])
    yield "task runs: flow run with 120 task runs", lambda: history.task_runs(flow_run=normal)
    yield "graph of a flow run with 120 task runs", lambda: history.graph(normal)


def _with(fixed: Conditions, name: str, more: Mapping[str, Conditions]) -> dict[str, Conditions]:
    return {f"{name}{other}": {**fixed, **conditions} for other, conditions in more.items()}


def _turned(
    name: str, read: Callable[..., object], conditions: Conditions
) -> Iterator[tuple[str, Work]]:
    yield name, lambda: read(**conditions)
    yield f"{name} (deep)", lambda: read(**conditions, before=UUID(bytes=DEEP))
