"""Starts runs beside the code that asks for them."""

from __future__ import annotations

import anyio

from penstock._drivers.in_thread import drive_sync
from penstock._drivers.loop_tasks import LoopRun
from penstock._drivers.parked import ParkedRun
from penstock._drivers.recording import record_unless_in_loop
from penstock._engine.engine import Engine
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import SKETCHED, Run
from penstock._rules.submission import submit_run
from penstock._rules.task_run import TaskRun
from penstock._waiting.loops import LoopPort, current_port
from penstock.exceptions import WouldDeadlock


def submit(run: Run, engine: Engine) -> None:
    """Start a run beside the code that asks for it; returns at once.

    Raises:
        RunCancelled: the flow run that it would belong to has ended or was stopped.
    """
    flow_run = run.flow_run
    if run.phase is SKETCHED:
        _start_sketch(run, engine)
        return
    if flow_run is None:
        engine.keep(run)
    elif flow_run.task_runner.is_sequential and run.parent is not None:
        run.after = flow_run.members.follow(run, run.parent.run_id)
    driver = _driver_of(run, engine, flow_run)
    if flow_run is not None and flow_run.options.fail_fast:
        flow_run.members.watch(run)
    try:
        if run.earlier is None:  # on record at once, whenever it begins
            submit_run(run, engine.rules)
            record_unless_in_loop(run, engine)
        driver.start()
        if flow_run is not None and flow_run.stopping.outcome is not None:
            run.cancel()  # another thread cancels the members, and saw this one without a driver
    except BaseException as error:  # Ctrl-C, and a worker or a loop may have the run already
        run.cancel()
        driver.end_unstarted(error)
        raise


def _start_sketch(run: Run, engine: Engine) -> None:
    """Have a flow call its function, in this thread or beside it; a task has ended."""
    if run.is_set():
        return
    if run.options.is_async:
        LoopRun(run, engine, _loop_of(run.flow_run, engine)).start()
    else:
        drive_sync(run, engine)


def _driver_of(run: Run, engine: Engine, flow_run: FlowRun | None) -> LoopRun | ParkedRun:
    if run.options.is_async:
        return LoopRun(run, engine, _loop_of(flow_run, engine))
    return _parked(run, engine)


def _parked(run: Run, engine: Engine) -> ParkedRun:
    """What drives sync code beside the code that asks for it, where its task runner says."""
    flow_run = run.flow_run
    runner = engine.default_task_runner if flow_run is None else flow_run.task_runner
    workers = engine.workers_of(runner)
    executor = engine.executor_of(runner)
    if executor is not None and isinstance(run, TaskRun):
        from penstock._drivers.remote import RemoteRun  # few runs go to other processes

        return RemoteRun(run, engine, workers, executor)
    return ParkedRun(run, engine, workers)


def _loop_of(flow_run: FlowRun | None, engine: Engine) -> LoopPort:
    """The loop that the async tasks of a flow run share; outside of flows, the one that runs."""
    own = current_port() if flow_run is None else flow_run.loop
    return own or engine.async_loop.port


async def run_on_worker(run: Run, engine: Engine) -> None:
    """Run sync code beside the loop, and wait for it; cancelled, it cancels the run."""
    if run.is_set():  # a sketch
        return
    if isinstance(run, TaskRun):
        _parked(run, engine).start()
    else:
        ParkedRun(run, engine, engine.threads).start()
    try:
        await run.wait_async()
    except BaseException:
        run.cancel()
        with anyio.CancelScope(shield=True):
            await run.wait_async()
        raise


def run_on_engine_loop(run: Run, engine: Engine) -> None:
    """Run async code from sync code, and wait for it.

    Raises:
        WouldDeadlock: this thread is the one that the code needs.
        KeyboardInterrupt: after the end was recorded.
    """
    if run.is_set():  # a sketch
        return
    loop = engine.async_loop
    if loop.is_current():
        raise WouldDeadlock(
            f"{run.definition.name}.run_sync() would block the event loop that runs this code. "
            f"Use `await {run.definition.name}(...)`."
        )
    LoopRun(run, engine, loop.port).start()
    try:
        run.wait()
    except BaseException:
        run.cancel()
        run.wait()
        raise
