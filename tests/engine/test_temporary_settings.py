"""`temporary_settings`: another engine for the whole process, and the one before comes back."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, history, task, temporary_settings
from penstock._engine.engine import Engine
from penstock._engine.process import get_engine, present_engine
from penstock.exceptions import ConfigurationError
from penstock.settings import Settings
from penstock.testing import FakeClock
from penstock.testing import engine as engine_of_a_test
from tests.conftest import RunLoop


@task
def double(number: int) -> int:
    return 2 * number


@contextmanager
def unchanged() -> Generator[None]:
    """What is in force before is in force after."""
    before = present_engine()
    yield
    assert present_engine() is before


def test_settings_are_in_force_inside(engine: Engine, settings: Settings) -> None:
    with unchanged(), temporary_settings(durability="strict", task_runner_max_workers=4) as own:
        assert get_engine().settings is own
        assert (own.durability, own.task_runner_max_workers) == ("strict", 4)
        assert own.database_url == settings.database_url
        assert double(2) == 4
    assert get_engine().settings == settings


@pytest.mark.needs_file("an engine made later goes on in it")
def test_runs_go_on_in_the_same_file(engine: Engine) -> None:
    double(1)
    with temporary_settings(durability="strict"):
        double(2)
        assert [run.state.result() for run in history.task_runs()] == [4, 2]
    double(3)
    assert [run.state.result() for run in history.task_runs()] == [6, 4, 2]


def test_they_nest_and_come_back_after_exceptions(engine: Engine) -> None:
    with unchanged(), temporary_settings(durability="strict"):
        with unchanged(), temporary_settings(task_runner_max_workers=2) as inner:
            assert (inner.durability, inner.task_runner_max_workers) == ("strict", 2)
        with unchanged(), pytest.raises(ZeroDivisionError), temporary_settings(synchronous="full"):
            raise ZeroDivisionError
        assert get_engine().settings.durability == "strict"


def test_before_the_first_run_they_change_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_TASK_RUNNER_MAX_WORKERS", "7")
    with unchanged(), temporary_settings(home=tmp_path / "other") as own:
        assert own.task_runner_max_workers == 7
        double(1)
    assert present_engine() is None
    assert (tmp_path / "other" / "penstock.db").exists()
    assert not (tmp_path / "home").exists()


def test_what_was_submitted_inside_has_ended_afterwards(engine: Engine) -> None:
    with temporary_settings(database_url="memory:"):
        future = double.submit(4)
    assert future.done()
    assert history.task_runs() == []


def test_flows_run_with_them_in_threads_and_loops(engine: Engine, run_loop: RunLoop) -> None:
    @flow
    async def doubles() -> list[int]:
        return await double.map([1, 2, 3])

    with temporary_settings(task_runner_max_workers=1):
        assert run_loop(doubles) == [2, 4, 6]


@pytest.mark.parametrize(
    "changes", [{"durability": "lax"}, {"no_such_setting": 1}, {"task_runner_max_workers": 0}]
)
def test_impossible_settings_change_nothing(engine: Engine, changes: Any) -> None:
    with unchanged(), pytest.raises(ConfigurationError), temporary_settings(**changes):
        raise AssertionError


def test_run_cannot_change_its_engine(engine: Engine) -> None:
    @flow
    def changes() -> None:
        with temporary_settings(durability="strict"):
            pass

    with unchanged(), pytest.raises(ConfigurationError, match="before you call the flow"):
        changes()


def test_fake_clock_goes_on_under_other_settings() -> None:
    @task(retries=1, retry_delay_seconds=60)
    def flaky() -> None:
        raise ConnectionError

    clock = FakeClock()
    with engine_of_a_test(clock):
        with temporary_settings(task_runner_max_workers=1):
            flaky.call_state()
            assert clock.elapsed_seconds == 60
        flaky.submit().wait()
        assert clock.elapsed_seconds == 120
