"""Hooks and names stand around the rules: a run without them takes no step more.

Why: docs/inside/rules.md, "Hooks and names stand around the rules".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from penstock._model.checks import A_STRING_THAT_IS_NOT_BLANK, is_not_blank
from penstock._model.codecs import storable_text
from penstock._model.hook_lists import hook_name
from penstock._rules.attempts import join_steps
from penstock._rules.effects import (
    CallHook,
    Error,
    Evaluate,
    Interrupted,
    Invoke,
    Outcome,
    Steps,
    Value,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Run
from penstock.exceptions import ParameterError


def begun_with(first: Callable[[], Steps[Outcome]], steps: Steps) -> Steps:
    """The steps, and `first` before the user's function is called for the first time."""
    has_begun = False
    outcome: Any = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            return
        if type(effect) is Invoke and not has_begun:
            has_begun = True
            outcome = yield from first()
            if type(outcome) is Interrupted:
                continue
        outcome = yield effect


def name_steps(run: Run, rules: Rulebook) -> Steps[Outcome]:
    """Give the run the name that the user's function makes; where that fails, it keeps its own."""
    make = run.options.make_name
    assert make is not None, "asked only where there is one"
    outcome: Outcome = yield Evaluate(lambda: _name_or_refuse(make(run.parameters)))
    if type(outcome) is Error:
        kind = run.definition.kind
        rules.report(run, f"{kind}_run_name raised; the run keeps its name", outcome.exception)
    elif type(outcome) is Value:
        run.rename(outcome.value)
    return outcome


def _name_or_refuse(name: object) -> str:
    if not is_not_blank(name):
        raise ParameterError(f"A run's name must be {A_STRING_THAT_IS_NOT_BLANK}, not {name!r}.")
    return storable_text(name)


def hooked_steps(run: Run, rules: Rulebook, steps: Steps) -> Steps:
    """The steps with the hooks around them: before its code is first called, and after its end."""
    before = run.history[-1] if run.history else None
    yield from begun_with(partial(hook_steps, run, rules), steps)
    if run.history[-1] is before or run.phase == "Cached":  # an earlier run stands for this one
        return
    if isinstance(run, FlowRun):  # hooks may submit, too, however it was stopped
        run.stopping.take()
    yield from hook_steps(run, rules)
    if isinstance(run, FlowRun):
        yield from join_steps(run, Value())


def hook_steps(run: Run, rules: Rulebook) -> Steps[Outcome]:
    """Call the hooks that are told of the present state."""
    hooks, state = run.options.hooks, run.state
    for hook in () if hooks is None else hooks.of_state(state.type):
        outcome = yield CallHook(partial(hook, run.options, run.view(), state))
        if type(outcome) is Interrupted:
            return outcome
        if type(outcome) is Error:
            rules.report(run, f"The hook {hook_name(hook)!r} raised", outcome.exception)
    return Value()
