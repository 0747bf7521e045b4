"""The page's section "Flow and task retries"."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import penstock
from penstock import flow, history, task
from penstock._engine.engine import Engine
from tests.spec.transcripts import (
    Machine,
    Output,
    at_prompt,
    calls_in,
    code_of,
    normalized,
    tracebacks_folded,
    transcript,
    with_state,
    without_prompts,
)

# The page waits a minute between the attempts; its transcript was made without that.
AT_ONCE = {"retry_delay_seconds=60": "retry_delay_seconds=0.01"}
# In the page's time a call gave the state; now it does so where it is asked to.
STATE_RETURNED = {**AT_ONCE, "return failure()": "return failure(return_state=True)"}

# The page's transcript is in an older format; the same events in the newer one:
RED_ORCA = "Flow run 'red-orca' -"
IN_NEWER_FORMAT = {
    r"\| Beginning (flow run '.+' for flow '.+')\.\.\.": (
        r"| INFO    | penstock.engine - Created \1"
    ),
    # The default has changed since; the page's newer transcripts have the concurrent one, too.
    r"\| Starting task runner `SequentialTaskRunner`\.\.\.": (
        rf"| INFO    | {RED_ORCA} Using task runner 'ConcurrentTaskRunner'"
    ),
    r"\| Submitting (task run '(\w+)-\w+-0') to task runner\.\.\.": (
        rf"| INFO    | {RED_ORCA} Created \1 for task '\2'"
    ),
    r"\| (Task run '.+') encountered exception:": (
        r"| ERROR   | \1 - Encountered exception during execution:"
    ),
    r"\| (Task run '.+') received (.+)": r"| INFO    | \1 - Received \2",
    r"\| (\w+ run '.+') finished in state Failed\(message=('.+'), type=FAILED\)": (
        r"| ERROR   | \1 - Finished in state Failed(\2)"
    ),
}
AWAITING_RETRY = (
    "Received non-final state 'AwaitingRetry' when proposing final state 'Failed' and will attempt "
    "to run again..."
)
ENCOUNTERED = "Flow run encountered an exception. ValueError: bad code"
STATES = "[[state.name for state in run.states] for run in history.task_runs()]"
THREE_ATTEMPTS = [
    "Pending",
    "Running",
    "AwaitingRetry",
    "Retrying",
    "AwaitingRetry",
    "Retrying",
    "Failed",
]


def test_the_events_of_the_page_in_the_newer_format(machine: Machine) -> None:
    output = machine.run("retries.py", *at_prompt("test_retries()"), replace=STATE_RETURNED)

    *events, state = tracebacks_folded(output.lines[1:])
    assert normalized(events) == normalized(_page_in_newer_format())
    assert state.startswith("Failed(message='1/1 states failed.', type=FAILED, ")


def test_the_events_of_the_page_in_an_interpreter(machine: Machine) -> None:
    """Where no file has the source."""
    (call,) = calls_in(transcript("retries"))
    typed = (code_of("retries.py", STATE_RETURNED), "", with_state(call), "print(state.name)")
    output = machine.type_in(*typed)

    *events, name = tracebacks_folded(without_prompts(output.lines))
    assert normalized(events) == normalized(_page_in_newer_format())
    assert name == "Failed"


def _page_in_newer_format() -> list[str]:
    _prompt, *lines = transcript("retries")
    # The page breaks long lines in two.
    text = re.sub(r"\n(?='AwaitingRetry'|Failed\()", " ", "\n".join(lines))
    # The task runner outlives the flow now: nothing is shut down.
    text = re.sub(r".+\| Shutting down task runner .+\n", "", text)
    for older, newer in IN_NEWER_FORMAT.items():
        text, found = re.subn(older, newer, text)
        assert found, f"the page has no line {older}"
    return text.splitlines()


def test_the_error_of_a_task_called_directly_is_raised_in_the_flow(machine: Machine) -> None:
    """`return failure()`, as the page has it: a direct call gives data, and here there is none."""
    output = machine.run("retries.py", *at_prompt("test_retries()"), replace=AT_ONCE)

    of_the_flow = "<time> | ERROR   | Flow run '<flow run 1>' - "
    assert normalized(tracebacks_folded(output.lines))[-4:-1] == [
        f"{of_the_flow}Encountered exception during execution:",
        "Traceback (most recent call last):...",
        f"{of_the_flow}Finished in state Failed({ENCOUNTERED!r})",
    ]
    assert normalized(output.lines)[-1] == (
        f"Failed(message={ENCOUNTERED!r}, type=FAILED, "
        "result=ValueError('bad code'), flow_run_id=<id 1>)"
    )


def test_without_return_state_the_error_reaches_the_caller(machine: Machine) -> None:
    asks = "try:\n    test_retries()\nexcept ValueError as error:\n    print('raised', error)"
    output = machine.run("retries.py", asks, replace=AT_ONCE)

    assert output.lines[-1] == "raised bad code"


@pytest.mark.parametrize("variant", [AT_ONCE, STATE_RETURNED], ids=["data", "state"])
def test_a_task_with_two_retries_runs_three_times(
    machine: Machine, variant: dict[str, str]
) -> None:
    output = machine.run("retries.py", *at_prompt("test_retries()"), replace=variant)

    assert output.count("running") == 3
    assert _with_text(output, AWAITING_RETRY) == 2
    assert all(
        re.fullmatch(
            rf"\d\d:\d\d:\d\d\.\d{{3}} \| INFO    \| Task run 'failure-[0-9a-f]{{8}}-0' - "
            rf"{re.escape(AWAITING_RETRY)}",
            line,
        )
        for line in output.lines
        if "AwaitingRetry" in line
    )
    assert machine.ask(STATES) == [THREE_ATTEMPTS]
    assert machine.ask("[run.run_count for run in history.task_runs()]") == [3]


@pytest.mark.parametrize("variant", [AT_ONCE, STATE_RETURNED], ids=["data", "state"])
def test_tracebacks_are_of_the_users_code_alone(machine: Machine, variant: dict[str, str]) -> None:
    """No line of the log shows a frame of the engine's."""
    output = machine.run("retries.py", *at_prompt("test_retries()"), replace=variant)

    frames = [line.strip() for line in output.lines if line.startswith('  File "')]
    assert len(frames) >= 3
    script = f'File "{machine.folder / "retries.py"}"'
    assert [frame for frame in frames if not frame.startswith(script)] == []
    assert str(Path(penstock.__file__).parent) not in output.text


