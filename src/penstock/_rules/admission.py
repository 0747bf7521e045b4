"""Admission: a run that was made becomes a member of its flow run, and takes its number."""

from __future__ import annotations

from penstock._rules.run import Run


def admit(run: Run, passes: bool = False) -> None:
    """Let a run take part; from here on its flow run, if it has one, waits for it.

    Args:
        run: a new one.
        passes: whether its flow run may let go of it once its result has been taken.

    Raises:
        RunCancelled: the run whose code has called it has ended, or was stopped.
    """
    parent, flow_run = run.parent, run.flow_run
    if parent is not None:
        if parent.is_set():
            parent.refuse_calls_after_end()
        if flow_run is not None:
            flow_run.admit(run, passes)
    if run.earlier is None:
        run.take_number()
