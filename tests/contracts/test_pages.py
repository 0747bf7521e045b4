"""Pages of the history in SQLite: they agree with the dicts, and cost the same in any file."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from penstock._stores.memory import MemoryStore
from penstock._stores.port import Query, Store
from penstock._stores.sqlite import schema
from penstock._stores.sqlite import store as sqlite
from penstock._stores.sqlite.pages import FLOW_RUNS, SUBFLOW_RUNS, TASK_RUNS, Table, page
from penstock._stores.sqlite.statements import Statement, take
from penstock._stores.sqlite.store import SqliteStore
from penstock.states import TYPES, StateType, Transition
from tests.benchmarks import filling, scale
from tests.contracts.sources import (
    HandFlowRun,
    HandTaskRun,
    flow_definition,
    flush,
    id_at,
    record,
    record_completed,
    task_definition,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Conditions = Mapping[str, Any]


# The answers

TASKS = [
    task_definition("red", ["warm", "all"]),
    task_definition("red", ["warm"]),  # the same name in another version
    task_definition("blue", ["all"]),
    task_definition("grey"),
]
FLOWS = [
    flow_definition("top", ["all"]),
    flow_definition("top", ["daily", "all"]),
    flow_definition("sub"),
]
HAND_MADE = [
    Transition(StateType.FAILED, "Completed", None, NOON.timestamp()),
    Transition(StateType.COMPLETED, "Skipped", None, NOON.timestamp()),
    Transition(StateType.CANCELLED, "Skipped", None, NOON.timestamp()),
    Transition(StateType.FAILED, "COMPLETED", None, NOON.timestamp()),
]
STATES = [
    (),
    ("COMPLETED",),
    ("Completed",),
    ("FAILED",),
    ("Failed", "RUNNING"),
    ("FAILED", "COMPLETED"),
    ("TimedOut",),
    ("PENDING",),
    ("NotReady",),
    ("Cached",),
    ("Skipped",),
    ("SCHEDULED", "CRASHED", "Skipped"),
]
RANGES: list[Conditions] = [
    {},
    {"since": NOON + 60 * MINUTE},
    {"until": NOON + 60 * MINUTE},
    {"since": NOON + 60 * MINUTE, "until": NOON + 100 * MINUTE},
    {"before": id_at(NOON + 50 * MINUTE)},
    {"before": id_at(NOON + 50 * MINUTE), "until": NOON + 80 * MINUTE},
    {"before": id_at(NOON + 80 * MINUTE), "until": NOON + 50 * MINUTE},
]


def history_of(store: Store, seed: int) -> list[bytes | None]:
    """A hundred and fifty runs of each kind in all states; the ids of some that own others."""
    chance = random.Random(seed)
    owners: list[bytes | None] = [None]
    for minute in range(150):
        moment = NOON + minute * MINUTE
        called = HandFlowRun(chance.choice(FLOWS), fixed_id(moment, 0), chance.choice(owners))
        run = HandTaskRun(chance.choice(TASKS), fixed_id(moment, 1), chance.choice(owners))
        for one in (called, run):
            record(store, one, "Pending")
            if chance.random() < 0.2:
                one.states.append(chance.choice(HAND_MADE))
                store.record(one, 2)
            else:
                record(store, one, chance.choice(list(TYPES)))
        if minute % 50 == 0:
            owners += [called.run_id, run.run_id]
    flush(store)
    return [*owners, b"\x01" * 16]


def fixed_id(moment: datetime, tail: int) -> bytes:
    return id_at(moment)[:6] + bytes([0x70, *[0] * 8, tail])


@pytest.mark.parametrize("seed", range(2))
def test_every_combination_of_conditions_finds_what_a_look_at_each_run_finds(
    sqlite_store: SqliteStore, seed: int
) -> None:
    memory = MemoryStore()
    owners = history_of(memory, seed)
    assert history_of(sqlite_store, seed) == owners
    found = 0
    for name, tag, states, owner, bounds, limit in itertools.product(
        (None, "red", "top", "nobody"), (None, "all", "daily", "none"), STATES, owners, RANGES, (7,)
    ):
        query = Query(
            name=name,
            tag=tag,
            states=states,
            flow_run_id=owner,
            parent_id=owner,
            limit=limit,
            **bounds,
        )
        expected = [run.row.id for run in memory.task_runs(query)]
        assert [run.row.id for run in sqlite_store.task_runs(query)] == expected, query
        found += len(expected)
        expected = [run.row.id for run in memory.flow_runs(query)]
        assert [run.row.id for run in sqlite_store.flow_runs(query)] == expected, query
        found += len(expected)
    assert found > 5000


def test_one_run_is_found_by_its_id_where_it_meets_the_other_conditions(
    sqlite_store: SqliteStore,
) -> None:
    memory = MemoryStore()
    history_of(memory, 0)
    history_of(sqlite_store, 0)
    for run, states in itertools.product(memory.task_runs(Query(limit=50)), STATES):
        for name in (None, "red"):
            query = Query(run_id=run.row.id, states=states, name=name)
            found = [one.row.id for one in sqlite_store.task_runs(query)]
            assert found == [one.row.id for one in memory.task_runs(query)]


def test_the_steps_of_a_page_need_rows_and_no_database() -> None:
    """Its definitions are asked for, and the rows of those walks that they make."""
    steps = page(TASK_RUNS, Query(name="red", tag="warm", limit=2))
    assert next(steps) == Statement(
        "SELECT id, tags FROM definition WHERE kind = ? AND name = ?", ["task", "red"]
    )
    sql, values = steps.send([(1, '["warm"]'), (2, '["cold"]'), (3, '["warm", "all"]')])
    assert sql.count("UNION ALL") == 1
    assert values == [1, 3, 2]
    with pytest.raises(StopIteration) as end:
        steps.send([(b"a", "older"), (b"c", "newest"), (b"b", "in between")])
    assert end.value.value == [(b"c", "newest"), (b"b", "in between")]


def test_a_name_with_more_versions_than_one_statement_merges(sqlite_store: SqliteStore) -> None:
    """Each run is of a version of its own, and each third one failed."""
    runs = [
        HandTaskRun(task_definition("red", [str(n)]), id_at(NOON + n * MINUTE)) for n in range(160)
    ]
    for n, run in enumerate(runs):
        record(sqlite_store, run, "Pending", "Completed" if n % 3 else "Failed")
    flush(sqlite_store)
    newest_first = [run.run_id for run in reversed(runs)]
    found = sqlite_store.task_runs(Query(name="red", limit=110))
    assert [run.row.id for run in found] == newest_first[:110]
    found = sqlite_store.task_runs(Query(name="red", states=("FAILED",), limit=50))
    assert [run.row.id for run in found] == newest_first[::3][:50]


def test_the_subflow_runs_of_a_flow_run_are_those_of_its_tasks_too(store: Store) -> None:
    top, other = HandFlowRun(), HandFlowRun()
    calling, idle = HandTaskRun(flow_run_id=top.run_id), HandTaskRun(flow_run_id=top.run_id)
    foreign = HandTaskRun(flow_run_id=other.run_id)
    subs = [HandFlowRun(parent_id=run.run_id) for run in (calling, top, calling)]
    others = [HandFlowRun(parent_id=run.run_id) for run in (other, foreign, subs[0])]
    runs: list[HandTaskRun | HandFlowRun] = [top, other, calling, idle, foreign, *subs, *others]
    for run in runs:
        record_completed(store, run)
    flush(store)
    found = store.subflow_runs(top.run_id)
    assert [run.row.id for run in found] == sorted(run.run_id for run in subs)
    assert store.subflow_runs(subs[1].run_id) == []


# What they cost


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes files with so many task runs, each once."""
    folder = tmp_path_factory.mktemp("filled")

    @lru_cache
    def fill(count: int) -> Path:
        path = folder / f"{count}.db"
        filling.fill(path, count)
        return path

    return fill


