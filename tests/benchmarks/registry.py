"""All cases, in the order of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.benchmarks.beginnings import EmptyFlows, FirstFlow, Import
from tests.benchmarks.cache_hits import CacheHits
from tests.benchmarks.cases import Case
from tests.benchmarks.direct import DirectCalls
from tests.benchmarks.durability import StrictCalls, StrictSubmits
from tests.benchmarks.graphs import AsyncChain, Chain, Tree
from tests.benchmarks.lazy import LazyMap, LazyMemory
from tests.benchmarks.logs import InfoLogging
from tests.benchmarks.memory import EagerFutures
from tests.benchmarks.parallel import Processes, Threads
from tests.benchmarks.pools import ProcessPool
from tests.benchmarks.reading import LoopReads
from tests.benchmarks.samples import Side
from tests.benchmarks.scale import OldPages, Pruning
from tests.benchmarks.sleeps import LoopSleeps, ThreadSleeps
from tests.benchmarks.submits import AsyncSubmits, Submits

_ALL: Final[tuple[Case, ...]] = (
    DirectCalls(),
    Submits(),
    AsyncSubmits("asyncio"),
    AsyncSubmits("trio"),
    CacheHits(restarted=False),
    CacheHits(restarted=True),
    EagerFutures(),
    LazyMap(),
    LazyMemory(),
    ThreadSleeps(),
    LoopSleeps(),
    Chain(),
    AsyncChain(),
    Tree(),
    StrictCalls("normal"),
    StrictCalls("full"),
    StrictSubmits("normal"),
    StrictSubmits("full"),
    EmptyFlows(),
    FirstFlow(),
    Import(),
    InfoLogging(),
    Threads(),
    Processes(),
    ProcessPool(),
    LoopReads(),
    OldPages(),
    Pruning(),
)
CASES: Final[Mapping[str, Case]] = {case.name: case for case in _ALL}

PENSTOCK: Final = "penstock"


def sides_of(case: Case) -> Mapping[str, Side]:
    """Penstock and the references, by name."""
    references = {reference.name: reference.measure for reference in case.references()}
    return {PENSTOCK: case.penstock, **references}
