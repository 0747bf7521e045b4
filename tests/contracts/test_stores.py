"""What every store does, whatever it keeps its rows in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from penstock._model.codecs import decode_history
from penstock._model.ids import id_time
from penstock._model.payloads import decode_result, encode_result
from penstock._model.rows import CacheRow
from penstock._stores.port import FoundResult, Pruned, Query, Store
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
from tests.patience import PATIENCE_SECONDS

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENDINGS = ["Completed", "Cached", "Failed", "TimedOut", "Cancelled", "Crashed", "NotReady"]
BEFORE_THE_END = ["Scheduled", "Pending", "Running", "AwaitingRetry", "Retrying"]


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def names_of(history: bytes) -> list[str]:
    return [transition.name for transition in decode_history(history)]


def task_ids(store: Store, query: Query) -> list[bytes]:
    return [found.row.id for found in store.task_runs(query)]


def flow_ids(store: Store, query: Query) -> list[bytes]:
    return [found.row.id for found in store.flow_runs(query)]


# Recording


def test_a_task_run_is_read_back_as_it_was_recorded(store: Store) -> None:
    run = HandTaskRun(task_definition("count", ["a", "b"]), flow_run_id=HandFlowRun().run_id)
    record_completed(store, run, {"n": (1, 2)})
    flush(store)
    (found,) = store.task_runs(Query())
    assert found.row == run.row(3, encode_result({"n": (1, 2)}))
    assert found.definition == run.definition


def test_a_flow_run_is_read_back_as_it_was_recorded(store: Store) -> None:
    run = HandFlowRun(flow_definition("counts", ["a"]), parent_id=HandTaskRun().run_id)
    record_completed(store, run, [1, 2])
    flush(store)
    (found,) = store.flow_runs(Query())
    assert found.row == run.row(3, encode_result([1, 2]))
    assert found.definition == run.definition


def test_what_is_recorded_in_one_go_becomes_one_row_with_the_whole_history(store: Store) -> None:
    run = HandTaskRun()
    record(store, run, "Pending", "Running", "AwaitingRetry", "Retrying", "Failed")
    flush(store)
    (found,) = store.task_runs(Query())
    assert names_of(found.row.history) == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "Failed",
    ]
    assert (found.row.state_type, found.row.state_name, found.row.run_count) == (
        "FAILED",
        "Failed",
        2,
    )


def test_each_state_that_was_flushed_is_seen_with_all_that_came_before(store: Store) -> None:
    run = HandTaskRun()
    names = ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    for length, name in enumerate(names, start=1):
        record(store, run, name)
        flush(store)
        (found,) = store.task_runs(Query())
        assert names_of(found.row.history) == names[:length]
        assert found.row == run.row(length, None)


def test_record_tells_of_the_given_length_even_where_the_run_has_gone_on(store: Store) -> None:
    run = HandTaskRun()
    first = run.enter("Pending")
    run.enter("Running")
    store.record(run, first)
    flush(store)
    (found,) = store.task_runs(Query())
    assert names_of(found.row.history) == ["Pending"]
    assert found.row.state_name == "Pending"


def test_the_newest_entries_of_a_task_are_found_before_and_after_they_are_durable(
    store: Store,
) -> None:
    rows: list[CacheRow] = []
    for number in range(6):
        run = HandTaskRun()
        length = run.complete(number, key=f"key {number}", created_at=float(number))
        assert run.cache_row is not None
        run.cache_row = run.cache_row._replace(task=number % 2, parts=b"%d" % number)
        rows.append(run.cache_row)
        store.record(run, length)
    for _ in range(2):
        assert store.entries_of(1, 10) == [rows[5], rows[3], rows[1]]
        assert store.entries_of(0, 2) == [rows[4], rows[2]]
        assert store.entries_of(2, 10) == []
        flush(store)


def test_a_result_is_kept_only_with_the_final_state(store: Store) -> None:
    run = HandTaskRun()
    run.payload = encode_result("early")
    record(store, run, "Pending", "Running")
    flush(store)
    assert store.payload_of(run.run_id) is None
    record(store, run, "Completed")
    flush(store)
    assert store.payload_of(run.run_id) == encode_result("early")


def test_the_timestamps_and_messages_of_states_come_back_exactly(store: Store) -> None:
    run = HandTaskRun()
    store.record(run, run.enter("Pending"))
    store.record(run, run.enter("Failed", 'naïve "quotes" \N{SNOWMAN} \x00 end'))
    flush(store)
    (found,) = store.task_runs(Query())
    kept = [(t.type, t.name, t.message, t.timestamp) for t in decode_history(found.row.history)]
    assert kept == [(s.type, s.name, s.message, s.timestamp) for s in run.states]


def test_runs_recorded_by_many_threads_at_once_are_all_there(store: Store) -> None:
    runs = [[HandTaskRun() for _ in range(150)] for _ in range(6)]
    together = threading.Barrier(len(runs))

    def produce(mine: list[HandTaskRun]) -> None:
        together.wait()
        for index, run in enumerate(mine):
            record_completed(store, run, index)

    threads = [threading.Thread(target=produce, args=(mine,)) for mine in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush(store)
    found = store.task_runs(Query(limit=10_000))
    assert {f.row.id for f in found} == {run.run_id for mine in runs for run in mine}
    assert {f.row.state_name for f in found} == {"Completed"}
    assert all(len(decode_history(f.row.history)) == 3 for f in found)


def test_one_run_that_cannot_be_encoded_does_not_take_others_with_it(store: Store) -> None:
    """A text with a lone surrogate (a file name, say) has no UTF-8; the store must survive it."""
    before, odd, after = HandTaskRun(), HandTaskRun(), HandTaskRun()
    record_completed(store, before, 1)
    record(store, odd, "Pending")
    with contextlib.suppress(UnicodeEncodeError):  # a store that encodes at once may say so
        store.record(odd, odd.enter("Failed", "cannot open '\udcff.txt'"))
    record_completed(store, after, 2)
    flush(store)
    found = {f.row.id: f.row.state_name for f in store.task_runs(Query())}
    assert found[before.run_id] == found[after.run_id] == "Completed"


def test_one_cache_key_that_cannot_be_encoded_does_not_take_others_with_it(store: Store) -> None:
    odd, after = HandTaskRun(), HandTaskRun()
    record_completed(store, odd, 1, key="file '\udcff.txt'")
    record_completed(store, after, 2, key="k")
    flush(store)
    assert store.look_up("k", now=0.0) == FoundResult(after.run_id, encode_result(2), None)


def test_a_run_is_told_once_that_its_end_is_stored_and_not_before(store: Store) -> None:
    run, other = HandTaskRun(), HandTaskRun()
    record(store, run, "Pending", "Running")
    record(store, other, "Pending")
    flush(store)
    assert (run.settled, other.settled) == (0, 0)
    store.record(run, run.complete("value"))
    flush(store)
    record(store, other, "Running")
    flush(store)
    assert (run.settled, other.settled) == (1, 0)


# Barriers


def test_a_barrier_is_set_when_what_was_recorded_before_can_be_read(store: Store) -> None:
    for count in range(1, 21):
        record(store, HandTaskRun(), "Pending")
        assert store.barrier().wait(PATIENCE_SECONDS)
        assert len(store.task_runs(Query())) == count


def test_barriers_of_many_threads_are_all_set(store: Store) -> None:
    missed: list[int] = []

    def produce() -> None:
        for index in range(40):
            record(store, HandTaskRun(), "Pending")
            if not store.barrier().wait(5):
                missed.append(index)

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed
    assert len(store.task_runs(Query(limit=1000))) == 160


def test_a_barrier_on_a_store_with_nothing_to_write_is_set(store: Store) -> None:
    assert store.barrier().wait(PATIENCE_SECONDS)
    store.check()


def test_a_store_with_little_to_write_asks_nobody_to_wait(store: Store) -> None:
    record(store, HandTaskRun(), "Pending")
    assert store.room() is None


# Look-ups


def test_a_look_up_sees_what_was_recorded_the_moment_before(store: Store) -> None:
    """Fifty results in a row, each looked up before anybody waits for the store."""
    for index in range(50):
        run = HandTaskRun()
        record_completed(store, run, index, key=f"k{index}")
        found = store.look_up(f"k{index}", now=0.0)
        assert found == FoundResult(run.run_id, encode_result(index), None)


def test_a_look_up_finds_what_was_flushed(store: Store) -> None:
    run = HandTaskRun()
    record_completed(store, run, "value", key="k", created_at=5.0, expires_at=10.0)
    flush(store)
    assert store.look_up("k", now=6.0) == FoundResult(run.run_id, encode_result("value"), 10.0)


def test_a_look_up_of_a_key_that_was_never_recorded_finds_nothing(store: Store) -> None:
    record_completed(store, HandTaskRun(), 1, key="k")
    assert store.look_up("other", now=0.0) is None
    flush(store)
    assert store.look_up("other", now=0.0) is None


@pytest.mark.parametrize("flushed", [False, True], ids=["in the queue", "on disk"])
@pytest.mark.parametrize(
    ("now", "is_found"), [(9.9, True), (10.0, False), (10.1, False)], ids=["before", "at", "after"]
)
def test_a_result_is_found_until_it_expires(
    store: Store, flushed: bool, now: float, is_found: bool
) -> None:
    record_completed(store, HandTaskRun(), 1, key="k", expires_at=10.0)
    if flushed:
        flush(store)
    assert (store.look_up("k", now=now) is not None) is is_found


def test_the_newest_result_under_a_key_wins(store: Store) -> None:
    """Before the flush and after it, in one batch or in two."""
    first, second, third = HandTaskRun(), HandTaskRun(), HandTaskRun()
    record_completed(store, first, 1, key="k", created_at=1.0)
    record_completed(store, second, 2, key="k", created_at=2.0)
    newest = FoundResult(second.run_id, encode_result(2), None)
    assert store.look_up("k", now=0.0) == newest
    flush(store)
    assert store.look_up("k", now=0.0) == newest
    record_completed(store, third, 3, key="k", created_at=3.0)
    newest = FoundResult(third.run_id, encode_result(3), None)
    assert store.look_up("k", now=0.0) == newest
    flush(store)
    assert store.look_up("k", now=0.0) == newest


def test_the_newest_result_wins_where_the_run_that_began_first_ends_last(store: Store) -> None:
    slow, quick = HandTaskRun(), HandTaskRun()
    record(store, slow, "Pending", "Running")
    record(store, quick, "Pending", "Running")
    store.record(quick, quick.complete("old", key="k", created_at=1.0))
    store.record(slow, slow.complete("new", key="k", created_at=2.0))
    newest = FoundResult(slow.run_id, encode_result("new"), None)
    assert store.look_up("k", now=0.0) == newest
    flush(store)
    assert store.look_up("k", now=0.0) == newest


def test_an_expired_newer_result_hides_the_older_one_before_and_after_the_flush(
    store: Store,
) -> None:
    record_completed(store, HandTaskRun(), "older", key="k", created_at=1.0)
    flush(store)
    record_completed(store, HandTaskRun(), "newer", key="k", created_at=2.0, expires_at=3.0)
    before = store.look_up("k", now=4.0)
    flush(store)
    after = store.look_up("k", now=4.0)
    assert (before, after) == (None, None)


def test_a_run_without_a_key_is_found_under_none(store: Store) -> None:
    record_completed(store, HandTaskRun(), 1)
    for key in ("", "None"):
        assert store.look_up(key, now=0.0) is None


# Queries

Setup = tuple[HandTaskRun, HandTaskRun, HandTaskRun, HandTaskRun]


@pytest.fixture
def tasks(store: Store) -> Setup:
    """Four task runs of two flow runs at noon and after, oldest first."""
    red, blue = task_definition("red", ["warm", "all"]), task_definition("blue", ["all"])
    flow_a, flow_b = id_at(NOON), id_at(NOON)
    runs = (
        HandTaskRun(red, id_at(NOON), flow_a),
        HandTaskRun(blue, id_at(NOON + hours(1)), flow_a),
        HandTaskRun(red, id_at(NOON + hours(2)), flow_b),
        HandTaskRun(task_definition("green"), id_at(NOON + hours(3)), None),
    )
    record(store, runs[0], "Pending", "Running", "Completed")
    record(store, runs[1], "Pending", "Cached")
    record(store, runs[2], "Pending", "Running", "TimedOut")
    record(store, runs[3], "Pending", "Running")
    flush(store)
    return runs


TASK_QUERIES: dict[str, tuple[Callable[[Setup], Query], list[int]]] = {
    "all": (lambda _: Query(), [3, 2, 1, 0]),
    "run_id": (lambda runs: Query(run_id=runs[1].run_id), [1]),
    "an unknown run_id": (lambda _: Query(run_id=b"\x00" * 16), []),
    "name": (lambda _: Query(name="red"), [2, 0]),
    "an unknown name": (lambda _: Query(name="works"), []),
    "flow_run_id": (lambda runs: Query(flow_run_id=runs[0].flow_run_id), [1, 0]),
    "a state type": (lambda _: Query(states=("COMPLETED",)), [1, 0]),
    "a state name": (lambda _: Query(states=("Cached",)), [1]),
    "several states": (lambda _: Query(states=("FAILED", "Running")), [3, 2]),
    "a tag": (lambda _: Query(tag="all"), [2, 1, 0]),
    "a rarer tag": (lambda _: Query(tag="warm"), [2, 0]),
    "an unknown tag": (lambda _: Query(tag="al"), []),
    "since": (lambda _: Query(since=NOON + hours(1)), [3, 2, 1]),
    "until": (lambda _: Query(until=NOON + hours(1)), [0]),
    "since and until": (lambda _: Query(since=NOON + hours(1), until=NOON + hours(3)), [2, 1]),
    "before": (lambda runs: Query(before=runs[2].run_id), [1, 0]),
    "limit": (lambda _: Query(limit=2), [3, 2]),
    "before and limit": (lambda runs: Query(before=runs[3].run_id, limit=1), [2]),
    "all conditions": (
        lambda runs: Query(
            run_id=runs[0].run_id,
            name="red",
            flow_run_id=runs[0].flow_run_id,
            states=("Completed", "FAILED"),
            tag="warm",
            since=NOON,
            until=NOON + hours(1),
            before=runs[1].run_id,
            limit=5,
        ),
        [0],
    ),
    "conditions that exclude each other": (lambda _: Query(name="red", states=("Cached",)), []),
}


@pytest.mark.parametrize("name", TASK_QUERIES)
def test_task_runs_are_found_by(store: Store, tasks: Setup, name: str) -> None:
    query, expected = TASK_QUERIES[name]
    assert task_ids(store, query(tasks)) == [tasks[index].run_id for index in expected]


FlowSetup = tuple[HandFlowRun, HandFlowRun, HandFlowRun]


@pytest.fixture
def flows(store: Store) -> FlowSetup:
    """A flow run, a subflow run of it, and one of another flow; a minute apart."""
    top = HandFlowRun(flow_definition("top", ["daily"]), id_at(NOON))
    runs = (
        top,
        HandFlowRun(flow_definition("sub"), id_at(NOON + hours(1)), parent_id=top.run_id),
        HandFlowRun(flow_definition("other", ["daily", "big"]), id_at(NOON + hours(2))),
    )
    record(store, runs[0], "Pending", "Running")
    record(store, runs[1], "Pending", "Running", "Completed")
    record(store, runs[2], "Pending", "Running", "Crashed")
    flush(store)
    return runs


FLOW_QUERIES: dict[str, tuple[Callable[[FlowSetup], Query], list[int]]] = {
    "all": (lambda _: Query(), [2, 1, 0]),
    "run_id": (lambda runs: Query(run_id=runs[0].run_id), [0]),
    "name": (lambda _: Query(name="sub"), [1]),
    "parent_id": (lambda runs: Query(parent_id=runs[0].run_id), [1]),
    "a parent without children": (lambda runs: Query(parent_id=runs[1].run_id), []),
    "a state type": (lambda _: Query(states=("CRASHED", "RUNNING")), [2, 0]),
    "a state name": (lambda _: Query(states=("Completed",)), [1]),
    "a tag": (lambda _: Query(tag="daily"), [2, 0]),
    "since": (lambda _: Query(since=NOON + hours(1)), [2, 1]),
    "until": (lambda _: Query(until=NOON + hours(2)), [1, 0]),
    "before": (lambda runs: Query(before=runs[1].run_id), [0]),
    "limit": (lambda _: Query(limit=1), [2]),
}


@pytest.mark.parametrize("name", FLOW_QUERIES)
def test_flow_runs_are_found_by(store: Store, flows: FlowSetup, name: str) -> None:
    query, expected = FLOW_QUERIES[name]
    assert flow_ids(store, query(flows)) == [flows[index].run_id for index in expected]


def test_a_flow_and_a_task_of_one_name_are_told_apart(store: Store) -> None:
    task_run, flow_run = HandTaskRun(task_definition("same")), HandFlowRun(flow_definition("same"))
    record(store, task_run, "Pending")
    record(store, flow_run, "Pending")
    flush(store)
    assert task_ids(store, Query(name="same")) == [task_run.run_id]
    assert flow_ids(store, Query(name="same")) == [flow_run.run_id]


def test_pages_give_every_run_once_newest_first(store: Store) -> None:
    runs = [HandTaskRun(run_id=id_at(NOON + timedelta(seconds=n))) for n in range(25)]
    for run in runs:
        record(store, run, "Pending")
    flush(store)
    pages: list[list[bytes]] = []
    before: bytes | None = None
    while page := task_ids(store, Query(before=before, limit=10)):
        pages.append(page)
        before = page[-1]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [run_id for page in pages for run_id in page] == [run.run_id for run in reversed(runs)]


def test_a_time_in_another_zone_is_the_same_time(store: Store, tasks: Setup) -> None:
    there = (NOON + hours(1)).astimezone(datetime.now().astimezone().tzinfo)
    assert task_ids(store, Query(since=there)) == task_ids(store, Query(since=NOON + hours(1)))


# Payloads


def test_the_payload_of_a_task_run_is_what_it_returned(store: Store) -> None:
    values: list[object] = [None, 7, (1, (2, 3)), {"a": {4, 5}}, "ü", b"\x00\xff"]
    runs = [HandTaskRun() for _ in values]
    for run, value in zip(runs, values, strict=True):
        record_completed(store, run, value)
    flush(store)
    for run, value in zip(runs, values, strict=True):
        payload = store.payload_of(run.run_id)
        assert payload is not None
        again = decode_result(payload, store.load)
        assert again == value and type(again) is type(value)


def test_a_large_result_comes_back_whole(store: Store) -> None:
    run, value = HandTaskRun(), bytes(range(256)) * 1024
    record_completed(store, run, value)
    flush(store)
    payload = store.payload_of(run.run_id)
    assert payload is not None
    assert decode_result(payload, store.load) == value


def test_there_is_no_payload_of_an_unknown_run_or_of_one_without_a_result(store: Store) -> None:
    run = HandTaskRun()
    record(store, run, "Pending", "Running", "Failed")
    flush(store)
    assert store.payload_of(run.run_id) is None
    assert store.payload_of(b"\x01" * 16) is None


# Pruning


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_that_has_ended_is_pruned(store: Store, ending: str) -> None:
    record(store, HandTaskRun(), "Pending", ending)
    record(store, HandFlowRun(), "Pending", ending)
    flush(store)
    assert store.prune(None, keep_cache=False, now=0.0) == Pruned(1, 1, 0)
    assert not store.task_runs(Query()) and not store.flow_runs(Query())


@pytest.mark.parametrize("state", BEFORE_THE_END)
def test_a_run_that_has_not_ended_is_not_pruned(store: Store, state: str) -> None:
    task_run, flow_run = HandTaskRun(), HandFlowRun()
    record(store, task_run, "Pending", state)
    record(store, flow_run, "Pending", state)
    flush(store)
    assert store.prune(None, keep_cache=False, now=0.0) == Pruned(0, 0, 0)
    assert task_ids(store, Query()) == [task_run.run_id]
    assert flow_ids(store, Query()) == [flow_run.run_id]


def test_only_runs_submitted_before_a_time_are_pruned(store: Store) -> None:
    old_task, new_task = HandTaskRun(run_id=id_at(NOON)), HandTaskRun(run_id=id_at(NOON + hours(1)))
    old_flow, new_flow = HandFlowRun(run_id=id_at(NOON)), HandFlowRun(run_id=id_at(NOON + hours(1)))
    for run in (old_task, new_task, old_flow, new_flow):
        record_completed(store, run)
    assert store.prune(NOON + hours(1), keep_cache=False, now=0.0) == Pruned(1, 1, 0)
    assert task_ids(store, Query()) == [new_task.run_id]
    assert flow_ids(store, Query()) == [new_flow.run_id]


def test_pruning_sees_what_was_recorded_the_moment_before(store: Store) -> None:
    for _ in range(20):
        record_completed(store, HandTaskRun())
        assert store.prune(None, keep_cache=True, now=0.0) == Pruned(0, 1, 0)


def test_pruning_keeps_the_runs_that_the_cache_still_gives_out(store: Store) -> None:
    forever, alive, expired, uncached = (HandTaskRun() for _ in range(4))
    record_completed(store, forever, 1, key="forever")
    record_completed(store, alive, 2, key="alive", expires_at=10.0)
    record_completed(store, expired, 3, key="expired", expires_at=5.0)
    record_completed(store, uncached, 4)
    assert store.prune(None, keep_cache=True, now=5.0) == Pruned(0, 2, 1)
    assert set(task_ids(store, Query())) == {forever.run_id, alive.run_id}
    assert store.look_up("forever", now=5.0) == FoundResult(forever.run_id, encode_result(1), None)
    assert store.look_up("alive", now=5.0) == FoundResult(alive.run_id, encode_result(2), 10.0)
    assert store.look_up("expired", now=0.0) is None
    assert store.payload_of(uncached.run_id) is None


def test_pruning_without_the_cache_forgets_the_keys_of_what_it_deletes(store: Store) -> None:
    old, new = HandTaskRun(run_id=id_at(NOON)), HandTaskRun(run_id=id_at(NOON + hours(1)))
    record_completed(store, old, 1, key="old")
    record_completed(store, new, 2, key="new")
    assert store.prune(NOON + hours(1), keep_cache=False, now=0.0) == Pruned(0, 1, 1)
    assert store.look_up("old", now=0.0) is None
    assert store.look_up("new", now=0.0) == FoundResult(new.run_id, encode_result(2), None)


def test_a_run_whose_key_another_took_over_is_pruned(store: Store) -> None:
    first, second = HandTaskRun(), HandTaskRun()
    record_completed(store, first, 1, key="k", created_at=1.0)
    record_completed(store, second, 2, key="k", created_at=2.0)
    assert store.prune(None, keep_cache=True, now=0.0) == Pruned(0, 1, 0)
    assert task_ids(store, Query()) == [second.run_id]


def test_a_pruned_run_is_not_found_by_its_tag_any_more(store: Store) -> None:
    gone = HandTaskRun(task_definition("red", ["warm"]))
    stays = HandTaskRun(task_definition("red", ["warm"]))
    record_completed(store, gone)
    record(store, stays, "Pending")
    store.prune(None, keep_cache=False, now=0.0)
    assert task_ids(store, Query(tag="warm")) == [stays.run_id]


def test_pruning_an_empty_store_deletes_nothing(store: Store) -> None:
    assert store.prune(None, keep_cache=True, now=0.0) == Pruned(0, 0, 0)


def test_recording_goes_on_after_pruning(store: Store) -> None:
    record_completed(store, HandTaskRun())
    store.prune(None, keep_cache=False, now=0.0)
    run = HandTaskRun()
    record_completed(store, run, 5, key="k")
    flush(store)
    assert task_ids(store, Query()) == [run.run_id]
    assert store.look_up("k", now=0.0) is not None


# The cache


def test_one_key_can_be_cleared(store: Store) -> None:
    record_completed(store, HandTaskRun(), 1, key="a")
    record_completed(store, HandTaskRun(), 2, key="b")
    assert store.clear_cache("a") == 1
    assert store.look_up("a", now=0.0) is None
    assert store.look_up("b", now=0.0) is not None
    assert store.clear_cache("a") == 0


def test_all_keys_can_be_cleared_and_the_runs_stay(store: Store) -> None:
    for key in "abc":
        record_completed(store, HandTaskRun(), key, key=key)
    assert store.clear_cache(None) == 3
    assert [store.look_up(key, now=0.0) for key in "abc"] == [None] * 3
    assert len(store.task_runs(Query())) == 3
    assert store.clear_cache(None) == 0


def test_a_key_cleared_can_be_filled_again(store: Store) -> None:
    record_completed(store, HandTaskRun(), 1, key="a")
    store.clear_cache("a")
    run = HandTaskRun()
    record_completed(store, run, 2, key="a")
    assert store.look_up("a", now=0.0) == FoundResult(run.run_id, encode_result(2), None)
    flush(store)
    assert store.look_up("a", now=0.0) == FoundResult(run.run_id, encode_result(2), None)


# Forks


def test_what_is_recorded_while_a_store_pauses_is_there_after_it(store: Store) -> None:
    before, meanwhile = HandTaskRun(), HandTaskRun()
    record_completed(store, before, 1, key="before")
    flush(store)
    for _ in range(3):
        store.pause()
        record(store, meanwhile, "Pending")
        store.resume()
    store.pause()
    record(store, meanwhile, "Running")
    store.record(meanwhile, meanwhile.complete(2, key="meanwhile"))
    store.resume()
    assert store.look_up("before", now=0.0) is not None
    assert store.look_up("meanwhile", now=0.0) is not None
    flush(store)
    assert task_ids(store, Query()) == [meanwhile.run_id, before.run_id]
    assert store.payload_of(meanwhile.run_id) == encode_result(2)


def test_threads_that_record_read_and_wait_while_a_store_pauses_are_only_held_up(
    store: Store,
) -> None:
    stop, counts = threading.Event(), list[int]()

    def work() -> None:
        count = 0
        while not stop.is_set():
            run = HandTaskRun()
            record_completed(store, run, count, key=f"k{count % 7}")
            assert store.look_up(f"k{count % 7}", now=0.0) is not None
            if count % 5 == 0:
                flush(store)
                assert store.task_runs(Query(run_id=run.run_id))
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        store.pause()
        store.resume()
    stop.set()
    for thread in threads:
        thread.join(10)
    assert len(counts) == 3
    flush(store)
    assert len(store.task_runs(Query(limit=100_000))) == sum(counts)


# Closing


def test_a_store_may_be_closed_twice(store: Store) -> None:
    record_completed(store, HandTaskRun())
    store.close()
    store.close()
    store.check()


def test_after_closing_a_barrier_is_set_and_nobody_is_held_up(store: Store) -> None:
    record_completed(store, HandTaskRun())
    store.close()
    assert store.barrier().wait(PATIENCE_SECONDS)
    assert store.room() is None


def test_run_ids_tell_when_they_were_made() -> None:
    """What the queries by time rest on."""
    assert id_time(id_at(NOON)) == NOON
    assert id_at(NOON) < id_at(NOON + timedelta(milliseconds=1))


def test_a_query_is_told_apart_by_all_its_fields() -> None:
    """Every field of a query is the subject of a test of this module."""
    named = {"run_id", "name", "flow_run_id", "parent_id", "states", "tag"}
    paged = {"since", "until", "before", "limit"}
    assert {field.name for field in msgspec.structs.fields(Query)} == named | paged
