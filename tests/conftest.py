"""What all tests share: both loops, and an engine of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

import anyio
import hypothesis
import pytest

from penstock._engine.engine import Engine
from penstock._engine.process import shutdown, use_settings
from penstock.settings import Settings, load_settings
from penstock.testing import FakeClock
from penstock.testing import engine as engine_of_a_test

# As many values as take little time, however busy the machine is; and no files left behind.
hypothesis.settings.register_profile("penstock", deadline=None, database=None, max_examples=200)
hypothesis.settings.load_profile("penstock")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class RunLoop(Protocol):
    """Runs an async function in a fresh event loop."""

    def __call__(self, fn: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T: ...


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each of the two event loops."""
    return str(request.param)


@pytest.fixture
def run_loop(backend: str) -> RunLoop:
    """Run an async function in a fresh loop of either kind."""

    def run(fn: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        return anyio.run(fn, *args, backend=backend)

    return run


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """SIGINT interrupts the tests and their scripts where the parent has it ignored (cron, nohup).

    Python sets its handler at its start unless the signal is ignored then, and what is ignored
    here would be ignored in each script that a test starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test sees or writes the files of the user who runs it, or those of another test."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    yield
    shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a database file in the test's own folder."""
    return load_settings({"PENSTOCK_HOME": str(tmp_path / "home")})


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on a fresh SQLite file; flushed and closed at the end."""
    with use_settings(settings) as engine:
        yield engine


@pytest.fixture
def clock(settings: Settings) -> Iterator[FakeClock]:
    """The fake clock of an engine on the same file; it has patience with busy machines."""
    clock = FakeClock(patience_seconds=30)
    with engine_of_a_test(clock, home=settings.home):
        yield clock
