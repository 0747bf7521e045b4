"""The page's section "Task caching"."""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta

import pytest

from penstock import TaskRunContext, flow, history, task
from penstock._engine.engine import Engine
from penstock._stores.sqlite.store import SqliteStore
from penstock._stores.writing.batches import Batch
from penstock.tasks import task_input_hash
from penstock.testing import FakeClock
from tests.patience import PATIENCE_SECONDS
from tests.spec.transcripts import (
    Machine,
    Output,
    answers_in,
    at_prompt,
    blocks,
    calls_in,
    code_of,
    normalized,
    transcript,
    with_state,
    without_prompts,
)

MARVIN = at_prompt('hello_flow("Marvin")')
TRILLIAN = at_prompt('hello_flow("Trillian")')
# What the page calls an expensive operation takes 3 seconds there.
CHEAPER = {"time.sleep(3)": "time.sleep(0.001)"}
# Nobody waits for a minute to pass; a process takes far longer to start than this.
SHORT_LIVED = {"timedelta(minutes=1)": "timedelta(milliseconds=1)"}
STATES = "[run.state.name for run in reversed(history.task_runs())]"
KEYS = "[run.state.details.cache_key for run in reversed(history.task_runs())]"
INTERPRETERS = pytest.mark.parametrize(
    "console",
    [("-i", "-q"), ("-c", "import code; code.interact(banner='', exitmsg='')")],
    ids=["python -i", "code.interact"],
)


def _prints(output: Output) -> list[str]:
    """What the page's task itself printed."""
    return [line for line in without_prompts(output.lines) if line.startswith("Saying")]


# Task input hash


def test_the_transcript_of_task_input_hash(machine: Machine) -> None:
    """Its last task run has the number 3: "Marvin" ran a third time, which the page leaves out."""
    output = machine.run("hello_flow.py", *MARVIN, *MARVIN, *MARVIN, *TRILLIAN)

    first, second, third, last = blocks(output.lines)
    assert normalized([*first, *second, *last]) == normalized(transcript("hello_flow"))
    assert normalized(third) == [line.replace("-1'", "-2'") for line in normalized(second)]


@INTERPRETERS
def test_the_transcript_of_task_input_hash_in_an_interpreter(
    machine: Machine, console: tuple[str, ...]
) -> None:
    page = transcript("hello_flow")
    calls = [with_state(call) for call in calls_in(page)]
    output = machine.type_in(code_of("hello_flow.py"), "", *calls, console=console)

    # Here no run is left out before the last one.
    expected = [line.replace("-3'", "-2'") for line in answers_in(page)]
    assert normalized(without_prompts(output.lines)) == normalized(expected)


@pytest.mark.parametrize("script", ["hello_async_flow.py", "hello_async_task.py"])
def test_the_transcript_of_task_input_hash_under_an_async_flow(
    machine: Machine, backend: str, script: str
) -> None:
    calls = [
        at_prompt(
            f'hello_flow("{name}")', f"anyio.run(hello_flow.call_state, {name!r}, {backend=})"
        )
        for name in ("Marvin", "Marvin", "Marvin", "Trillian")
    ]
    output = machine.run(script, "import anyio", *itertools.chain(*calls))

    first, second, _third, last = blocks(output.lines)
    assert normalized([*first, *second, *last]) == normalized(transcript("hello_flow"))


@pytest.mark.parametrize("script", ["hello_async_flow.py", "hello_async_task.py"])
def test_the_transcript_of_task_input_hash_with_run_sync(machine: Machine, script: str) -> None:
    calls = [
        at_prompt(f'hello_flow("{name}")', f"hello_flow.run_sync({name!r}, return_state=True)")
        for name in ("Marvin", "Marvin", "Marvin", "Trillian")
    ]
    output = machine.run(script, *itertools.chain(*calls))

    first, second, _third, last = blocks(output.lines)
    assert normalized([*first, *second, *last]) == normalized(transcript("hello_flow"))


def test_an_async_flow_finds_what_another_loop_cached(machine: Machine) -> None:
    call = "anyio.run(hello_flow, 'Marvin', backend='{}')"
    first = machine.run("hello_async_task.py", call.format("asyncio"))
    second = machine.run("hello_async_task.py", call.format("trio"))

    assert _prints(first) == ["Saying hello Marvin"]
    assert _prints(second) == []
    assert machine.ask(STATES) == ["Completed", "Cached"]


def test_tasks_do_not_share_their_input_hashes(engine: Engine) -> None:
    """The same input is the same work for the same task alone."""

    @task(cache_key_fn=task_input_hash)
    def double(number: int) -> int:
        return 2 * number

    @task(cache_key_fn=task_input_hash)
    def square(number: int) -> int:
        return number * number

    assert (double(3), square(3)) == (6, 9)
    assert (double(3), square(3)) == (6, 9)
    assert [run.state.name for run in history.task_runs()] == ["Cached"] * 2 + ["Completed"] * 2


# Across flows, flow runs and processes


