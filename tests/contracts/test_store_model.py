"""The SQLite store against a model of dicts: whatever is done in whatever order, they agree."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from penstock._model.codecs import decode_history
from penstock._model.ids import id_bound
from penstock._model.payloads import INLINE_LIMIT, decode_result, encode_result
from penstock._stores.port import Pruned, Query
from penstock._stores.writing import writer
from penstock._waiting.loops import LoopThread
from penstock.states import FINAL_TYPES, TYPES
from tests.contracts.sources import HandTaskRun, flush, id_at, open_sqlite, task_definition

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FOLLOWING = {
    "Pending": ["Running", "NotReady", "Cached"],
    "Running": ["AwaitingRetry", "Failed", "Cancelled"],
    "AwaitingRetry": ["Retrying"],
    "Retrying": ["AwaitingRetry", "TimedOut", "Crashed"],
}
DEFINITIONS = [
    task_definition("red", ["warm", "all"]),
    task_definition("blue", ["all"]),
    task_definition("grey"),
]
VALUES: list[object] = [None, 7, "text", (1, [2]), b"x" * 5000, b"x" * INLINE_LIMIT]
KEYS = ["k1", "k2"]


@dataclass
class Known:
    """What the model knows of a run."""

    run: HandTaskRun
    names: list[str]
    value: object = None
    has_value: bool = False

    @property
    def has_ended(self) -> bool:
        return TYPES[self.names[-1]] in FINAL_TYPES or self.names[-1] == "NotReady"

    def matches(self, query: Query) -> bool:
        definition, name = self.run.definition, self.names[-1]
        return (
            query.name in (None, definition.name)
            and query.tag in (None, *definition.tags)
            and (not query.states or bool({name, TYPES[name].value} & set(query.states)))
            and (query.since is None or self.run.run_id >= id_bound(query.since))
            and (query.until is None or self.run.run_id < id_bound(query.until))
        )


@dataclass
class Entry:
    """A cache entry of the model."""

    run_id: bytes
    value: object
    expires_at: float | None


class StoreMachine(RuleBasedStateMachine):
    """Runs live, results are looked up, the file is pruned, closed and opened again."""

    unfinished = Bundle[HandTaskRun]("unfinished")
    running = Bundle[HandTaskRun]("running")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.host = LoopThread("test-host")
        self.runs: dict[bytes, Known] = {}
        self.cache: dict[str, Entry] = {}
        self.clock = 100.0
        self.submitted = 0
        self.patch = pytest.MonkeyPatch()
        # What several steps record is then written in one batch, unless one of them flushes.
        self.patch.setattr(writer, "_GATHER_SECONDS", 0.01)

    @initialize()
    def open(self) -> None:
        path = Path(self.folder.name)
        self.store = open_sqlite(path / "penstock.db", self.host)

    def teardown(self) -> None:
        try:
            self.store.close()
        finally:
            self.patch.undo()
            self.host.stop()
            self.folder.cleanup()

    # What runs do

    @rule(target=unfinished, definition=st.integers(0, len(DEFINITIONS) - 1))
    def submit(self, definition: int) -> HandTaskRun:
        self.submitted += 1
        run = HandTaskRun(DEFINITIONS[definition], id_at(NOON + timedelta(minutes=self.submitted)))
        self.runs[run.run_id] = Known(run, [])
        self._enter(run, "Pending")
        return run

    @rule(target=running, run=consumes(unfinished), twice=st.booleans())
    def start(self, run: HandTaskRun, twice: bool) -> HandTaskRun:
        self._enter(run, "Running")
        if twice:
            self._enter(run, "AwaitingRetry")
            self._enter(run, "Retrying")
        return run

    @rule(run=consumes(unfinished), name=st.sampled_from(["NotReady", "Cancelled", "Failed"]))
    def end_early(self, run: HandTaskRun, name: str) -> None:
        self._enter(run, name)

    @rule(run=consumes(running), name=st.sampled_from(["Failed", "TimedOut", "Crashed"]))
    def fail(self, run: HandTaskRun, name: str) -> None:
        self._enter(run, name)

    @rule(
        run=consumes(running),
        value_index=st.integers(0, len(VALUES) - 1),
        key=st.sampled_from([None, *KEYS]),
        lifetime=st.sampled_from([None, 1.5, 10.0]),
    )
    def complete(
        self, run: HandTaskRun, value_index: int, key: str | None, lifetime: float | None
    ) -> None:
        value = VALUES[value_index]
        expires_at = None if lifetime is None else self.clock + lifetime
        length = run.complete(value, key=key, created_at=self.clock, expires_at=expires_at)
        known = self.runs[run.run_id]
        known.names.append("Completed")
        known.value, known.has_value = value, True
        if key is not None:
            self.cache[key] = Entry(run.run_id, value, expires_at)
        self.store.record(run, length)

    def _enter(self, run: HandTaskRun, name: str) -> None:
        self.runs[run.run_id].names.append(name)
        self.store.record(run, run.enter(name))

    # What time and people do

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock += seconds

    @rule()
    def flush(self) -> None:
        flush(self.store)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.open()

    @rule(key=st.sampled_from([None, *KEYS]))
    def clear_cache(self, key: str | None) -> None:
        gone = [known for known in self.cache if key in (None, known)]
        assert self.store.clear_cache(key) == len(gone)
        for known in gone:
            del self.cache[known]

    @precondition(lambda self: self.runs)
    @rule(keep_cache=st.booleans(), minutes=st.integers(0, 20) | st.none())
    def prune(self, keep_cache: bool, minutes: int | None) -> None:
        until = None if minutes is None else NOON + timedelta(minutes=minutes)
        kept = {
            entry.run_id
            for entry in self.cache.values()
            if keep_cache and (entry.expires_at is None or entry.expires_at > self.clock)
        }
        gone = [
            run_id
            for run_id, known in self.runs.items()
            if known.has_ended
            and run_id not in kept
            and (until is None or run_id < id_bound(until))
        ]
        entries = [key for key, entry in self.cache.items() if entry.run_id in gone]
        expected = Pruned(0, len(gone), len(entries))
        assert self.store.prune(until, keep_cache, self.clock) == expected
        for run_id in gone:
            del self.runs[run_id]
        for key in entries:
            del self.cache[key]

    # What must agree

    @invariant()
    def results_under_keys_agree(self) -> None:
        """At any time, flushed or not."""
        for key in KEYS:
            entry = self.cache.get(key)
            found = self.store.look_up(key, self.clock)
            if entry is None or (entry.expires_at is not None and entry.expires_at <= self.clock):
                assert found is None
                continue
            assert found is not None
            assert (found.run_id, found.expires_at) == (entry.run_id, entry.expires_at)
            assert decode_result(found.payload, self.store.load) == entry.value

    @rule(
        name=st.sampled_from([None, None, "red", "blue", "green"]),
        tag=st.sampled_from([None, None, "warm", "all"]),
        states=st.sampled_from([(), (), ("COMPLETED",), ("Failed", "RUNNING"), ("NotReady",)]),
        since=st.none() | st.integers(0, 20),
        until=st.none() | st.integers(0, 20),
        limit=st.integers(1, 30),
    )
    def runs_agree(
        self,
        name: str | None,
        tag: str | None,
        states: tuple[str, ...],
        since: int | None,
        until: int | None,
        limit: int,
    ) -> None:
        """Whatever is asked for."""
        flush(self.store)
        query = Query(
            name=name,
            tag=tag,
            states=states,
            since=None if since is None else NOON + timedelta(minutes=since),
            until=None if until is None else NOON + timedelta(minutes=until),
            limit=limit,
        )
        expected = [run_id for run_id, known in self.runs.items() if known.matches(query)]
        found = self.store.task_runs(query)
        assert [f.row.id for f in found] == sorted(expected, reverse=True)[:limit]
        for row, definition in found:
            known = self.runs[row.id]
            assert [t.name for t in decode_history(row.history)] == known.names
            assert (row.state_name, row.state_type) == (known.names[-1], TYPES[known.names[-1]])
            assert definition == known.run.definition
            payload = self.store.payload_of(row.id)
            assert payload == row.result
            assert (payload is not None) is known.has_value
            if payload is not None:
                assert decode_result(payload, self.store.load) == known.value

    @rule()
    def files_agree(self) -> None:
        """There is a file for each large result, and no other."""
        flush(self.store)
        folder = Path(self.folder.name, "storage")
        files = {path.name[:32] for path in folder.iterdir()} if folder.exists() else set[str]()
        large = {
            run_id.hex()
            for run_id, known in self.runs.items()
            if known.has_value and len(encode_result(known.value)) >= INLINE_LIMIT
        }
        assert files == large


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
