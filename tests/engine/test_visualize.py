"""`flow.visualize()`: the flow's code runs, its tasks do not, and nothing of it is on record."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import Picture, flow, history, runtime, task
from penstock._engine.process import get_engine, present_engine, shutdown
from penstock.exceptions import ParameterError, RunTimedOut, UsageError, VisualizationError
from tests.conftest import RunLoop

executed: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_is_executed() -> Iterable[None]:
    executed.clear()
    yield
    assert executed == []


def runs(name: str) -> None:
    executed.append(name)


@task
def load(path: str = "x") -> int:
    runs("load")
    return 1


@task
def double(x: int) -> int:
    runs("double")
    return 2 * x


@task
def total(xs: list[int], more: Any = None) -> int:
    runs("total")
    return sum(xs)


@task
async def fetch(x: int) -> int:
    runs("fetch")
    return x


def edges_of(picture: Picture) -> list[str]:
    labels = picture.labels
    return [f"{labels[source]} > {labels[target]}" for source, target in picture.edges]


def inside(picture: Picture) -> dict[str, str | None]:
    labels = picture.labels
    return {
        label: None if node.inside is None else labels[node.inside]
        for label, node in zip(labels, picture.nodes, strict=True)
    }


@flow
def chain(x: int = 1) -> int:
    return double(double(load()))


def test_values_of_direct_calls_are_followed() -> None:
    picture = chain.visualize()
    assert picture.name == "chain"
    assert picture.labels == ["load", "double-0", "double-1"]
    assert edges_of(picture) == ["load > double-0", "double-0 > double-1"]
    assert all(node.state is None for node in picture.nodes)


def test_nothing_is_recorded_and_no_engine_is_made(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    chain.visualize()
    assert present_engine() is None
    assert set(threading.enumerate()) == threads
    assert not (tmp_path / "home").exists()
    get_engine()
    before = history.flow_runs(), history.task_runs()
    chain.visualize()
    assert (history.flow_runs(), history.task_runs()) == before == ([], [])


@pytest.mark.needs_file("an engine made later goes on in it")
def test_code_that_reads_the_history_reads_the_real_one() -> None:
    @flow
    def real() -> int:
        return 5

    @flow
    def looks() -> None:
        if history.flow_runs(flow="real"):
            load()

    real()
    shutdown()
    assert looks.visualize().labels == ["load"]


def test_futures_containers_maps_states_and_wait_for_are_followed() -> None:
    @flow
    def all_verbs() -> None:
        first = load.submit()
        doubled = double.map([first, 2, first])
        state = double.submit(doubled[0]).state
        total.submit([*doubled], more={"deep": (state, [load()])})
        double.submit(1, wait_for=[first])
        assert list(double.imap(doubled)) != []
        assert doubled.result() is not None
        assert first.result() is first.state.result()

    picture = all_verbs.visualize()
    assert picture.labels[:7] == [
        "load-0", "double-0", "double-1", "double-2", "double-3", "load-1", "total",
    ]  # fmt: skip
    assert edges_of(picture) == [
        "load-0 > double-0",
        "load-0 > double-2",
        "load-0 > double-4",
        "double-0 > double-3",
        "double-0 > total",
        "double-0 > double-5",
        "double-1 > total",
        "double-1 > double-6",
        "double-2 > total",
        "double-2 > double-7",
        "double-3 > total",
        "load-1 > total",
    ]


@flow
def inner(x: int) -> int:
    return double(double(x))


@flow
async def inner_async(x: int) -> int:
    await anyio.lowlevel.checkpoint()
    return await fetch(x)


def test_subflows_are_drawn_around_their_tasks() -> None:
    @flow
    def outer() -> None:
        given = inner(load())
        total([given, inner_async.run_sync(given), fetch.run_sync(1)])

    picture = outer.visualize()
    assert inside(picture) == {
        "load": None, "inner": None, "double-0": "inner", "double-1": "inner",
        "inner-async": None, "fetch-0": "inner-async", "fetch-1": None, "total": None,
    }  # fmt: skip
    assert [node.is_flow for node in picture.nodes].count(True) == 2
    assert edges_of(picture) == [
        "load > double-0",
        "double-0 > double-1",
        "double-1 > fetch-0",
        "double-1 > total",
        "fetch-0 > total",
        "fetch-1 > total",
    ]


def test_submitted_subflows_are_drawn_whoever_waits_for_them(run_loop: RunLoop) -> None:
    """Their results lead on from the box, as their futures do; their arguments are values."""

    @flow
    def sync() -> None:
        first = inner.submit(load.submit())
        inner_async.submit(first)
        total.submit([first, 1])

    @flow
    async def asynchronous() -> None:
        first = inner.submit(load.submit())
        inner_async.submit(first)
        total.submit([first, 1])

    drawn = sync.visualize()
    assert inside(drawn)["fetch"] == "inner-async"
    assert edges_of(drawn) == [
        "load > double-0", "inner > inner-async", "inner > total", "double-0 > double-1",
        "double-1 > fetch",
    ]  # fmt: skip
    drawn_async = run_loop(asynchronous.visualize)
    assert set(edges_of(drawn_async)) == set(edges_of(drawn))
    assert inside(drawn_async) == inside(drawn)


def test_a_subflow_is_given_values_and_no_futures() -> None:
    seen: list[object] = []

    @flow
    def takes(x: object) -> None:
        seen.append(type(x).__name__)

    @flow
    def gives() -> None:
        takes(load.submit())
        takes(numbers.submit())

    gives.visualize()
    assert seen == ["Placeholder", "list"]


@flow
async def watch(x: int) -> int:
    own = await fetch(x)
    futures = [fetch.submit(own), double.submit(own)]
    values = [await future for future in futures]
    both = [await inner.run_async(values[1]), await inner_async(values[0])]
    return await total.run_async(both)


WATCHED = [
    "fetch-0 > fetch-1",
    "fetch-0 > double-0",
    "fetch-1 > fetch-2",
    "double-0 > double-1",
    "double-1 > double-2",
    "double-2 > total",
    "fetch-2 > total",
]


def test_async_flows_are_awaited(run_loop: RunLoop) -> None:
    assert edges_of(run_loop(watch.visualize, 1)) == WATCHED
    assert present_engine() is None


def test_async_flows_are_drawn_from_sync_code_as_well() -> None:
    threads = set(threading.enumerate())
    assert edges_of(watch.visualize_sync(1)) == WATCHED
    assert present_engine() is None
    assert {t for t in threading.enumerate() if t.name == "penstock-async"} <= threads


def test_methods_are_drawn_too() -> None:
    class Report:
        @task
        def part(self, x: int) -> int:
            runs("part")
            return x

        @flow
        def whole(self, x: int) -> int:
            return self.part(self.part(x))

    assert edges_of(Report().whole.visualize(1)) == ["part-0 > part-1"]


def test_hooks_names_retries_and_caches_are_left_out() -> None:
    def tell(*_anything: object) -> str:
        runs("something around the run")
        return "x"

    def tell_name() -> str:
        return tell()

    quiet = double.with_options(
        task_run_name=tell_name, on_completion=[tell], cache_key_fn=tell, retries=3
    )
    fails = task(on_failure=[tell])(lambda: 1 / 0)

    @flow(on_completion=[tell], on_running=[tell], flow_run_name=tell_name, retries=3)
    def quietly() -> None:
        quiet(1)
        fails()

    assert quietly.visualize().labels == ["double", "<lambda>"]


def test_arguments_are_converted_as_for_a_run() -> None:
    @flow
    def spreads(n: int) -> None:
        for number in range(n):
            double(number)

    @flow
    def spreads_in_a_subflow(n: str) -> None:
        spreads(n)  # type: ignore[arg-type]  # it is converted

    assert len(spreads.visualize("3").nodes) == 3  # type: ignore[arg-type]  # as above
    assert len(spreads_in_a_subflow.visualize("3").nodes) == 4
    with pytest.raises(ParameterError, match="'n'"):
        spreads.visualize("many")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ParameterError, match="missing"):
        spreads.visualize()  # type: ignore[call-arg]  # as above


def test_code_of_the_flow_sees_a_run() -> None:
    @flow(version="3")
    def sees() -> None:
        if (runtime.flow_run.flow_name, runtime.flow_run.flow_version) == ("sees", "3"):
            load()

    assert sees.visualize().labels == ["load"]
    assert runtime.flow_run.id is None


def test_a_flow_may_be_drawn_inside_of_a_run() -> None:
    """The run neither joins nor records what is drawn."""

    @flow
    def draws() -> list[str]:
        return chain.visualize().labels

    assert draws() == ["load", "double-0", "double-1"]
    assert [run.flow for run in history.flow_runs()] == ["draws"]
    assert history.task_runs() == []


# Values


@task(viz_return_value=[3, 1, 2])
def numbers() -> list[int]:
    runs("numbers")
    return []


def test_viz_return_value_stands_for_the_result() -> None:
    @flow
    def takes_numbers() -> None:
        found = numbers()
        if max(found) > 2:
            total(found)
        double.map(sorted(numbers.submit().result()))

    picture = takes_numbers.visualize()
    assert picture.labels == [
        "numbers-0", "total", "numbers-1", "double-0", "double-1", "double-2"
    ]  # fmt: skip
    assert edges_of(picture) == ["numbers-0 > total"]


@pytest.mark.parametrize("value", [None, 0, ""])
def test_what_stands_for_a_result_may_be_nothing(value: object) -> None:
    @flow
    def asks() -> None:
        if not load.with_options(viz_return_value=value)():
            double(1)

    assert asks.visualize().labels == ["load", "double"]


@pytest.mark.parametrize(
    "use",
    [
        "bool(x)", "list(x)", "len(x)", "int(x)", "float(x)", "abs(x)", "sum(x)", "sorted(x)",
        "x > 1", "1 < x", "x == 1", "1 == x", "x != 1", "x + 1", "1 + x", "x % 2", "-x", "x[0]",
        "x.name", "x()", "1 in x", "x in [1]", "range(x)", "[1, 2][x]", "round(x)", "{**x}",
        "[*x]", "Path(x)", "'%d' % x", "double.map(x)", "list(double.imap(x))",
    ],
)  # fmt: skip
def test_a_placeholder_that_is_used_as_a_value_names_its_task(use: str) -> None:
    @flow
    def uses_a_value() -> None:
        eval(use, {"x": load(), "double": double, "Path": Path})

    with pytest.raises(VisualizationError, match=r"task 'load'.*viz_return_value") as raised:
        uses_a_value.visualize()
    assert isinstance(raised.value, UsageError)


def test_a_placeholder_may_be_shown_kept_and_compared_with_itself() -> None:
    @flow
    def keeps() -> None:
        x, y = load(), load()
        seen = {x: 1, y: 2}
        assert f"{x}" == "<the result of load>"
        assert (seen[x], x == x, x in [y, x][1:]) == (1, True, True)  # noqa: PLR0124  # the point
        total([*copy.deepcopy(seen), copy.copy(x)], more=f"{x}")

    assert edges_of(keeps.visualize()) == ["load-0 > total", "load-1 > total"]


# What goes wrong


def test_what_the_flow_raises_is_raised() -> None:
    @flow(retries=2)
    def fails() -> None:
        runs_once.append(1)
        raise KeyError("missing")

    @flow
    def calls() -> None:
        fails()

    runs_once: list[int] = []
    with pytest.raises(KeyError, match="missing"):
        calls.visualize()
    assert runs_once == [1]


def test_a_flow_that_takes_too_long_is_not_waited_for() -> None:
    release = threading.Event()

    @flow(timeout_seconds=0.05)
    def slow() -> None:
        release.wait(10)

    with pytest.raises(RunTimedOut):
        slow.visualize()
    release.set()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_on(error: type[BaseException]) -> None:
    @flow
    def stops() -> None:
        load()
        raise error

    with pytest.raises(error):
        stops.visualize()
    assert runtime.flow_run.id is None
    assert chain.visualize().labels == ["load", "double-0", "double-1"]


def test_a_cancelled_sketch_ends(run_loop: RunLoop) -> None:
    @flow
    async def sleeps() -> None:
        await anyio.sleep(10)

    async def main() -> bool:
        with anyio.move_on_after(0.05) as scope:
            await sleeps.visualize()
        return scope.cancelled_caught

    assert run_loop(main)


def test_flows_are_drawn_and_run_by_many_threads_at_once() -> None:
    """Whoever draws sees its own calls alone, and whoever runs has its run on record."""
    ran: list[int] = []

    @task
    def square(x: int) -> int:
        ran.append(x)
        return x * x

    @flow
    def squares(n: int) -> list[int]:
        return square.map([square(number) for number in range(n)]).result()

    def draw_or_run(number: int) -> object:
        if number % 4 == 0:
            return squares(number % 5)
        return squares.visualize(number % 5)

    with ThreadPoolExecutor(8) as pool:
        for number, result in enumerate(pool.map(draw_or_run, range(1, 121)), 1):
            n = number % 5
            if isinstance(result, Picture):
                assert len(result.nodes) == 2 * n
                assert len(result.edges) == n
            else:
                assert result == [x**4 for x in range(n)]
    assert len(history.flow_runs(flow="squares", limit=1_000)) == 30
    assert len(history.task_runs(task="square", limit=1_000)) == len(ran)


# A run that has happened


def test_a_run_is_drawn_from_the_history_with_its_states() -> None:
    """An edge for each future; what was given as a value has left no trace."""

    @task
    def gives(x: int) -> int:
        return x

    @task
    def fails(x: int) -> int:
        raise ValueError("no")

    @flow
    def part(x: int) -> int:
        return gives.submit(gives.submit(x)).result()

    @flow
    def whole() -> None:
        first = gives.submit(1)
        part(gives(first.result()))
        gives.submit(fails.submit(first))

    whole.call_state()
    run = history.flow_runs(flow="whole")[0]
    picture = history.picture(run)
    assert picture is not None
    assert inside(picture) == {
        "gives-0": None, "gives-1": None, "part": None, "gives-2": "part", "gives-3": "part",
        "fails": None, "gives-4": None,
    }  # fmt: skip
    assert [node.state for node in picture.nodes] == [*["Completed"] * 5, "Failed", "NotReady"]
    assert edges_of(picture) == ["gives-0 > fails", "gives-2 > gives-3", "fails > gives-4"]
    assert 'class="flow Completed"' in picture.svg
    assert history.picture(str(run.id)) == picture
    assert history.picture("00000000-0000-7000-8000-000000000000") is None
