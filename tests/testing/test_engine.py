"""The engine of a test is its own: it sees nothing of the user's, and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, history, task
from penstock._engine.process import get_engine
from penstock.exceptions import ConfigurationError
from penstock.testing import engine


@task
def double(number: int) -> int:
    return 2 * number


@flow
def doubles(numbers: list[int]) -> list[int]:
    return double.map(numbers).result()


def test_runs_of_the_test_are_there_in_the_order_of_their_submission() -> None:
    with engine() as own:
        double(1)
        doubles([2, 3])
        kinds = [type(run).__name__ for run in own.runs()]
        assert kinds == ["TaskRunRecord", "FlowRunRecord", "TaskRunRecord", "TaskRunRecord"]
        assert [run.state.result() for run in own.runs()] == [2, [4, 6], 4, 6]
        assert len(history.task_runs()) == 3


def test_engine_sees_nothing_of_the_user_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DURABILITY", "nonsense")
    with engine() as own:
        doubles([1, 2])
        assert len(own.runs()) == 3
    with engine() as own:
        assert own.runs() == []
    assert list(tmp_path.iterdir()) == []


def test_engines_nest_and_the_one_before_comes_back() -> None:
    with engine() as outer:
        double(1)
        before = get_engine()
        with pytest.raises(ZeroDivisionError), engine():
            raise ZeroDivisionError
        assert get_engine() is before
        assert len(outer.runs()) == 1


def test_settings_of_the_engine() -> None:
    with engine(task_runner_max_workers=3, durability="strict"):
        settings = get_engine().settings
        assert (settings.task_runner_max_workers, settings.durability) == (3, "strict")
    wrong: Any = {"max_workers": 3}
    with (
        pytest.raises(ConfigurationError, match="no setting PENSTOCK_MAX_WORKERS"),
        engine(**wrong),
    ):
        raise AssertionError


def test_engine_in_files(tmp_path: Path) -> None:
    for number in (1, 2):
        with engine(home=tmp_path / "home") as own:
            double(number)
            assert len(own.runs()) == number
    assert (tmp_path / "home" / "penstock.db").exists()


def test_run_cannot_change_its_engine() -> None:
    @flow
    def changes() -> None:
        with engine():
            pass

    with engine(), pytest.raises(ConfigurationError, match="before you call the flow"):
        changes()


def test_engine_is_made_and_gone_in_milliseconds() -> None:
    """What one costs, in the median of many, and that no thread stays."""
    with engine():
        pass
    threads = threading.active_count()
    costs: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        with engine():
            double(1)
        costs.append(time.perf_counter() - began)
    assert sorted(costs)[10] < 0.05
    assert threading.active_count() <= threads