def query_of(conditions: Conditions) -> Query:
    """What `history` makes of its arguments."""
    names = {"task": "name", "flow": "name", "state": "states", "parent": "parent_id"}
    values = {names.get(name, name): value for name, value in conditions.items()}
    if "states" in values:
        values["states"] = (values["states"],)
    return Query(**values, limit=20)


def pages(count: int) -> Iterator[tuple[str, Table, Query]]:
    """Those that the benchmark measures, the first ones and deep ones."""
    big = filling.flow_run_ids(count, count // 100)
    kinds: list[tuple[str, Table, Conditions, Mapping[str, Conditions]]] = [
        ("flow runs: ", FLOW_RUNS, {}, scale.FLOW_CONDITIONS),
        ("flow runs: parent", FLOW_RUNS, {"parent": big[0]}, scale.OF_PARENT),
        ("task runs: ", TASK_RUNS, {}, scale.TASK_CONDITIONS),
        ("task runs: flow run", TASK_RUNS, {"flow_run_id": big[scale.BIG]}, scale.IN_FLOW_RUN),
    ]
    for what, table, fixed, conditions in kinds:
        for name, more in conditions.items():
            query = query_of({**fixed, **more})
            yield f"{what}{name}", table, query
            yield f"{what}{name} (deep)", table, replace(query, before=scale.DEEP)


PAGES = [name for name, _, _ in pages(10_000)]


def instructions(path: Path, table: Table, query: Query) -> int:
    """How many SQLite executes for a page."""
    tens = itertools.count()

    def count_on() -> int:
        next(tens)
        return 0

    with closing(schema.connect_to_read(path)) as connection:
        connection.set_progress_handler(count_on, 10)
        take(connection, page(table, query))
    return next(tens) * 10


@pytest.mark.parametrize("number", range(len(PAGES)), ids=PAGES)
def test_a_page_takes_as_many_steps_in_a_larger_file(
    filled: Callable[[int], Path], number: int
) -> None:
    """Four times as large; the margin is for pages that are not full in the smaller one."""
    small, large = (
        instructions(filled(count), *list(pages(count))[number][1:]) for count in (10_000, 40_000)
    )
    assert large <= 1.25 * small + 1500


def test_the_counting_of_steps_would_notice_a_walk_over_all_runs(
    filled: Callable[[int], Path],
) -> None:
    """None of these runs completed, and that is held against each of them."""
    query = Query(name="fetch", states=("Completed", "COMPLETED"), until=filling.BEGIN)
    assert instructions(filled(10_000), TASK_RUNS, query) < 1500
    rare = Query(states=("Completed", "Retrying"), tag="etl", limit=10_000)
    assert instructions(filled(10_000), TASK_RUNS, rare) > 10_000


def plan_of(connection: sqlite3.Connection, sql: str) -> list[str]:
    return [str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]


def plans(path: Path, table: Table, query: Query) -> list[str]:
    """Of all statements that a page takes, with the values in them."""
    traced: list[str] = []
    with closing(schema.connect_to_read(path)) as connection:
        connection.set_trace_callback(traced.append)
        take(connection, page(table, query))
        connection.set_trace_callback(None)
        return [step for sql in traced for step in plan_of(connection, sql)]


FREE = [Query(limit=20), Query(states=("COMPLETED",), limit=20)]


@pytest.mark.parametrize("number", range(len(PAGES)), ids=PAGES)
def test_no_page_scans_a_table_or_sorts(filled: Callable[[int], Path], number: int) -> None:
    """The runs themselves are walked only where no condition is left to hold against them."""
    _, table, query = list(pages(10_000))[number]
    steps = plans(filled(10_000), table, query)
    assert not [step for step in steps if "TEMP B-TREE" in step]
    scans = [step for step in steps if step.startswith("SCAN") and step != "SCAN w"]
    if query in FREE:
        assert scans == [f"SCAN {table.name}"]  # from its end on, up to the limit
    elif query.tag is not None and query.name is None:
        assert scans == ["SCAN definition"]
    else:
        assert scans == []


def test_the_subflow_runs_and_look_ups_are_found_by_indexes(
    filled: Callable[[int], Path],
) -> None:
    with closing(schema.connect_to_read(filled(10_000))) as connection:
        for sql, marks in ((SUBFLOW_RUNS, 2), (sqlite._LOOK_UP, 2)):
            steps = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (b"",) * marks).fetchall()
            texts = [str(step[3]) for step in steps]
            assert not [text for text in texts if text.startswith("SCAN") and text != "SCAN w"]