def test_what_happened_can_be_reconstructed_in_full(machine: Machine) -> None:
    """Each attempt, when it began and ended, how, and when the next one was due."""
    machine.run("retries.py", *at_prompt("test_retries()"), replace=AT_ONCE)

    states = machine.ask(
        "[(s.name, s.type, s.message, s.timestamp.timestamp(), s.details.traceback,"
        " s.details.scheduled_time and s.details.scheduled_time.timestamp())"
        " for s in history.task_runs()[0].states]"
    )
    names, types, messages, times, tracebacks, due = zip(*states, strict=True)
    assert list(names) == THREE_ATTEMPTS
    assert types[1:4] == ("RUNNING", "SCHEDULED", "RUNNING")
    assert messages[-1] == "Task run encountered an exception."
    assert list(times) == sorted(times)
    for at, name in enumerate(names):
        failed = name in {"AwaitingRetry", "Failed"}
        assert (tracebacks[at] is not None) == failed
        assert not failed or str(tracebacks[at]).rstrip().endswith("ValueError: bad code")
        if name == "AwaitingRetry":
            assert due[at] - times[at] == pytest.approx(0.01, abs=1e-5)
            assert times[at + 1] >= due[at]
    assert machine.ask("[[s.name for s in run.states] for run in history.flow_runs()]") == [
        ["Pending", "Running", "Failed"]
    ]


def test_the_delay_of_the_page_is_a_minute(machine: Machine) -> None:
    """Nobody waits for it here: the run is cancelled when its first attempt has failed."""
    watch = (
        "import time",
        "future = failure.submit()",
        "while future.state.name != 'AwaitingRetry':",
        "    time.sleep(0.001)",
        "print(future.state.details.scheduled_time - future.state.timestamp)",
        "future.cancel()",
        "print(future.state.name)",
    )
    output = machine.run("retries.py", *watch)

    assert output.count("0:01:00") == 1
    assert output.count("running") == 1
    assert output.lines[-1] == "Cancelled"


def test_a_delay_is_optional(engine: Engine) -> None:
    @task(retries=1)
    def failing() -> None:
        raise ValueError("bad code")

    failing.call_state()

    (run,) = history.task_runs()
    waiting = run.states[2]
    assert waiting.name == "AwaitingRetry"
    assert waiting.details.scheduled_time == waiting.timestamp


def test_no_attempt_follows_one_that_succeeds(engine: Engine) -> None:
    attempts: list[int] = []

    @task(retries=5)
    def flaky() -> int:
        attempts.append(len(attempts))
        if len(attempts) < 3:
            raise ValueError("bad code")
        return attempts[-1]

    assert flaky() == 2

    (run,) = history.task_runs()
    assert [state.name for state in run.states] == [*THREE_ATTEMPTS[:-1], "Completed"]


def test_flow_retries_take_the_same_arguments(engine: Engine) -> None:
    attempts: list[int] = []

    @flow(retries=2, retry_delay_seconds=0.01)
    def failing() -> None:
        attempts.append(1)
        raise ValueError("bad code")

    assert failing.call_state().is_failed()

    assert len(attempts) == 3
    (run,) = history.flow_runs()
    assert [state.name for state in run.states] == THREE_ATTEMPTS
    for at in (2, 4):
        waiting = run.states[at]
        due = waiting.timestamp + timedelta(milliseconds=10)
        assert waiting.details.scheduled_time == due
        assert run.states[at + 1].timestamp >= due


def test_a_flow_retry_retries_the_flow_its_tasks_and_its_child_flows(engine: Engine) -> None:
    """ "And those are potentially subject to any configured retries": two attempts of the flow,
    each with the three of its task and the two of its child flow.
    """
    calls: list[str] = []

    @task(retries=2)
    def part() -> None:
        calls.append("task")
        raise ValueError("bad part")

    @flow(retries=1)
    def child() -> None:
        calls.append("child")
        raise ValueError("bad child")

    @flow(retries=1)
    def parent() -> None:
        calls.append("parent")
        part.call_state()
        child.call_state()

    state = parent.call_state()

    attempt = ["parent", "task", "task", "task", "child", "child"]
    assert calls == attempt * 2
    assert str(state) == "Failed('2/2 states failed.')"


def test_a_flow_retry_does_not_run_again_what_completed(engine: Engine) -> None:
    calls: list[str] = []

    @task
    def sound() -> str:
        calls.append("sound")
        return "data"

    @task
    def flaky(data: str) -> str:
        calls.append(f"flaky {data}")
        if len(calls) < 3:
            raise ValueError("bad code")
        return data

    @flow(retries=1)
    def parent() -> str:
        return flaky(sound())

    assert parent() == "data"
    assert calls == ["sound", "flaky data", "flaky data"]


def _with_text(output: Output, text: str) -> int:
    return sum(text in line for line in output.lines)
