"""Cache policies: what counts, and that the sum of two counts what either of them does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Flow, Task, TaskRunContext
from penstock._caching.keys import task_input_hash
from penstock._caching.policies import (
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
)
from penstock._rules.run import Parent
from penstock.exceptions import ConfigurationError
from tests.rules.play import BAD_CODE, Stage, flow_run, task_run


def work(a: object, b: object = 2, **others: object) -> object:
    return a, b, others


def other_work(a: object, b: object = 2, **others: object) -> object:
    return b, a, others


def works(x: object = 1, y: object = 2) -> object:
    return x, y


def by_a(_context: TaskRunContext, parameters: dict[str, Any]) -> object:
    return parameters["a"]


async def async_key(_context: TaskRunContext, _parameters: dict[str, Any]) -> object:
    return "key"


def uncached(_context: TaskRunContext, _parameters: dict[str, Any]) -> None:
    return None


def key_of(
    policy: CachePolicy,
    *args: object,
    fn: Callable[..., Any] = work,
    parent: Parent = None,
    **kwargs: Any,
) -> object:
    """The key of a run of a task with this policy."""
    run = task_run(Task[..., Any](fn, cache_policy=policy), *args, parent=parent, **kwargs)
    key = policy.compute_key(run, run.parameters)
    return key and key.text


FLOW = Flow[..., Any](works)
PARTS = [
    *(INPUTS, INPUTS - "a", INPUTS - "b", TASK_SOURCE, FLOW_PARAMETERS, RUN_ID, NO_CACHE),
    CacheKeyFnPolicy(by_a),
]
policies = st.lists(st.sampled_from(PARTS), max_size=4).map(lambda parts: sum(parts, NO_CACHE))
small = st.integers(0, 1)


# The laws of the sum


@given(policies, policies, policies)
def test_neither_the_order_of_a_sum_nor_a_repetition_matters(
    one: CachePolicy, two: CachePolicy, three: CachePolicy
) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + one == one == one + NO_CACHE
    assert hash(one + two) == hash(two + one)
    assert repr(one + two) == repr(two + one)


@given(policies, policies, small, small)
def test_the_order_of_a_sum_does_not_matter_for_the_key(
    one: CachePolicy, two: CachePolicy, a: int, b: int
) -> None:
    parent = flow_run(FLOW)
    assert key_of(one + two, a, b, parent=parent) == key_of(two + one, a, b, parent=parent)


@given(policies, policies, small, small, small, small)
def test_the_key_of_a_sum_differs_where_that_of_a_part_does(
    one: CachePolicy, two: CachePolicy, a: int, b: int, c: int, d: int
) -> None:
    parent = flow_run(FLOW)
    for policy in (one, two):
        if key_of(policy, a, b, parent=parent) != key_of(policy, c, d, parent=parent):
            both = one + two
            assert key_of(both, a, b, parent=parent) != key_of(both, c, d, parent=parent)


@given(policies, st.integers(), st.integers())
def test_an_argument_that_is_left_out_does_not_count(policy: CachePolicy, a: int, b: int) -> None:
    counted = INPUTS - "a" + (TASK_SOURCE if "TASK_SOURCE" in repr(policy) else NO_CACHE)
    assert key_of(counted, a, 5) == key_of(counted, b, 5)
    assert key_of(counted, a, 5) != key_of(counted, a, 6)


def test_leaving_out_holds_for_the_arguments_alone() -> None:
    assert (INPUTS + RUN_ID) - "a" == RUN_ID + (INPUTS - "a")
    assert (INPUTS - "a") - "b" == (INPUTS - "b") - "a" != INPUTS


def test_what_either_part_counts_counts() -> None:
    assert (INPUTS - "a") + (INPUTS - "b") == INPUTS
    assert (INPUTS - "a") + INPUTS == INPUTS


def by(name: str) -> CacheKeyFnPolicy:
    return CacheKeyFnPolicy(lambda _context, parameters: parameters[name])


def test_key_functions_stay_in_their_order_as_nothing_else_tells_them_apart() -> None:
    """Or two of one code could change places, and a call would find the result of another."""
    by_b, by_a = by("b"), by("a")
    assert key_of(by_b + INPUTS + by_a, 1, 2) == key_of(by_b + by_a + INPUTS, 1, 2)
    assert len({key_of(by_b + by_a, 1, 2), key_of(by_b + by_a, 2, 1)}) == 2
    assert by_b + by_a != by_a + by_b


def test_two_policies_of_one_task_have_no_key_in_common() -> None:
    parent = flow_run(Flow[..., Any](work), 1)
    keys = [key_of(policy, 1, parent=parent) for policy in (INPUTS, FLOW_PARAMETERS)]
    assert keys[0] != keys[1]


def test_a_policy_reads_as_it_is_written() -> None:
    assert repr(TASK_SOURCE + (INPUTS - "b" - "a")) == "INPUTS - 'a' - 'b' + TASK_SOURCE"
    assert repr(NO_CACHE) == "NO_CACHE"
    assert repr(CacheKeyFnPolicy(by_a) + INPUTS) == "CacheKeyFnPolicy(by_a) + INPUTS"


# The parts


def test_inputs_count_the_arguments_with_their_defaults_and_the_task_but_not_its_source() -> None:
    assert key_of(INPUTS, 1) == key_of(INPUTS, 1, 2) == key_of(INPUTS, a=1)
    assert len({key_of(INPUTS, *args) for args in [(1,), (2,), (1, 3), (True,), (1.0,)]}) == 5
    assert key_of(INPUTS, 1) != key_of(INPUTS, 1, fn=other_work)
    assert key_of(INPUTS, 1, c=1) != key_of(INPUTS, 1, d=1)


def test_the_task_source_alone_counts_no_argument() -> None:
    assert key_of(TASK_SOURCE, 1) == key_of(TASK_SOURCE, 2)
    assert key_of(TASK_SOURCE, 1) != key_of(TASK_SOURCE, 1, fn=other_work)


def test_flow_parameters_count_those_of_the_flow_run() -> None:
    runs = [flow_run(FLOW, *args) for args in [(1,), (1, 2), (2,), (1, 3)]]
    one, same, *others = (key_of(FLOW_PARAMETERS, 5, parent=run) for run in runs)
    assert one == same
    assert len({one, *others}) == 3
    assert one == key_of(FLOW_PARAMETERS, 6, parent=runs[0])


def test_flow_parameters_outside_of_flows_are_nothing_to_go_by() -> None:
    assert key_of(FLOW_PARAMETERS, 1) is None
    assert key_of(FLOW_PARAMETERS + INPUTS, 1) == key_of(INPUTS + FLOW_PARAMETERS, 1) is not None
    assert key_of(FLOW_PARAMETERS + INPUTS, 1) != key_of(INPUTS, 1)


def test_the_run_id_differs_with_each_flow_run_and_outside_of_flows_with_each_task_run() -> None:
    one, other = flow_run(FLOW), flow_run(FLOW)
    assert key_of(RUN_ID, 1, parent=one) == key_of(RUN_ID, 2, parent=one)
    assert key_of(RUN_ID, 1, parent=one) != key_of(RUN_ID, 1, parent=other)
    assert key_of(RUN_ID, 1) != key_of(RUN_ID, 1)


def test_the_key_of_a_function_alone_is_what_it_returns() -> None:
    assert key_of(CacheKeyFnPolicy(by_a), 5) == key_of(CacheKeyFnPolicy(by_a), 5, fn=other_work)
    assert key_of(CacheKeyFnPolicy(by_a), "key") == "key"
    assert key_of(CacheKeyFnPolicy(by_a) + NO_CACHE, "key") == "key"


def test_the_key_of_a_function_is_one_part_among_others() -> None:
    policy = CacheKeyFnPolicy(by_a) + RUN_ID
    parent = flow_run(FLOW)
    assert key_of(policy, 5, 1, parent=parent) == key_of(policy, 5, 2, parent=parent)
    assert key_of(policy, 5, parent=parent) != key_of(policy, 6, parent=parent)


def test_a_key_function_that_returns_none_leaves_the_run_uncached() -> None:
    assert key_of(CacheKeyFnPolicy(uncached), 1) is None
    assert key_of(CacheKeyFnPolicy(uncached) + INPUTS, 1) is None


def test_a_key_function_that_raises_leaves_the_run_uncached_and_warns() -> None:
    def bad(_context: TaskRunContext, _parameters: dict[str, Any]) -> object:
        raise BAD_CODE

    stage = Stage()
    task = Task[..., Any](work, cache_policy=CacheKeyFnPolicy(bad) + INPUTS)
    assert "look up" not in stage.play(task_run(task, 1)).steps
    assert stage.warnings == [("runs uncached", BAD_CODE)]


class Model:
    """A class with a task in it."""

    def __init__(self, weight: int) -> None:
        self.weight = weight

    def plain(self, x: int) -> int:
        return self.weight * x

    whole = Task[..., Any](plain, cache_policy=INPUTS)
    some = Task[..., Any](plain, cache_policy=INPUTS - "self")


def bound_key(task: Task[..., Any], *args: object) -> object:
    run = task_run(task, *args)
    key = task.cache_key_of(run)
    return key and key.text


def test_the_object_of_a_method_is_an_argument_and_can_be_left_out() -> None:
    assert bound_key(Model(1).whole, 5) != bound_key(Model(2).whole, 5)
    assert bound_key(Model(1).some, 5) == bound_key(Model(2).some, 5)
    assert bound_key(Model(1).some, 5) != bound_key(Model(1).some, 6)


def test_a_copy_of_a_method_leaves_out_the_object_as_well() -> None:
    copies = [Model(weight).some.with_options(retries=1) for weight in (1, 2)]
    assert bound_key(copies[0], 5) == bound_key(copies[1], 5)


def test_a_key_function_that_takes_an_argument_away_takes_it_from_no_other_part() -> None:
    def pops(_context: TaskRunContext, parameters: dict[str, Any]) -> object:
        parameters.pop("b")
        return "key"

    policy = CacheKeyFnPolicy(pops) + INPUTS
    assert key_of(policy, 1, 2) != key_of(policy, 1, 3)


# The options of a task


def test_caching_is_off_unless_asked_for() -> None:
    assert not Task[..., Any](work).is_cached
    assert not Task[..., Any](work, cache_policy=NO_CACHE).is_cached
    assert Task[..., Any](work, cache_policy=INPUTS).is_cached


def test_a_key_function_is_a_policy_of_its_own() -> None:
    task = Task[..., Any](work, cache_key_fn=task_input_hash)
    assert task.cache_policy == CacheKeyFnPolicy(task_input_hash)
    assert task.cache_key_fn is task_input_hash


def test_either_option_of_a_copy_takes_the_place_of_both() -> None:
    by_inputs = Task[..., Any](work, cache_policy=INPUTS)
    by_function = by_inputs.with_options(cache_key_fn=by_a)
    assert by_function.cache_policy == CacheKeyFnPolicy(by_a)
    assert by_function.with_options(cache_policy=RUN_ID).cache_policy == RUN_ID
    assert by_function.with_options(retries=1).cache_policy == by_function.cache_policy
    assert not by_inputs.with_options(cache_policy=None).is_cached


def test_a_hit_goes_by_the_policy() -> None:
    stage = Stage()
    task = Task[..., Any](work, cache_policy=INPUTS - "b" + TASK_SOURCE)
    assert stage.play(task_run(task, 1, 2)).state.name == "Completed"
    assert stage.play(task_run(task, 1, 3)).state.name == "Cached"
    assert stage.play(task_run(task, 2, 3)).state.name == "Completed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_policy": "INPUTS"}, r"task 'work': cache_policy must be .*, not 'INPUTS'"),
        ({"cache_policy": INPUTS, "cache_key_fn": by_a}, r"task 'work': cache_key_fn .* either"),
        ({"cache_policy": NO_CACHE, "cache_key_fn": by_a}, r"task 'work': cache_key_fn .* either"),
        ({"cache_policy": INPUTS - "c"}, r"task 'work': cache_policy=INPUTS - 'c' .* 'c', but"),
        ({"cache_key_fn": 5}, r"task 'work': cache_key_fn must be a sync function .*, not 5"),
        ({"cache_policy": by_a}, r"task 'work': cache_policy must .*CacheKeyFnPolicy\(...\) makes"),
        ({"cache_key_fn": async_key}, r"task 'work': cache_key_fn must be a sync function"),
        ({"cache_policy": INPUTS, "persist_result": False}, r"remove it or cache_policy"),
        ({"cache_key_fn": by_a, "persist_result": False}, r"remove it or cache_key_fn"),
    ],
)
def test_an_impossible_policy_names_the_task_and_the_argument(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Task[..., Any](work, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: INPUTS + cast("Any", 5),
        lambda: cast("Any", 5) + INPUTS,
        lambda: sum(cast("Any", [INPUTS, RUN_ID])),
        lambda: INPUTS + cast("Any", by_a),
        lambda: INPUTS - cast("Any", 5),
        lambda: TASK_SOURCE - "a",
        lambda: CacheKeyFnPolicy(cast("Any", 5)),
        lambda: CacheKeyFnPolicy(async_key),
    ],
)
def test_a_policy_that_cannot_be_made_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()
