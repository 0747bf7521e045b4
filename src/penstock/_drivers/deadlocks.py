"""A thread never waits for a run that needs that very thread."""

from __future__ import annotations

from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Run
from penstock._waiting.loops import current_port
from penstock.exceptions import WouldDeadlock


def refuse_deadlock(run: Run, remedy: str) -> None:
    """Raise where waiting in this thread would keep the run from ending.

    Args:
        run: the run to wait for.
        remedy: what to do in async code, such as `await future`.

    Raises:
        WouldDeadlock: the run, or one that it waits for, needs the loop of this thread.
    """
    if run.is_set():
        return
    port = current_port()
    if port is not None and _needs_loop(run, port.key):
        raise WouldDeadlock(
            f"Waiting for {run.name!r} here would block the event loop "
            f"that it needs to finish. In async code, use {remedy}."
        )


def _needs_loop(run: Run, key: object) -> bool:
    seen: set[Run] = set()
    ahead = [run]
    while ahead:
        run = ahead.pop()
        if run.is_set() or run in seen:
            continue
        seen.add(run)
        if run.port is not None and run.port.key is key:
            return True
        members = run.members.all() if isinstance(run, FlowRun) else ()
        ahead += (*run.upstream_runs, *run.predecessors, *members)
    return False
