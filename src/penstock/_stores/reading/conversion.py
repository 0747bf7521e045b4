"""Rows become records."""

from __future__ import annotations

from penstock._model.codecs import decode_parameters
from penstock._model.ids import id_time, to_uuid
from penstock._model.records import FlowRunRecord, TaskRunRecord, states_of
from penstock._rules.task_run import task_run_name
from penstock._stores.port import FoundFlowRun, FoundTaskRun
from penstock._stores.reading.results import Results, StoredResult


def flow_record(found: FoundFlowRun, results: Results) -> FlowRunRecord:
    """The record of a flow run."""
    row, definition = found
    return FlowRunRecord(
        id=to_uuid(row.id),
        name=row.name,
        flow=definition.name,
        version=definition.version,
        parent_run_id=to_uuid(row.parent_id) if row.parent_id else None,
        parameters=decode_parameters(row.parameters),
        tags=frozenset(definition.tags),
        run_count=row.run_count,
        created_at=id_time(row.id),
        states=states_of(row.history, _stored(row.result, results), None, row.id),
    )


def task_record(found: FoundTaskRun, results: Results) -> TaskRunRecord:
    """The record of a task run."""
    row, definition = found
    upstreams = row.upstreams or b""
    return TaskRunRecord(
        id=to_uuid(row.id),
        name=row.name or task_run_name(definition, row.number),
        task=definition.name,
        version=definition.version,
        flow_run_id=to_uuid(row.flow_run_id) if row.flow_run_id else None,
        parent_run_id=to_uuid(row.parent_id) if row.parent_id else None,
        tags=frozenset(definition.tags),
        run_count=row.run_count,
        upstream_ids=tuple(to_uuid(upstreams[i : i + 16]) for i in range(0, len(upstreams), 16)),
        created_at=id_time(row.id),
        states=states_of(row.history, _stored(row.result, results), row.id, row.flow_run_id),
    )


def _stored(payload: bytes | None, results: Results) -> StoredResult | None:
    return None if payload is None else StoredResult(payload, results)
