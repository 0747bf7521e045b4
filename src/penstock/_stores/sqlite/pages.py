"""Pages of the history: each is a merge of walks along one index, from the newest run on.

An index whose first columns are held fixed gives the ids of the runs that have them in their order.
So a walk costs one search of the index and a step for each run that it gives, however many there
are in the file. A page that asks for a name takes a walk for each version of the definition, one
that asks for a state a walk for each name of such a state, and one that asks for both takes the
product.

Two conditions are held against each run on the way, as no index that all runs write to has their
state. One is that for `COMPLETED` or `Completed`, which nearly all runs meet. The other is that for
a name, a tag or a flow run where a state is asked for that runs are in on their way: few are.

All of it is steps: which walks there are is asked of the database first, then their rows.

Why: docs/inside/store.md, "A page is a merge of walks".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from penstock._model.definition import RunKind
from penstock._model.ids import id_bound
from penstock._stores.port import Query
from penstock._stores.sqlite.schema import UNUSUAL, UNUSUAL_END
from penstock._stores.sqlite.statements import Row, Statement, Steps
from penstock.states import StateType


class Table(NamedTuple):
    """What tells the two tables of runs apart.

    Attributes:
        name: of the table.
        kind: of its runs.
        definition: the word for their definition in the names of columns and indexes.
        owner: the word for the run that they belong to.
    """

    name: str
    kind: RunKind
    definition: str
    owner: str


FLOW_RUNS: Final = Table("flow_run", RunKind.FLOW, "flow", "parent")
TASK_RUNS: Final = Table("task_run", RunKind.TASK, "task", "flow_run")

SUBFLOW_RUNS: Final = """
SELECT r.*, d.* FROM (
    SELECT id FROM flow_run INDEXED BY flow_run_by_parent WHERE parent_id = ?
    UNION ALL
    SELECT f.id FROM task_run t INDEXED BY task_run_by_flow_run
    CROSS JOIN flow_run f INDEXED BY flow_run_by_parent ON f.parent_id = t.id
    WHERE t.flow_run_id = ?
) w CROSS JOIN flow_run r ON r.id = w.id CROSS JOIN definition d ON d.id = r.flow_id ORDER BY r.id
"""
"""The flow runs called by a flow run or by its task runs; the values are its id, twice."""

_USUAL: Final = frozenset({"COMPLETED", "Completed"})
_ON_THE_WAY: Final = frozenset({"SCHEDULED", "PENDING", "RUNNING"})
_WALKS_A_STATEMENT: Final = 50
"""SQLite takes up to 500, but each row passes through all of them; a page rarely needs ten."""


class _State(NamedTuple):
    type: str
    name: str


class Condition(NamedTuple):
    """A part of a WHERE.

    Attributes:
        text: the part, with a mark for each value.
        values: in the order of the marks.
    """

    text: str
    values: Sequence[object] = ()


class Walk(NamedTuple):
    """A way along an index, from the newest run on.

    Attributes:
        along: the name of the index after that of the table; "": the ids themselves.
        conditions: what the first columns of the index have.
    """

    along: str
    conditions: Sequence[Condition]


def page(table: Table, query: Query) -> Steps[list[Row]]:
    """The rows of a page, each followed by that of its definition, newest first."""
    walks, bounds = (yield from _walks(table, query)), list(_bounds(query))
    rows: list[Row] = []
    for start in range(0, len(walks), _WALKS_A_STATEMENT):
        group = walks[start : start + _WALKS_A_STATEMENT]
        rows += yield _rows_of(table, [_select(table, walk, bounds) for walk in group], query.limit)
    rows.sort(key=_id_of, reverse=True)
    return rows[: query.limit]


def _id_of(row: Row) -> bytes:
    run_id: bytes = row[0]
    return run_id


def _select(table: Table, walk: Walk, bounds: Sequence[Condition]) -> Statement:
    index = f"INDEXED BY {table.name}_{walk.along}" if walk.along else "NOT INDEXED"
    conditions = [*walk.conditions, *bounds]
    where = " AND ".join(condition.text for condition in conditions) or "1"
    values = [value for condition in conditions for value in condition.values]
    return Statement(f"SELECT id FROM {table.name} {index} WHERE {where}", values)  # noqa: S608  # texts of this module


def _rows_of(table: Table, walks: Sequence[Statement], limit: int) -> Statement:
    # The joins are CROSS, as SQLite keeps their order then; and it merges the walks in step.
    sql = (
        "SELECT r.*, d.* "  # noqa: S608  # texts of this module
        f"FROM ({' UNION ALL '.join(walk.sql for walk in walks)} ORDER BY id DESC LIMIT ?) w "
        f"CROSS JOIN {table.name} r ON r.id = w.id "
        f"CROSS JOIN definition d ON d.id = r.{table.definition}_id"
    )
    return Statement(sql, [*(value for walk in walks for value in walk.values), limit])


# The walks


def _walks(table: Table, query: Query) -> Steps[list[Walk]]:
    """Those that give all runs of a page between them, and none of them twice."""
    owner, definitions = _owner(table, query), (yield from _definitions(table, query))
    if query.states and _USUAL.isdisjoint(query.states):
        states = yield from _matching_states(table, query)
        by_state = [_walks_of_state(table, state, owner, definitions) for state in states]
        return [walk for walks in by_state for walk in walks]
    index = _index(table, owner, definitions)
    return [
        Walk(index, [*owner, *definition, *_state_filter(query)])
        for definition in _each_of(table, definitions)
    ]


def _walks_of_state(
    table: Table, state: _State, owner: Sequence[Condition], definitions: Collection[int] | None
) -> Iterator[Walk]:
    has_state = Condition("state_type = ? AND state_name = ?", state)
    index = _index(table, owner, definitions)
    if index and _has_entries(state):
        for definition in _each_of(table, definitions):
            conditions = [*owner, *definition, has_state, Condition(UNUSUAL_END)]
            yield Walk(f"{index}_state", conditions)
    elif definitions is None or definitions:
        one_of = _one_of(table, definitions)
        yield Walk("by_state", [has_state, Condition(UNUSUAL), *owner, *one_of])


def _has_entries(state: _State) -> bool:
    """Whether the indexes by definition or owner, and state, have the runs in this state."""
    return state.name != "Completed" and state.type not in _ON_THE_WAY


def _index(table: Table, owner: Sequence[Condition], definitions: Collection[int] | None) -> str:
    if owner:
        return f"by_{table.owner}"
    return "" if definitions is None else f"by_{table.definition}"


def _each_of(table: Table, definitions: Collection[int] | None) -> Iterator[Sequence[Condition]]:
    """For each walk its definition; None: one walk, whatever the definition."""
    if definitions is None:
        yield ()
        return
    for id_ in definitions:
        yield (Condition(f"{table.definition}_id = ?", (id_,)),)


def _one_of(table: Table, definitions: Collection[int] | None) -> Sequence[Condition]:
    """For a walk on which all definitions are, in one."""
    if definitions is None:
        return ()
    ids = ",".join(map(str, definitions))  # there may be more than SQLite takes values
    return (Condition(f"{table.definition}_id IN ({ids})"),)


# What the walks hold fixed


def _owner(table: Table, query: Query) -> Sequence[Condition]:
    owner_id = query.flow_run_id if table.kind is RunKind.TASK else query.parent_id
    return () if owner_id is None else (Condition(f"{table.owner}_id = ?", (owner_id,)),)


def _definitions(table: Table, query: Query) -> Steps[Collection[int] | None]:
    """The definitions whose runs may be on the page; None: all."""
    owner = _owner(table, query)
    used = (yield from _used_definitions(table, owner)) if owner else None
    if query.name is None and query.tag is None:
        return used
    wanted = yield from _wanted_definitions(table, query)
    return wanted if used is None else wanted & used


def _wanted_definitions(table: Table, query: Query) -> Steps[set[int]]:
    """Those with the name and the tag; a run has the tags of its definition."""
    sql, values = "SELECT id, tags FROM definition WHERE kind = ?", [table.kind.value]
    if query.name is not None:
        sql, values = f"{sql} AND name = ?", [*values, query.name]
    definitions = yield Statement(sql, values)
    return {
        id_
        for id_, tags in definitions
        if query.tag is None or query.tag in msgspec.json.decode(tags)
    }


def _used_definitions(table: Table, owner: Sequence[Condition]) -> Steps[set[int]]:
    """Those of the runs that belong to this one."""
    column = f"{table.definition}_id"
    ((has_owner, owner_id),) = owner
    sql = (
        f"SELECT {column} FROM {table.name} INDEXED BY {table.name}_by_{table.owner} "  # noqa: S608  # texts of this module
        f"WHERE {has_owner} AND {column} > ? ORDER BY {column} LIMIT 1"
    )
    rows = yield from _each(sql, owner_id, (-1,))
    return {id_ for (id_,) in rows}


def _matching_states(table: Table, query: Query) -> Steps[list[_State]]:
    """The states other than Completed that runs are in, and that are asked for."""
    sql = (
        f"SELECT state_name FROM {table.name} INDEXED BY {table.name}_by_state "  # noqa: S608  # texts of this module
        f"WHERE {UNUSUAL} AND state_type = ? AND state_name > ? ORDER BY state_name LIMIT 1"
    )
    found: list[_State] = []
    for type_ in StateType:
        names = yield from _each(sql, (type_.value,), ("",))
        found += [_State(type_.value, name) for (name,) in names]
    return [state for state in found if state.type in query.states or state.name in query.states]


def _each(sql: str, fixed: Sequence[object], least: Row) -> Steps[list[Row]]:
    """What is next in an index, again and again: a search for each value, however often it is."""
    found: list[Row] = []
    while following := (yield Statement(sql, (*fixed, *(found[-1] if found else least)))):
        found += following
    return found


# What holds for every walk


def _bounds(query: Query) -> Iterator[Condition]:
    """One bound at either end, as SQLite begins a walk at one and holds others against each run."""
    if query.run_id is not None:
        yield Condition("id = ?", (query.run_id,))
    if query.since is not None:
        yield Condition("id >= ?", (id_bound(query.since),))
    ends = [] if query.until is None else [id_bound(query.until)]
    ends += [] if query.before is None else [query.before]
    if ends:
        yield Condition("id < ?", (min(ends),))


def _state_filter(query: Query) -> Sequence[Condition]:
    if not query.states:
        return ()
    marks = ",".join("?" * len(query.states))
    either = f"(state_type IN ({marks}) OR state_name IN ({marks}))"
    return (Condition(either, (*query.states, *query.states)),)
