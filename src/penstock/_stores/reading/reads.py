"""What can be read of runs, whatever their source: `penstock.history` and its readers ask this."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar
from uuid import UUID

from typing_extensions import Unpack

from penstock._model.records import FlowRunRecord, Graph, TaskRunRecord
from penstock._stores.port import Query, RunSource
from penstock._stores.reading.conditions import (
    FlowRunConditions,
    TaskRunConditions,
    flow_query,
    one_run,
    task_query,
)
from penstock._stores.reading.conversion import flow_record, task_record
from penstock._stores.reading.results import Results
from penstock.pictures import Node, Picture

T = TypeVar("T")
_AT_ONCE = 10_000
_RECORDS_A_TURN = 16
"""Made in 0.2 ms, so that the loop of an async caller goes on soon."""


def _in_turns(found: Iterable[T]) -> Iterator[T]:
    """The same, but other threads have their turn now and then.

    Nothing else gives the GIL up while records are made, and a loop that waits for it would get it
    after 5 ms. Where no thread waits this costs a tenth of a microsecond.
    """
    for number, one in enumerate(found, 1):
        yield one
        if number % _RECORDS_A_TURN == 0:
            time.sleep(0)


class Reads:
    """All reads of one source.

    Args:
        source: where the runs are.
        results: decodes their results, also when nobody reads the source any more.
    """

    def __init__(self, source: RunSource, results: Results) -> None:
        self._source = source
        self._results = results

    def flow_runs(self, **conditions: Unpack[FlowRunConditions]) -> list[FlowRunRecord]:
        """The flow runs that meet all the conditions, newest first."""
        return self._flow_runs(flow_query(conditions, self._source.flow_runs))

    def task_runs(self, **conditions: Unpack[TaskRunConditions]) -> list[TaskRunRecord]:
        """The task runs that meet all the conditions, newest first."""
        return self._task_runs(task_query(conditions, self._source.task_runs))

    def flow_run(self, run_id: UUID | str) -> FlowRunRecord | None:
        """The flow run with this id; None: there is none."""
        return self._flow_run(run_id, "flow_run()")

    def task_run(self, run_id: UUID | str) -> TaskRunRecord | None:
        """The task run with this id; None: there is none."""
        found = self._task_runs(one_run(run_id, "task_run()"))
        return found[0] if found else None

    def graph(self, run: FlowRunRecord | UUID | str) -> Graph | None:
        """A flow run with all that it ran; None: there is no such run."""
        return self._graph(run, "graph()")

    def _graph(self, run: FlowRunRecord | UUID | str, owner: str) -> Graph | None:
        record = run if isinstance(run, FlowRunRecord) else self._flow_run(run, owner)
        if record is None:
            return None
        tasks = self._all_task_runs(record.id.bytes)
        edges = tuple((upstream, task.id) for task in tasks for upstream in task.upstream_ids)
        found = self._source.subflow_runs(record.id.bytes)
        subflows = tuple(flow_record(one, self._results) for one in found)
        return Graph(record, tuple(tasks), subflows, edges)

    def picture(self, run: FlowRunRecord | UUID | str) -> Picture | None:
        """A flow run with all that it and its subflows ran, drawn; None: there is no such run."""
        found = self._graph(run, "picture()")
        if found is None:
            return None
        nodes: list[Node] = []
        numbers: dict[UUID, int] = {}
        edges = self._draw(found, None, nodes, numbers)
        drawn = [(numbers[a], numbers[b]) for a, b in edges if a in numbers and b in numbers]
        return Picture(found.flow_run.flow, nodes, sorted(drawn))

    def _draw(
        self, shown: Graph, inside: int | None, nodes: list[Node], numbers: dict[UUID, int]
    ) -> list[tuple[UUID, UUID]]:
        """Add the runs of a graph, in the order of their submission, and give its edges."""
        edges = [*shown.edges]
        runs: list[TaskRunRecord | FlowRunRecord] = [*shown.task_runs, *shown.subflow_runs]
        for run in sorted(runs, key=lambda run: run.id):
            number = numbers[run.id] = len(nodes)
            if isinstance(run, TaskRunRecord):
                nodes.append(Node(run.task, inside, state=run.state.name))
                continue
            nodes.append(Node(run.flow, inside, is_flow=True, state=run.state.name))
            inner = self._graph(run, "picture()")
            if inner is not None:
                edges += self._draw(inner, number, nodes, numbers)
        return edges

    def _flow_run(self, run_id: UUID | str, owner: str) -> FlowRunRecord | None:
        found = self._flow_runs(one_run(run_id, owner))
        return found[0] if found else None

    def _flow_runs(self, query: Query) -> list[FlowRunRecord]:
        found = _in_turns(self._source.flow_runs(query))
        return [flow_record(one, self._results) for one in found]

    def _task_runs(self, query: Query) -> list[TaskRunRecord]:
        found = _in_turns(self._source.task_runs(query))
        return [task_record(one, self._results) for one in found]

    def _all_task_runs(self, flow_run_id: bytes) -> list[TaskRunRecord]:
        """Those of a flow run, in the order of their submission."""
        found: list[TaskRunRecord] = []
        page = self._task_runs(Query(flow_run_id=flow_run_id, limit=_AT_ONCE))
        while page:
            found += page
            following = Query(flow_run_id=flow_run_id, before=page[-1].id.bytes, limit=_AT_ONCE)
            page = self._task_runs(following)
        return found[::-1]
