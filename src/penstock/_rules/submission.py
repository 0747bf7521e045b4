"""The first step of a run: it enters `Pending`."""

from __future__ import annotations

from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Run
from penstock._rules.transitions import Event


def submit_run(run: Run, rules: Rulebook) -> None:
    """Let a run enter `Pending`; `submit` does so before the driver begins the rules of the run."""
    run.enter(Event.SUBMIT, rules.now())
