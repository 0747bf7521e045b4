"""Caching: which key a run has, who computes it, and what a hit and a miss leave behind."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from penstock import Flow, Task, TaskRunContext
from penstock._caching.keys import UnhashableParameter, task_input_hash
from penstock._model.ids import to_uuid
from penstock._model.payloads import decode_result, referenced_run
from penstock._model.rows import CacheHit, CacheRow
from penstock._rules.effects import (
    DeadlinePassed,
    Error,
    Evaluate,
    Interrupted,
    Invoke,
    LookUp,
    Outcome,
    Value,
)
from penstock._rules.task_run import TaskRun
from penstock.exceptions import ConfigurationError
from penstock.states import Completed
from penstock.states import Failed as FailedState
from tests.rules.play import BAD_CODE, START, Played, Stage, flow_run, names, task_run, then, work

MISS = [*("Pending", "acquire", "invoke"), "look up", "claim", "look up", "Running", "invoke"]
HIT = ["Pending", "acquire", "invoke", "look up", "Cached"]
UNCACHED = ["Pending", "acquire", "invoke", "Running", "invoke", "Completed"]


def keyed(key: object = "the key", **options: Any) -> Task[..., Any]:
    """A task whose runs have this cache key."""
    return Task[..., Any](work, cache_key_fn=lambda _context, _parameters: key, **options)


def computed(stage: Stage, task: Task[..., Any], *outcomes: Outcome) -> Played:
    """A run of the task; after its key function its attempts end so."""
    return stage.play(task_run(task), invoke=[None, *outcomes])


# Keys


def test_a_task_without_a_key_function_asks_for_nothing() -> None:
    assert "look up" not in Stage().play(task_run(Task[..., Any](work))).steps


def test_no_key_means_uncached() -> None:
    stage = Stage()
    assert computed(stage, keyed(None), Value(1)).steps == UNCACHED
    assert stage.cache == {}
    assert stage.warnings == []


@pytest.mark.parametrize(
    ("key", "text"),
    [(4, "4"), ("4", "4"), ("", ""), (0, "0"), (False, "False"), ((1, 2), "(1, 2)")],
)
def test_a_key_that_is_no_text_is_turned_into_one(key: object, text: str) -> None:
    """The spec's example returns the sum of its inputs; 0 and the empty text are keys as well."""
    stage = Stage()
    played = computed(stage, keyed(key), Value(1))
    assert [look_up.key for look_up in played.effects_of(LookUp)] == [text, text]
    assert set(stage.cache) == {text}


def test_a_key_that_is_an_odd_file_name_can_be_looked_up() -> None:
    """No database takes a text with a lone surrogate; two such names are still two keys."""
    stage = Stage()
    for number, name in enumerate(["\udce4.txt", "\udcf6.txt"]):
        for look_up in computed(stage, keyed(name), Value(number)).effects_of(LookUp):
            assert look_up.key.encode().decode() == look_up.key
    assert stage.play(task_run(keyed("\udce4.txt"))).state.result() == 0
    assert stage.play(task_run(keyed("\udcf6.txt"))).state.result() == 1


def test_the_key_function_gets_the_run_and_its_arguments_by_name() -> None:
    seen: list[tuple[TaskRunContext, dict[str, Any]]] = []

    def add(nums: list[int], base: int = 10) -> int:
        return sum(nums) + base

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> int:
        seen.append((context, parameters))
        return sum(parameters["nums"])

    task = Task[..., Any](add, cache_key_fn=key)
    run = task_run(task, [2, 2])
    played = Stage().play(run)
    ((context, parameters),) = seen
    assert (context.task, context.task_run.id) == (task, run.id)
    assert context.parameters == parameters == {"nums": [2, 2], "base": 10}
    assert played.state.result() == 14


def test_the_key_is_of_the_values_that_the_futures_gave() -> None:
    stage = Stage()
    seen: list[object] = []
    task = Task[..., Any](work, cache_key_fn=lambda _, parameters: seen.append(parameters["args"]))
    upstream = stage.ended("Completed", value=5)
    stage.play(task_run(task, [upstream.state]))
    assert seen == [([5],)]


def test_a_key_function_that_raises_leaves_the_run_uncached_and_warns() -> None:
    stage = Stage()
    played = stage.play(task_run(keyed()), invoke=[Error(BAD_CODE), Value(1)])
    assert played.steps == UNCACHED
    assert stage.warnings == [("runs uncached", BAD_CODE)]
    assert stage.cache == {}


