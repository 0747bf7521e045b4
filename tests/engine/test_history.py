"""The history: everything that happened can be read, by every condition, and deleted."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import flow, history, task
from penstock.exceptions import ConfigurationError
from penstock.states import State, StateType
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


@task(tags=["slow", "io"])
def one() -> int:
    return 1


@task
def add(x: int, y: int) -> int:
    return x + y


@task(tags=["io"])
def bad() -> None:
    raise ValueError("no")


@flow(version="v1", tags=["nightly"])
def child(x: int) -> int:
    return add(x, 1)


@flow
def parent(x: int, note: str = "n") -> int:
    first = one.submit()
    second = add.submit(first, x)
    bad.submit()
    return add.submit(second, [first][0]).result() + child(2)


def test_a_run_is_read_with_its_graph_states_and_attempts() -> None:
    assert parent(5) == 10
    graph = history.graph(history.flow_runs(flow="parent")[0])
    assert graph is not None
    assert [run.task for run in graph.task_runs] == ["one", "add", "bad", "add"]
    first, second, failed, third = graph.task_runs
    assert graph.edges == ((first.id, second.id), (second.id, third.id), (first.id, third.id))
    assert second.upstream_ids == (first.id,)
    assert [run.flow for run in graph.subflow_runs] == ["child"]
    sub = graph.subflow_runs[0]
    assert sub.parent_run_id == graph.flow_run.id
    assert (sub.version, set(sub.tags), sub.parameters) == ("v1", {"nightly"}, {"x": 2})
    assert graph.flow_run.parameters == {"x": 5, "note": "n"}
    assert [state.name for state in first.states] == ["Pending", "Running", "Completed"]
    assert [run.run_count for run in graph.task_runs] == [1, 1, 1, 1]
    assert third.state.result() == 7
    assert third.state.task_run_id == third.id
    assert graph.flow_run.state.result() == 10
    assert all(run.flow_run_id == run.parent_run_id == graph.flow_run.id for run in graph.task_runs)
    assert failed.name.startswith("bad-")
    with pytest.raises(Exception, match="ValueError: no"):
        failed.state.result()
    times = [state.timestamp for state in first.states]
    assert times == sorted(times)
    assert abs(first.created_at - times[0]) < timedelta(seconds=1)


def test_runs_are_found_by_every_condition() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    parent(1)
    child(1)
    later = datetime.now(UTC) + timedelta(seconds=1)

    def tasks(**conditions: Any) -> int:
        return len(history.task_runs(**conditions))

    def flows(**conditions: Any) -> int:
        return len(history.flow_runs(**conditions))

    assert (flows(), tasks()) == (3, 6)
    assert (flows(flow="child"), flows(flow="nope"), tasks(task="add")) == (2, 0, 4)
    assert (tasks(state="FAILED"), tasks(state=StateType.FAILED), tasks(state="Failed")) == (
        1,
        1,
        1,
    )
    assert tasks(state=["FAILED", "COMPLETED"]) == 6
    assert (tasks(tag="io"), tasks(tag="slow"), flows(tag="nightly")) == (2, 1, 2)
    assert (tasks(since=before), tasks(since=later), tasks(until=later)) == (6, 0, 6)
    assert tasks(until=before) == 0
    newest_parent = history.flow_runs(flow="parent")[0]
    assert flows(parent=newest_parent.id) == 1
    assert tasks(flow_run=newest_parent) == 4
    assert tasks(flow_run=newest_parent.id, task="add", state="COMPLETED", tag="io") == 0


def test_pages_follow_one_another_newest_first() -> None:
    for x in range(7):
        add(x, 0)
    seen: list[Any] = []
    page = history.task_runs(limit=3)
    while page:
        seen += [run.state.result() for run in page]
        page = history.task_runs(limit=3, before=page[-1])
    assert seen == [6, 5, 4, 3, 2, 1, 0]


def test_one_run_is_found_by_its_id() -> None:
    state = one.call_state()
    run = history.task_run(str(state.task_run_id))
    assert run is not None
    assert run.state.result() == 1
    assert history.flow_run(run.id) is None
    assert history.task_run("00000000-0000-0000-0000-000000000000") is None
    with pytest.raises(ConfigurationError, match="must be a UUID, or its text, not 'x'"):
        history.task_run("x")


def test_conditions_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"task_runs\(\): there is no state 'failed'"):
        history.task_runs(state="failed")
    with pytest.raises(
        ConfigurationError, match=r"flow_runs\(\): limit must be an integer of at least 1, not 0\."
    ):
        history.flow_runs(limit=0)
    with pytest.raises(ConfigurationError, match="either older_than or until"):
        history.prune()


@pytest.mark.parametrize(
    ("find", "given", "message"),
    [
        (
            history.task_runs,
            {"task": one},
            r"task_runs\(\): task must be a string, not <Task 'one'>",
        ),
        (history.flow_runs, {"flow": 5}, r"flow_runs\(\): flow must be a string"),
        (history.task_runs, {"tag": 5}, "tag must be a string"),
        (
            history.task_runs,
            {"state": 5},
            r"state must be a state type, or the name of a state, not 5",
        ),
        (history.flow_runs, {"state": ["FAILED", 5]}, "state must be .*, not 5"),
        (history.task_runs, {"since": "2024"}, "since must be a datetime, not '2024'"),
        (history.flow_runs, {"until": 5}, "until must be a datetime"),
        (history.task_runs, {"before": "x"}, "before must be a run of the history, or a UUID"),
        (history.task_runs, {"flow_run": "x"}, "flow_run must be a run"),
        (history.flow_runs, {"parent": "x"}, "parent must be a run"),
        (history.flow_runs, {"limit": "5"}, "limit must be an integer of at least 1, not '5'"),
        (
            history.prune,
            {"older_than": 30},
            r"prune\(\): older_than must be a timedelta \(until takes a datetime\), not 30",
        ),
        (history.prune, {"older_than": datetime.now(UTC)}, "older_than must be a timedelta"),
        (history.prune, {"until": "2024"}, "until must be a datetime"),
        (history.graph, {"run": 5}, r"graph\(\): run_id must be a UUID, or its text, not 5"),
    ],
)
def test_a_condition_of_another_type_is_refused_by_name(
    find: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        find(**given)


def test_pruning_takes_a_time_without_a_zone_for_a_local_one() -> None:
    one()
    now = datetime.now()  # noqa: DTZ005  # that is what is meant
    assert history.prune(until=now - timedelta(minutes=1)).task_runs == 0
    assert history.prune(until=now + timedelta(minutes=1)).task_runs == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FAILD", "FAILED"),
        ("CACHED", "Cached"),
        ("Canceled", "Cancelled"),
        ("timedout", "TimedOut"),
        ("Complete", "Completed"),
        ("", None),
    ],
)
def test_a_misspelt_state_is_refused(name: str, meant: str | None) -> None:
    """Whatever else is asked for, and among several."""
    wrong = re.escape(
        f"there is no state {name!r}" + (f" (did you mean {meant}?)" if meant else "")
    )
    for find in (history.task_runs, history.flow_runs):
        with pytest.raises(ConfigurationError, match=wrong):
            find(state=["RUNNING", name], tag="io")


@pytest.mark.parametrize("name", ["Complete", "SKIPPED", "Rejected"])
def test_states_made_by_hand_are_found_by_their_names(name: str) -> None:
    @task
    def made_by_hand() -> State[int]:
        return State(StateType.COMPLETED, name, None, datetime.now(UTC), _value=1)

    assert history.task_runs(state="Rejected") == []
    made_by_hand.call_state()
    assert [run.state.name for run in history.task_runs(state=name)] == [name]
    assert history.task_runs(state=name, tag="io") == []


def test_results_come_back_with_their_type(run_loop: RunLoop) -> None:
    values: list[Any] = [
        (1, [2, {3}]),
        {"a": (1,)},
        frozenset({1}),
        b"x",
        2**70,
        1.5,
        None,
        True,
        datetime(2026, 1, 1, tzinfo=UTC),
        "x" * 200_000,
        "\ud800",
    ]

    @task
    def echo(index: int) -> Any:
        return values[index]

    @flow
    async def f() -> None:
        for future in echo.map(range(len(values))):
            await future

    run_loop(f)
    stored = [run.state.result() for run in history.task_runs(task="echo")][::-1]
    assert stored == values
    assert [type(value) for value in stored] == [type(value) for value in values]


def test_results_can_be_left_out_of_the_history() -> None:
    @task(persist_result=False)
    def secret() -> str:
        return "secret"

    assert secret() == "secret"
    state = history.task_runs(task="secret")[0].state
    with pytest.raises(Exception, match="persist_result is False"):
        state.result()


def test_old_runs_are_pruned_and_everything_is_cleared() -> None:
    parent(1)
    assert history.prune(older_than=timedelta(hours=1)) == (0, 0, 0)
    pruned = history.prune(until=datetime.now(UTC) + timedelta(seconds=1))
    assert (pruned.flow_runs, pruned.task_runs) == (2, 5)
    assert history.flow_runs() == []
    one()
    assert history.clear().task_runs == 1
    assert history.task_runs() == []


def test_unfinished_runs_are_in_the_history() -> None:
    @flow
    def f() -> list[str]:
        return [run.state.name for run in history.flow_runs(flow="f")]

    assert f() == ["Running"]