@pytest.mark.parametrize("script", ["hello_flow.py", "hello_async_flow.py"])
def test_a_result_is_served_to_later_processes(machine: Machine, script: str) -> None:
    call = (
        "print(repr(hello_flow.run_sync('Marvin', return_state=True)))"
        if "async" in script
        else "print(repr(hello_flow('Marvin', return_state=True)))"
    )
    first = machine.run(script, call)
    second = machine.run(script, call)

    page_first, page_second, _ = blocks(transcript("hello_flow"))
    # Each process counts its own runs, from 0.
    page_second = [line.replace("-1'", "-0'") for line in page_second]
    assert normalized(first.lines) == normalized(answers_in(page_first))
    assert normalized(second.lines) == normalized(answers_in(page_second))
    assert machine.ask(STATES) == ["Completed", "Cached"]


@INTERPRETERS
def test_a_result_is_served_to_a_restarted_interpreter(
    machine: Machine, console: tuple[str, ...]
) -> None:
    typed = (code_of("hello_flow.py"), "", 'hello_flow("Marvin")')
    first = machine.type_in(*typed, console=console)
    second = machine.type_in(*typed, console=console)

    assert _prints(first) == ["Saying hello Marvin"]
    assert _prints(second) == []
    assert machine.ask(STATES) == ["Completed", "Cached"]


def test_a_cached_state_carries_the_value_and_names_the_run_it_is_from(machine: Machine) -> None:
    """ "The same state, including the same return values", as another process reads it."""
    machine.run("hello_flow.py", "hello_flow('Marvin')")
    machine.run("hello_flow.py", "hello_flow('Marvin')")

    assert machine.ask("[run.state.result() for run in history.task_runs()]") == [
        "hello Marvin",
        "hello Marvin",
    ]
    assert machine.ask(
        "[history.task_runs()[0].state.details.cached_from == history.task_runs()[1].id]"
    ) == [True]


def test_states_are_shared_across_flows_and_tasks_by_their_keys(engine: Engine) -> None:
    """ "Makes it easy to share these states across flows and flow runs"."""
    calls: list[str] = []

    def shared(_context: TaskRunContext, _parameters: dict[str, object]) -> str:
        return "shared"

    @task(cache_key_fn=shared)
    def first() -> tuple[int, ...]:
        calls.append("first")
        return (1, 2)

    @task(cache_key_fn=shared)
    def second() -> tuple[int, ...]:
        calls.append("second")
        return (3, 4)

    @flow
    def one() -> tuple[int, ...]:
        return first()

    @flow
    def other() -> tuple[int, ...]:
        return second()

    assert one() == (1, 2)
    assert other() == (1, 2)
    assert one() == (1, 2)
    assert calls == ["first"]


def test_results_are_cached_during_a_flow_run(engine: Engine) -> None:
    """ "Task results are cached in memory during a flow run": at once, in the very same run."""
    calls: list[int] = []

    @task(cache_key_fn=task_input_hash)
    def work(number: int) -> int:
        calls.append(number)
        return number

    @flow
    def twice() -> list[int]:
        futures = [work.submit(1) for _ in range(3)]
        return [work(1), work(1), *(future.result() for future in futures)]

    assert twice() == [1, 1, 1, 1, 1]
    assert calls == [1]


class HeldWriter:
    """A store's writer that waits before and after the first batch that it writes."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drained = threading.Event()
        self.may_write = threading.Event()
        self.written = threading.Event()
        self.may_go_on = threading.Event()
        self._write = store._writer._write
        monkeypatch.setattr(store._writer, "_write", self.write)

    def write(self, batch: Batch) -> None:
        self.drained.set()
        self.may_write.wait(10)
        self._write(batch)
        self.written.set()
        self.may_go_on.wait(10)


def test_a_result_is_served_while_the_run_before_it_is_being_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment a result is found: here the batch on its way holds the run as Running, and
    the run has ended before that batch is on disk.
    """
    assert isinstance(engine.store, SqliteStore)
    writer = HeldWriter(engine.store, monkeypatch)
    calls: list[int] = []

    @task(cache_key_fn=task_input_hash)
    def work(number: int) -> int:
        calls.append(number)
        writer.drained.wait(10)
        return number

    work(1)
    writer.may_write.set()
    assert writer.written.wait(PATIENCE_SECONDS)
    work(1)
    writer.may_go_on.set()

    assert calls == [1]


def test_a_database_in_memory_caches_within_the_process_alone(machine: Machine) -> None:
    in_memory = {"PENSTOCK_DATABASE_URL": "memory:"}
    for _process in range(2):
        output = machine.run("hello_flow.py", *MARVIN, *MARVIN, environ=in_memory)
        assert _prints(output) == ["Saying hello Marvin"]