def test_a_parameter_that_cannot_be_hashed_leaves_the_run_uncached_and_is_named() -> None:
    def hold(lock: object, number: int) -> int:
        return number

    stage = Stage()
    task = Task[..., Any](hold, cache_key_fn=task_input_hash)
    assert stage.play(task_run(task, threading.Lock(), 5)).steps == UNCACHED
    ((what, error),) = stage.warnings
    assert what == "runs uncached"
    assert isinstance(error, UnhashableParameter)
    assert error.parameter == "lock"


class Unprintable:
    """A key that cannot be turned into a text."""

    def __str__(self) -> str:
        raise BAD_CODE


def test_a_key_that_cannot_be_turned_into_a_text_leaves_the_run_uncached_and_warns() -> None:
    stage = Stage()
    assert computed(stage, keyed(Unprintable()), Value(1)).steps == UNCACHED
    assert stage.warnings == [("runs uncached", BAD_CODE)]


def test_the_key_is_computed_in_no_time_limit_of_the_code() -> None:
    """`timeout_seconds` is for the attempts."""
    run = task_run(keyed(timeout_seconds=5))
    played = Stage().play(run)
    called = [type(effect) for effect in played.effects if isinstance(effect, Evaluate | Invoke)]
    assert called == [Evaluate, Invoke], "the limit holds for an Invoke alone"


# Hits and misses


def test_a_miss_claims_the_key_and_stores_the_result_under_it() -> None:
    stage = Stage()
    played = computed(stage, keyed(), Value(42))
    assert played.steps == [*MISS, "Completed"]
    row, payload = stage.cache["the key"]
    assert row == CacheRow("the key", played.run.run_id, START.timestamp(), None)
    assert decode_result(payload, None) == 42
    assert played.state.details.cache_key == "the key"
    assert played.state.details.cache_expiration is None


def test_a_hit_ends_cached_with_the_earlier_result_and_calls_nothing() -> None:
    stage = Stage()
    first = computed(stage, keyed(), Value(42))
    second = stage.play(task_run(keyed()))
    assert second.steps == HIT
    assert names(second.run) == ["Pending", "Cached"]
    assert str(second.state) == "Cached(None, type=COMPLETED)"
    assert second.state.result() == 42
    assert second.run.run_count == 0
    details = second.state.details
    assert (details.cache_key, details.cached_from) == ("the key", to_uuid(first.run.run_id))


def test_a_hit_refers_to_the_earlier_result_and_does_not_renew_it() -> None:
    stage = Stage()
    first = computed(stage, keyed(cache_expiration=60), Value(42))
    stage.clock.advance(59)
    second = stage.play(task_run(keyed(cache_expiration=60)))
    assert second.run.payload is not None
    assert referenced_run(second.run.payload) == first.run.run_id
    assert second.run.cache_row is None
    stage.clock.advance(2)
    assert computed(stage, keyed(), Value(43)).steps == [*MISS, "Completed"]


def test_a_hit_serves_a_run_with_another_expiration() -> None:
    """The look-up knows when an entry ends; the task that asks has no say in it."""
    stage = Stage()
    computed(stage, keyed(cache_expiration=timedelta(minutes=1)), Value(42))
    stage.clock.advance(30)
    hit = stage.play(task_run(keyed(cache_expiration=1)))
    assert hit.steps == HIT
    assert hit.state.details.cache_expiration == START + timedelta(seconds=60)


@pytest.mark.parametrize(("expiration", "end"), [(None, None), (90, 90.0), (timedelta(1), 86400.0)])
def test_the_entry_ends_its_lifetime_after_the_result_was_there(
    expiration: float | timedelta | None, end: float | None
) -> None:
    """The lifetime counts from the end of the run, not from its start."""
    stage = Stage()
    run = task_run(keyed(cache_expiration=expiration))
    stage.play(run, invoke=[None, then(lambda: stage.clock.advance(1000), Value(1))])
    done = START + timedelta(seconds=1000)
    row, _payload = stage.cache["the key"]
    assert row.created_at == done.timestamp()
    assert row.expires_at == (None if end is None else done.timestamp() + end)
    expires = run.state.details.cache_expiration
    assert expires == (None if end is None else done + timedelta(seconds=end))


def test_an_expired_entry_is_computed_again_and_replaced() -> None:
    stage = Stage()
    task = keyed(cache_expiration=60)
    computed(stage, task, Value("old"))
    stage.clock.advance(60)
    assert computed(stage, task, Value("new")).steps == [*MISS, "Completed"]
    assert stage.play(task_run(task)).state.result() == "new"


