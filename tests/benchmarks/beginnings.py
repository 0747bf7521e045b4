"""What is paid once: the import, the first flow, and a flow that does nothing."""

from __future__ import annotations

from collections.abc import Sequence

from penstock._model.rows import FlowRow
from tests.benchmarks import floor
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample, microseconds_a_task
from tests.benchmarks.works import empty, import_time


def _write_empty_flows(count: int) -> None:
    writer = floor.Writer(FlowRow)
    for _ in range(count):
        submitted_at = floor.now()
        started_at = floor.now()
        empty.fn()
        history = floor.completed_history(submitted_at, started_at, "All states completed.")
        writer.add(floor.flow_row("attentive-turaco", history))
    writer.close()


class EmptyFlows(Case):
    name = "empty-flow"
    what = "a flow that does nothing, warm"
    count = 2_000
    quick_count = 500
    limit = 500

    def by_hand(self, count: int, /) -> Sample:
        elapsed = microseconds_a_task(lambda: _write_empty_flows(count), count)
        return Sample(elapsed, flow_runs=count)

    def references(self) -> Sequence[Reference]:
        return [Reference("call + rows", self.by_hand)]


class FirstFlow(Case):
    name = "first-flow"
    what = "the first flow of a process, on a new database"
    count = 1
    quick_count = 1
    limit = 100_000

    def by_hand(self, count: int, /) -> Sample:
        elapsed = microseconds_a_task(lambda: _write_empty_flows(count), count)
        return Sample(elapsed, flow_runs=count)

    def references(self) -> Sequence[Reference]:
        return [Reference("open + call + row", self.by_hand)]


class Import(Case):
    name = "import"
    what = "import penstock"
    count = 5
    quick_count = 3
    limit = 100_000

    def libraries(self, count: int, /) -> Sample:
        return import_time("anyio, msgspec, aiosqlite", count)

    def references(self) -> Sequence[Reference]:
        return [Reference("anyio, msgspec, aiosqlite", self.libraries, at_most=1.3)]