def test_only_a_completed_state_is_taken(engine: Engine) -> None:
    """ "There was a COMPLETED state associated with this key": a failed run leaves nothing."""
    calls: list[int] = []

    @task(cache_key_fn=task_input_hash)
    def flaky(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            raise ValueError("bad code")
        return number

    assert flaky.call_state(1).is_failed()
    assert flaky(1) == 1
    assert flaky(1) == 1
    assert calls == [1, 1]


def test_a_cached_run_never_enters_running(engine: Engine) -> None:
    """The key is given as the run asks for Running, and the run enters Cached in its place."""
    seen: list[str] = []

    def key(context: TaskRunContext, parameters: dict[str, object]) -> str:
        seen.append(f"{context.task_run.state.name} {parameters}")
        return "key"

    @task(cache_key_fn=key)
    def work(number: int, factor: int = 2) -> int:
        return number * factor

    work(1)
    work(1)

    assert seen == ["Pending {'number': 1, 'factor': 2}"] * 2
    assert [[state.name for state in run.states] for run in history.task_runs()] == [
        ["Pending", "Cached"],
        ["Pending", "Running", "Completed"],
    ]


# Cache expiration


@pytest.mark.parametrize("flushed", [False, True], ids=["just now", "from the file"])
def test_the_cache_expires_after_one_minute(clock: FakeClock, flushed: bool) -> None:
    """The page's demonstration: run it a few times, wait for 60 seconds, run it again."""
    prints: list[str] = []

    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(minutes=1))
    def hello_task(name_input: str) -> str:
        prints.append(f"Saying hello {name_input}")
        return "hello " + name_input

    @flow
    def hello_flow(name_input: str) -> None:
        hello_task(name_input)

    def run_a_few_times() -> None:
        for _ in range(3):
            hello_flow("Marvin")
            if flushed:
                history.flow_runs(limit=1)

    run_a_few_times()
    assert len(prints) == 1
    clock.advance(59)
    run_a_few_times()
    assert len(prints) == 1
    clock.advance(1)
    run_a_few_times()
    assert len(prints) == 2
    clock.advance(59)
    run_a_few_times()
    assert len(prints) == 2


def test_an_entry_of_the_page_expires_a_minute_after_its_state(machine: Machine) -> None:
    machine.run("hello_flow.py", "hello_flow('Marvin')")

    lifetime = "(lambda s: (s.details.cache_expiration - s.timestamp).total_seconds())"
    assert machine.ask(f"{lifetime}(history.task_runs()[0].state)") == pytest.approx(60, abs=1e-5)


def test_an_expired_entry_is_not_taken_by_a_later_process(machine: Machine) -> None:
    for _process in range(2):
        output = machine.run("hello_flow.py", *MARVIN, replace=SHORT_LIVED)
        assert _prints(output) == ["Saying hello Marvin"]
    assert machine.ask(STATES) == ["Completed", "Completed"]


def test_an_expired_entry_is_not_taken_in_the_same_process(machine: Machine) -> None:
    wait = ("import time", "time.sleep(0.01)")
    output = machine.run("hello_flow.py", *MARVIN, *wait, *MARVIN, replace=SHORT_LIVED)

    assert _prints(output) == ["Saying hello Marvin"] * 2


def test_without_an_expiration_an_entry_stays(clock: FakeClock) -> None:
    calls: list[int] = []

    @task(cache_key_fn=task_input_hash)
    def work(number: int) -> int:
        calls.append(number)
        return number

    work(1)
    clock.advance(10 * 365 * 24 * 3600)
    work(1)

    assert calls == [1]


# Cache key function


def test_the_transcript_of_a_cache_key_function(machine: Machine) -> None:
    page = transcript("sum_key")
    calls = map(at_prompt, calls_in(page))
    output = machine.run("sum_key.py", *itertools.chain(*calls), replace=CHEAPER)

    assert normalized(output.lines) == normalized(page)


@INTERPRETERS
def test_the_transcript_of_a_cache_key_function_in_an_interpreter(
    machine: Machine, console: tuple[str, ...]
) -> None:
    page = transcript("sum_key")
    calls = [with_state(call) for call in calls_in(page)]
    output = machine.type_in(code_of("sum_key.py", CHEAPER), "", *calls, console=console)

    assert normalized(without_prompts(output.lines)) == normalized(answers_in(page))


def test_a_key_that_is_no_string_becomes_one(machine: Machine) -> None:
    """ "Both 2+2 and 1+3 return the same cache key string, "4"", though the example gives 4."""
    calls = ("test_caching([2, 2])", "test_caching([1, 3])", "test_caching([2, 3])")
    machine.run("sum_key.py", *calls, replace=CHEAPER)

    assert machine.ask(KEYS) == ["4", "4", "5"]


def test_the_text_and_the_number_are_one_key(engine: Engine) -> None:
    @task(cache_key_fn=lambda _context, _parameters: 4)
    def number() -> str:
        return "by number"

    @task(cache_key_fn=lambda _context, _parameters: "4")
    def text() -> str:
        return "by text"

    assert (number(), text()) == ("by number", "by number")


def test_keys_of_a_function_are_served_to_later_processes(machine: Machine) -> None:
    first = machine.run("sum_key.py", "test_caching([2, 2])", replace=CHEAPER)
    second = machine.run(
        "sum_key.py", "test_caching([1, 3])", "test_caching([2, 3])", replace=CHEAPER
    )

    assert first.count("running an expensive operation") == 1
    assert second.count("running an expensive operation") == 1
    assert machine.ask(STATES) == ["Completed", "Cached", "Completed"]
    assert machine.ask("[r.state.result() for r in reversed(history.task_runs())]") == [4, 4, 5]