def test_the_rules_take_what_the_look_up_finds_and_do_not_judge_it() -> None:
    """Whether an entry has expired is decided in one place, the store."""
    stage = Stage()
    found = CacheHit(b"1" * 16, 42, START.timestamp() - 1)
    assert stage.play(task_run(keyed()), look_up=[Value(found)]).steps == HIT
    computed(stage, keyed(), Value(1))
    missed = stage.play(task_run(keyed()), look_up=[Value(None), Value(None)])
    assert missed.steps == [*MISS, "Completed"]


def test_different_keys_do_not_meet() -> None:
    stage = Stage()
    computed(stage, keyed("one"), Value(1))
    assert computed(stage, keyed("two"), Value(2)).steps == [*MISS, "Completed"]


def test_refresh_cache_computes_anew_and_stores_the_new_result() -> None:
    stage = Stage()
    computed(stage, keyed(), Value("old"))
    assert computed(stage, keyed(refresh_cache=True), Value("new")).steps == UNCACHED
    assert stage.play(task_run(keyed())).state.result() == "new"


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (Error(BAD_CODE), "Failed"),
        (DeadlinePassed(), "TimedOut"),
        (Interrupted(), "Cancelled"),
        (Interrupted(SystemExit(3)), "Crashed"),
        (Value(FailedState("no luck")), "Failed"),
    ],
)
def test_only_what_completed_is_cached(outcome: Outcome, name: str) -> None:
    stage = Stage()
    played = computed(stage, keyed(timeout_seconds=1), outcome)
    assert played.steps == [*MISS, name]
    assert played.run.cache_row is None
    assert played.state.details.cache_key is None
    assert stage.cache == {}


def test_a_completed_state_made_by_hand_is_cached_with_its_data() -> None:
    stage = Stage()
    computed(stage, keyed(), Value(Completed("fine", data=42)))
    assert stage.play(task_run(keyed())).state.result() == 42


def test_a_task_that_completes_at_the_second_attempt_is_cached() -> None:
    stage = Stage()
    played = computed(stage, keyed(retries=1), Error(BAD_CODE), Value(42))
    assert played.steps == [
        *MISS, "AwaitingRetry", "acquire", "Retrying", "invoke", "Completed"
    ]  # fmt: skip
    assert stage.play(task_run(keyed())).state.result() == 42


def test_a_cached_value_of_none_is_a_hit() -> None:
    stage = Stage()
    computed(stage, keyed(), Value(None))
    hit = stage.play(task_run(keyed()))
    assert hit.steps == HIT
    assert hit.state.result() is None


def test_with_strict_durability_a_hit_is_on_disk_before_anyone_sees_it() -> None:
    stage = Stage(strict=True)
    computed(stage, keyed(), Value(1))
    assert stage.play(task_run(keyed())).steps == [*HIT, "commit"]


# One owner at a time


def waits_for(stage: Stage, owner: TaskRun, *outcomes: Outcome) -> Played:
    """A run whose key is being computed by `owner`, which then ends so."""

    def owner_ends() -> None:
        computed_by_owner = stage.play(owner, invoke=[None, *outcomes])
        assert computed_by_owner.run.is_set()

    return stage.play(task_run(keyed()), claim=[Value(owner)], wait=[owner_ends])


def test_a_run_waits_for_the_owner_of_its_key_and_takes_its_result() -> None:
    stage = Stage()
    owner = task_run(keyed())
    played = waits_for(stage, owner, Value(42))
    assert played.steps == [*MISS[:5], "wait", "acquire", "look up", "Cached"]
    assert played.state.details.cached_from == owner.id
    assert played.state.result() == 42


@pytest.mark.parametrize(
    "outcome",
    [Error(BAD_CODE), Interrupted(), Interrupted(SystemExit(3)), Value(lambda: "not stored")],
    ids=["failed", "cancelled", "crashed", "not stored"],
)
def test_the_owner_leaves_nothing_and_the_next_run_claims_the_key(outcome: Outcome) -> None:
    """Whether it failed, was cancelled, crashed, or returned what cannot be stored."""
    stage = Stage()
    played = waits_for(stage, task_run(keyed()), outcome)
    computes = ["claim", "look up", "Running", "invoke", "Completed"]
    assert played.steps == [*MISS[:5], "wait", "acquire", "look up", *computes]
    assert stage.cache["the key"][0].run_id == played.run.run_id


