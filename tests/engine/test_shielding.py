"""Each driver asks the effect whether the end of the run cuts its wait short."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from penstock import cancel_flow_run, flow
from penstock._drivers import in_loop, in_thread, parked
from penstock._rules.effects import DONE, Interrupted, Outcome, Steps, WaitFor
from penstock._rules.endings import Ending, end_steps
from penstock._rules.flow_run import FlowRun
from penstock._rules.lifecycle import run_steps
from penstock._rules.rulebook import Rulebook
from penstock._rules.run import Run
from penstock._rules.transitions import Event
from penstock._waiting.latch import Latch
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


@flow
def sync_flow() -> None:
    """Not called: the rules of its runs are those of the test."""


@flow
async def async_flow() -> None:
    """Not called either."""


class Waiting:
    """Rules that wait for one latch, and a test that stops their run while they do."""

    def __init__(self) -> None:
        self._latch = Latch()
        self._runs: list[FlowRun] = []
        self._began = threading.Event()
        self.outcomes: list[Outcome] = []

    def steps(self, run: Run, rules: Rulebook) -> Steps:
        if not isinstance(run, FlowRun):
            yield from run_steps(run, rules)
            return
        if run.phase is None:
            run.enter(Event.SUBMIT, rules.now())
        self._runs.append(run)
        self._began.set()
        self.outcomes.append((yield WaitFor([self._latch])))
        yield from end_steps(run, rules, Ending(Event.CANCEL))

    def stop_run_then_set_latch(self) -> None:
        assert self._began.wait(PATIENCE_SECONDS)
        assert cancel_flow_run(self._runs[0].id)
        if WaitFor.is_shielded:
            self._latch.set()


def in_this_thread(_run_loop: RunLoop) -> None:
    sync_flow.call_state()


def in_this_loop(run_loop: RunLoop) -> None:
    run_loop(async_flow.call_state)


def beside_this_code(_run_loop: RunLoop) -> None:
    sync_flow.submit().wait()


@pytest.mark.parametrize("is_shielded", [False, True])
@pytest.mark.parametrize("drive", [in_this_thread, in_this_loop, beside_this_code])
def test_the_class_of_an_effect_alone_decides_whether_a_stop_cuts_it_short(
    drive: Callable[[RunLoop], None],
    is_shielded: bool,
    run_loop: RunLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WaitFor, "is_shielded", is_shielded)
    waiting = Waiting()
    for driver in (in_thread, in_loop, parked):
        monkeypatch.setattr(driver, "run_steps", waiting.steps)
    stopping = threading.Thread(target=waiting.stop_run_then_set_latch)
    stopping.start()
    drive(run_loop)
    stopping.join()
    (outcome,) = waiting.outcomes
    assert outcome == DONE if is_shielded else type(outcome) is Interrupted
