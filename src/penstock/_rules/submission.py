"""The first step of a new run."""

from __future__ import annotations

from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Run
from penstock._rules.transitions import Event


def submit_run(run: Run, rules: Rulebook) -> None:
    """The first step of a new run; a driver may take it before it begins the steps below."""
    run.enter(Event.SUBMIT, rules.now())
