"""The plugin of pytest, in a pytest of its own: what its users write, and what they pay."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]
OPTIONS = ["-p", "no:cacheprovider", "-q"]


def run(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    """Run a file of tests in a process of its own."""
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess(*OPTIONS, *options)


TESTS = """
import anyio
import pytest
from penstock import flow, history, task
from penstock.testing import assert_transitions

@task(retries=1, retry_delay_seconds=3600)
def flaky():
    raise ConnectionError

@flow
def pipeline():
    return flaky.submit().result(raise_on_failure=False)

@flow
async def pipeline_async():
    return repr(await flaky.run_async_state())

def test_engine(penstock_engine):
    pipeline.fn
    assert penstock_engine.runs() == []
    assert penstock_engine.clock is None

def test_runs_are_of_this_test_alone(penstock_engine):
    assert penstock_engine.runs() == history.task_runs() == []

def test_clock(fake_clock):
    pipeline()
    assert fake_clock.elapsed_seconds == 3600
    (run,) = history.task_runs()
    assert_transitions(run, ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"])

@pytest.mark.usefixtures("fake_clock")
def test_both(penstock_engine):
    pipeline()
    assert penstock_engine.clock.elapsed_seconds == 3600
    assert len(penstock_engine.runs()) == 2

@pytest.mark.anyio
async def test_in_a_loop(fake_clock):
    await pipeline_async()
    assert fake_clock.elapsed_seconds == 3600
    future = flaky.submit()
    await fake_clock.advance_async(3600)
    assert future.done()

class TestClass:
    @pytest.fixture
    def prepared(self, penstock_engine):
        pipeline()
        return penstock_engine

    def test_fixture_of_the_users_shares_the_engine(self, fake_clock, prepared):
        assert len(prepared.runs()) == 2
        assert fake_clock.elapsed_seconds == 3600
"""


def test_what_users_write(pytester: pytest.Pytester) -> None:
    """In threads, and on both loops by the plugin of anyio."""
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.fixture(params=['asyncio', 'trio'])\n"
        "def anyio_backend(request): return request.param\n"
    )
    run(pytester, TESTS).assert_outcomes(passed=7)


def test_test_that_would_wait_for_ever_fails_with_the_reason(pytester: pytest.Pytester) -> None:
    code = """
    import threading
    import pytest
    from penstock import task
    from penstock.testing import FakeClock, engine

    @pytest.fixture
    def clock():
        clock = FakeClock(patience_seconds=0.1)
        with engine(clock):
            yield clock

    @task(timeout_seconds=5)
    def hangs():
        threading.Event().wait()

    def test(clock):
        hangs()
    """
    result = run(pytester, code)
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*TimeStoodStill: The time of the fake clock stands still*"])


def test_assertion_shows_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    code = """
    from penstock import task
    from penstock.testing import assert_transitions

    @task
    def works(): ...

    def test(penstock_engine):
        assert_transitions(works.call_state(), ["Pending", "Running", "Failed"])
    """
    result = run(pytester, code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*assert_transitions(works.call_state()*",
            "E *AssertionError: The task run * did not enter the expected states*",
            "E *- Failed",
            "E *+ Completed",
        ]
    )
    result.stdout.no_fnmatch_line("*transitions.py*")


def test_pytest_that_does_not_use_it_does_not_import_penstock(pytester: pytest.Pytester) -> None:
    code = """
    import sys

    def test():
        assert "pytest_penstock" in sys.modules
        assert not [name for name in sys.modules if name.split(".")[0] == "penstock"]
    """
    run(pytester, code).assert_outcomes(passed=1)


def test_fixtures_are_listed_with_what_they_do(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "--fixtures")
    result.stdout.fnmatch_lines_random(
        [
            "penstock_engine -- *",
            "*An engine for this test alone, in memory*",
            "fake_clock -- *",
        ]
    )
