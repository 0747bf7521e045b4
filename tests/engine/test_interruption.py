"""Cancellation, Ctrl-C and exits: children are cancelled, ends are recorded, nothing hangs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import anyio
import pytest

from penstock import flow, history, task
from penstock._engine.engine import Engine
from penstock._rules.admission import admit
from penstock._rules.current_run import current_run
from penstock._rules.flow_run import FlowRun
from penstock._rules.task_run import TaskRun
from penstock.exceptions import RunCancelled, RunCrashed, RunTimedOut
from penstock.states import State
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS, soon

pytestmark = pytest.mark.usefixtures("engine")


def newest(task_name: str) -> str:
    return history.task_runs(task=task_name, limit=1)[0].state.name


@task
async def sleeps(seconds: float = 10) -> None:
    await anyio.sleep(seconds)


def test_cancelling_an_async_flow_cancels_all_that_it_runs(run_loop: RunLoop) -> None:
    release = threading.Event()

    @task
    def blocks() -> None:
        release.wait(10)

    @task(retries=5, retry_delay_seconds=10)
    def waits_for_retry() -> None:
        raise ValueError("no")

    @flow
    async def child() -> None:
        await sleeps()

    @flow
    async def f() -> None:
        sleeps.submit()
        blocks.submit()
        waits_for_retry.submit()
        await child()

    async def main() -> None:
        with anyio.move_on_after(0.1) as scope:
            await f()
        assert scope.cancelled_caught

    started = time.monotonic()
    run_loop(main)
    assert soon(time.monotonic() - started, 5)
    release.set()
    assert {name: history.flow_runs(flow=name)[0].state.name for name in ("f", "child")} == {
        "f": "Cancelled",
        "child": "Cancelled",
    }
    assert newest("blocks") == newest("waits_for_retry") == "Cancelled"
    assert [run.state.name for run in history.task_runs(task="sleeps")] == ["Cancelled"] * 2


def test_a_native_cancellation_of_asyncio_is_recorded_and_passed_on() -> None:
    @flow
    async def f() -> None:
        sleeps.submit()
        await sleeps()

    async def main() -> None:
        running = asyncio.create_task(f())
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert history.flow_runs(flow="f")[0].state.name == "Cancelled"
    assert [run.state.name for run in history.task_runs(task="sleeps")] == ["Cancelled"] * 2


def test_a_loop_that_closes_early_leaves_ended_runs() -> None:
    @flow
    async def f() -> None:
        await sleeps()

    async def main() -> None:
        asyncio.create_task(f())  # noqa: RUF006  # left alone on purpose
        await asyncio.sleep(0.02)

    asyncio.run(main())
    assert history.flow_runs(flow="f")[0].state.name == "Cancelled"
    assert newest("sleeps") == "Cancelled"


def test_a_future_can_be_cancelled(run_loop: RunLoop) -> None:
    release = threading.Event()

    @task
    def blocks() -> None:
        release.wait(10)

    @flow
    async def f() -> list[str]:
        futures = [sleeps.submit(), blocks.submit(), sleeps.submit(wait_for=[blocks.submit()])]
        await anyio.sleep(0.02)
        for future in futures:
            future.cancel()
        for future in futures:
            with pytest.raises(RunCancelled):
                await future
        release.set()
        return [future.state.name for future in futures]

    @flow
    def g() -> list[str]:
        futures = [sleeps.submit(), blocks.submit(), sleeps.submit(wait_for=[blocks.submit()])]
        for future in futures:
            future.cancel()
        for future in futures:
            future.wait(5)
        release.set()
        return [future.state.name for future in futures]

    assert run_loop(f) == ["Cancelled"] * 3
    release.clear()
    assert g() == ["Cancelled"] * 3


def test_cancelling_what_has_ended_changes_nothing() -> None:
    @task
    def quick() -> int:
        return 1

    future = quick.submit()
    assert future.result() == 1
    future.cancel()
    assert future.state.name == "Completed"


def test_awaiting_a_sync_flow_can_be_cancelled(run_loop: RunLoop) -> None:
    release = threading.Event()

    @task
    def blocks() -> None:
        release.wait(10)

    @flow
    def f() -> None:
        blocks.submit()
        release.wait(10)

    async def main() -> None:
        with anyio.move_on_after(0.05):
            await f.run_async()

    run_loop(main)
    assert history.flow_runs(flow="f")[0].state.name == "Cancelled"
    assert newest("blocks") == "Cancelled"
    release.set()


def test_code_of_a_flow_run_that_has_ended_cannot_submit() -> None:
    release, refused = threading.Event(), threading.Event()

    @task
    def quick() -> None: ...

    @flow(timeout_seconds=0.03)
    def f() -> None:
        release.wait(10)
        try:
            quick.submit()
        except RunCancelled:
            refused.set()

    assert f.call_state().name == "TimedOut"
    release.set()
    assert refused.wait(PATIENCE_SECONDS)


def test_keyboard_interrupt_in_a_sync_flow_is_recorded_and_raised() -> None:
    release = threading.Event()

    @task
    def blocks() -> None:
        release.wait(10)

    @task
    def interrupted() -> None:
        raise KeyboardInterrupt

    @flow
    def f() -> None:
        blocks.submit()
        sleeps.submit()
        interrupted()

    with pytest.raises(KeyboardInterrupt):
        f()
    release.set()
    run = history.flow_runs(flow="f")[0]
    assert run.state.name == "Cancelled"
    assert newest("blocks") == newest("sleeps") == newest("interrupted") == "Cancelled"


def test_sys_exit_in_a_run_is_a_crash() -> None:
    @task
    def leaves() -> None:
        sys.exit(3)

    @flow
    def f() -> State[None]:
        future = leaves.submit()
        future.wait()
        assert future.state.is_crashed()
        with pytest.raises((SystemExit, RunCrashed)):
            future.result()
        leaves()
        raise AssertionError

    with pytest.raises(SystemExit):
        f()
    assert history.flow_runs(flow="f")[0].state.name == "Crashed"


SCRIPTS = {
    "sync flow, blocked in its own code": """
        @flow
        def main_flow():
            blocks.submit(); sleeps.submit()
            print("ready", flush=True)
            time.sleep(30)
        main_flow()
    """,
    "sync flow, waiting for a future": """
        @flow
        def main_flow():
            sleeps.submit()
            future = blocks.submit()
            print("ready", flush=True)
            future.result()
        main_flow()
    """,
    "sync flow, in its join": """
        @flow
        def main_flow():
            blocks.submit(); sleeps.submit()
            print("ready", flush=True)
        main_flow()
    """,
    "async flow under asyncio.run": """
        @flow
        async def main_flow():
            blocks.submit(); sleeps.submit()
            print("ready", flush=True)
            await sleeps()
        asyncio.run(main_flow())
    """,
    "async flow under trio.run": """
        @flow
        async def main_flow():
            blocks.submit(); sleeps.submit()
            print("ready", flush=True)
            await sleeps()
        trio.run(main_flow)
    """,
    "async flow under run_sync": """
        @flow
        async def main_flow():
            blocks.submit(); sleeps.submit()
            print("ready", flush=True)
            await sleeps()
        main_flow.run_sync()
    """,
}


@pytest.mark.needs_file("the record of a process that has ended")
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
@pytest.mark.parametrize("name", SCRIPTS)
def test_ctrl_c_ends_a_script_at_once_with_everything_on_record(name: str, tmp_path: Path) -> None:
    assert states_after_ctrl_c(SCRIPTS[name], tmp_path) == {
        "main-flow": "Cancelled",
        "blocks": "Cancelled",
        "sleeps": "Cancelled",
    }


@pytest.mark.needs_file("the record of a process that has ended")
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_at_the_end_of_a_script_lets_hooks_and_the_flows_above_end(tmp_path: Path) -> None:
    script = """
        def tidies(flow, run, state): time.sleep(0.3)
        @flow(on_cancellation=[tidies])
        def sub_flow():
            blocks.submit(); sleeps.submit()
            print("ready", flush=True)
        @flow
        def main_flow():
            sub_flow.submit()
        main_flow.submit()
        sys.exit(1)
    """
    assert states_after_ctrl_c(script, tmp_path) == {
        "main-flow": "Cancelled",
        "sub-flow": "Cancelled",
        "blocks": "Cancelled",
        "sleeps": "Cancelled",
    }


def states_after_ctrl_c(text: str, folder: Path) -> dict[str, str]:
    """How the runs of a script have ended that was interrupted when it had said `ready`."""
    prelude = """
        import asyncio, sys, time, anyio, trio
        from penstock import flow, task
        @task
        def blocks(): time.sleep(30)
        @task
        async def sleeps(): await anyio.sleep(30)
    """
    script = folder / "script.py"
    script.write_text(textwrap.dedent(prelude) + textwrap.dedent(text))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert soon(time.monotonic() - began, 15)
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    states = {run.flow: run.state.name for run in history.flow_runs()}
    return states | {run.task: run.state.name for run in history.task_runs()}


def test_a_member_that_ctrl_c_left_undriven_is_not_waited_for(engine: Engine) -> None:
    """The interrupt came after the flow run had taken it in, and before anything drove it."""

    @task
    def work() -> None: ...

    @flow
    def interrupted() -> None:
        run = current_run.get()
        assert isinstance(run, FlowRun)
        admit(TaskRun(work, run, (), {}))
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert soon(time.monotonic() - began, 5)
    assert [run.state.name for run in history.flow_runs()] == ["Cancelled"]
    assert history.task_runs() == []


def test_a_member_that_ctrl_c_left_undriven_in_a_loop_is_not_waited_for(run_loop: RunLoop) -> None:
    @task
    def work() -> None: ...

    @flow
    async def interrupted() -> None:
        run = current_run.get()
        assert isinstance(run, FlowRun)
        admit(TaskRun(work, run, (), {}))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_loop(interrupted)
    assert [run.state.name for run in history.flow_runs()] == ["Cancelled"]
    assert history.task_runs() == []


def test_what_an_async_task_raises_beside_its_cancellation_is_not_the_loops_trouble(
    engine: Engine, run_loop: RunLoop
) -> None:
    @task
    async def untidy() -> None:
        try:
            await anyio.sleep(60)
        finally:
            raise BaseExceptionGroup("both", [ValueError("cleanup"), KeyboardInterrupt()])

    @flow(timeout_seconds=0.05)
    async def works() -> None:
        untidy.submit()
        await anyio.sleep(60)

    with pytest.raises(RunTimedOut):
        run_loop(works)
    assert [run.state.name for run in history.flow_runs()] == ["TimedOut"]