def test_a_run_waits_for_one_owner_after_another() -> None:
    stage = Stage()
    owners = [task_run(keyed()), task_run(keyed())]
    ends = [
        lambda: stage.play(owners[0], invoke=[None, Error(BAD_CODE)]),
        lambda: stage.play(owners[1], invoke=[None, Value(42)]),
    ]
    played = stage.play(task_run(keyed()), claim=[Value(owners[0]), Value(owners[1])], wait=ends)
    assert played.steps == [
        *MISS[:5], "wait", "acquire", "look up", "claim", "wait", "acquire", "look up", "Cached"
    ]  # fmt: skip


def test_an_owner_that_ended_between_look_up_and_claim_is_found() -> None:
    """The claim is ours, yet the result is there: it is looked up once more before any work."""
    stage = Stage()
    owner = task_run(keyed())
    played = stage.play(task_run(keyed()), look_up=[then(lambda: stage.play(owner), Value(None))])
    assert played.steps == [*MISS[:6], "Cached"]


def test_the_claim_of_a_run_ends_with_the_run() -> None:
    stage = Stage()
    for outcome in (Value(1), Error(BAD_CODE), Value(2)):
        stage.cache.clear()
        assert computed(stage, keyed(), outcome).steps[:8] == MISS


# Results that cannot be kept


def test_a_result_that_cannot_be_serialized_is_there_in_memory_and_says_why() -> None:
    stage = Stage()

    def value() -> None:
        """A function inside of a function cannot be pickled."""

    played = computed(stage, keyed(), Value(value))
    assert played.state.is_completed()
    assert played.state.result() is value
    reason = played.state.details.not_persisted
    assert reason is not None
    assert "cannot be serialized" in reason
    assert "local" in reason
    assert played.run.payload is None


def test_a_result_that_cannot_be_serialized_is_not_cached_and_a_warning_says_so() -> None:
    stage = Stage()
    played = computed(stage, keyed(), Value(lambda: None))
    assert stage.cache == {}
    assert played.run.cache_row is None
    assert played.state.details.cache_key is None
    ((what, error),) = stage.warnings
    assert what.startswith("could not be cached: it cannot be serialized")
    assert error is None


def test_without_a_key_a_result_that_cannot_be_serialized_warns_of_nothing() -> None:
    stage = Stage()
    played = stage.play(task_run(Task[..., Any](work)), invoke=[Value(lambda: None)])
    assert played.state.details.not_persisted is not None
    assert stage.warnings == []


def test_a_result_that_is_not_to_be_persisted_says_so() -> None:
    for run in (
        task_run(Task[..., Any](work, persist_result=False)),
        flow_run(Flow[..., Any](work, persist_result=False)),
    ):
        played = Stage().play(run, invoke=[Value(42)])
        assert played.state.details.not_persisted == "persist_result is False"
        assert played.state.result() == 42
        assert played.run.payload is None


def test_a_result_made_of_futures_is_not_persisted_and_says_so() -> None:
    stage = Stage()
    upstream = stage.ended("Completed")
    played = stage.play(
        flow_run(Flow[..., Any](work)), invoke=[Value([upstream.state, Completed()])]
    )
    assert played.state.details.not_persisted == "it consists of futures"


def test_the_none_of_a_flow_is_persisted_though_child_states_decided_it() -> None:
    stage = Stage()
    run = flow_run(Flow[..., Any](work))
    stage.play(run, invoke=[then(lambda: stage.ended("Completed", run), Value(None))])
    assert len(run.state.child_states) == 1
    assert run.state.details.not_persisted is None
    assert run.payload is not None
    assert decode_result(run.payload, None) is None


@pytest.mark.parametrize("value", [None, 42, "text", [1, (2, {3})], Completed(data=42)])
def test_any_other_result_is_persisted_and_the_state_says_nothing(value: object) -> None:
    played = Stage().play(task_run(Task[..., Any](work)), invoke=[Value(value)])
    assert played.state.details.not_persisted is None
    assert played.run.payload is not None
    assert decode_result(played.run.payload, None) == played.state.result()


def test_a_run_that_did_not_complete_has_no_payload() -> None:
    stage = Stage()
    for name in ("Failed", "TimedOut", "Cancelled", "Crashed", "NotReady"):
        assert stage.ended(name).payload is None


def test_a_cached_task_has_to_persist_its_results() -> None:
    with pytest.raises(ConfigurationError, match="persist_result=False leaves nothing to cache"):
        keyed(persist_result=False)
