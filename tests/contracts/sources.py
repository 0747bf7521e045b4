"""Runs played by hand, as stores see them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from penstock._model.codecs import encode_history, encode_parameters
from penstock._model.definition import Definition, RunKind, make_definition
from penstock._model.ids import id_bound, new_id
from penstock._model.payloads import encode_result
from penstock._model.rows import CacheRow, FlowRow, Source, TaskRow
from penstock._stores.large_results import FolderOfResults
from penstock._stores.port import Store
from penstock._stores.sqlite.store import SqliteStore
from penstock._waiting.loops import LoopThread
from penstock.states import TYPES, StateType, Transition
from tests.patience import PATIENCE_SECONDS


def open_sqlite(path: Path, host: LoopThread) -> SqliteStore:
    """A store in this file, with large results in a folder beside it."""
    return SqliteStore(path, FolderOfResults(path.parent / "storage"), "normal", host)


def task_definition(name: str = "work", tags: Iterable[str] = ()) -> Definition:
    """A task that nobody has defined in code."""
    return make_definition(RunKind.TASK, name, f"tests.{name}", None, None, sorted(tags))


def flow_definition(name: str = "works", tags: Iterable[str] = ()) -> Definition:
    """A flow that nobody has defined in code."""
    return make_definition(RunKind.FLOW, name, f"tests.{name}", "v1", None, sorted(tags))


def id_at(moment: datetime) -> bytes:
    """A fresh run id, as if made at `moment`."""
    return id_bound(moment)[:6] + new_id()[6:]


class HandRun(Source):
    """What flow runs and task runs played by hand have in common.

    Attributes:
        settled: how often the store has said that all of it is stored.
    """

    def __init__(self, definition: Definition, run_id: bytes | None = None) -> None:
        self.definition = definition
        self.run_id = new_id() if run_id is None else run_id
        self.payload: bytes | None = None
        self.cache_row: CacheRow | None = None
        self.states: list[Transition] = []
        self.settled = 0

    def is_final(self, length: int) -> bool:
        return self.states[length - 1].is_final

    def settle(self) -> None:
        """It keeps what it knows: the tests ask for it afterwards."""
        self.settled += 1

    def enter(self, name: str, message: str | None = None) -> int:
        """Enter a state of the table; how many there are now."""
        self.states.append(Transition(TYPES[name], name, message, time.time()))
        return len(self.states)

    def complete(
        self,
        value: object = None,
        *,
        key: str | None = None,
        created_at: float = 0.0,
        expires_at: float | None = None,
    ) -> int:
        """Complete with a result, and with a cache entry where there is a key."""
        self.payload = encode_result(value)
        if key is not None:
            self.cache_row = CacheRow(key, self.run_id, created_at, expires_at)
        return self.enter("Completed")

    def _written(self, length: int) -> tuple[str, str, int, bytes]:
        states = self.states[:length]
        attempts = sum(state.type is StateType.RUNNING for state in states)
        return states[-1].type.value, states[-1].name, attempts, encode_history(states)


class HandTaskRun(HandRun):
    """A task run played by hand."""

    def __init__(
        self,
        definition: Definition | None = None,
        run_id: bytes | None = None,
        flow_run_id: bytes | None = None,
    ) -> None:
        super().__init__(definition or task_definition(), run_id)
        self.flow_run_id = flow_run_id

    def row(self, length: int, payload: bytes | None) -> TaskRow:
        type_, name, attempts, history = self._written(length)
        return TaskRow(
            self.run_id,
            self.definition.id,
            self.flow_run_id,
            self.flow_run_id,
            0,
            0,
            type_,
            name,
            attempts,
            None,
            history,
            payload,
        )


class HandFlowRun(HandRun):
    """A flow run played by hand."""

    def __init__(
        self,
        definition: Definition | None = None,
        run_id: bytes | None = None,
        parent_id: bytes | None = None,
    ) -> None:
        super().__init__(definition or flow_definition(), run_id)
        self.parent_id = parent_id

    def row(self, length: int, payload: bytes | None) -> FlowRow:
        type_, name, attempts, history = self._written(length)
        return FlowRow(
            self.run_id,
            self.definition.id,
            self.parent_id,
            "brave-heron",
            type_,
            name,
            attempts,
            encode_parameters({"x": 1}),
            history,
            payload,
        )


def record(store: Store, run: HandTaskRun | HandFlowRun, *names: str) -> None:
    """Let the run enter these states, one after another, each on record."""
    for name in names:
        store.record(run, run.enter(name))


def record_completed(
    store: Store,
    run: HandTaskRun | HandFlowRun,
    value: object = None,
    *,
    key: str | None = None,
    created_at: float = 0.0,
    expires_at: float | None = None,
) -> None:
    """Let the run go through its life, each state on record."""
    record(store, run, "Pending", "Running")
    store.record(run, run.complete(value, key=key, created_at=created_at, expires_at=expires_at))


def flush(store: Store) -> None:
    """Wait until all that was recorded is durable."""
    assert store.barrier().wait(PATIENCE_SECONDS), "the barrier was never set"
    store.check()
