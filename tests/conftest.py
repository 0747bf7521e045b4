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
from tests.patience import PATIENCE_SECONDS

# As many values as take little time, however busy the machine is; and no files left behind.
hypothesis.settings.register_profile("penstock", deadline=None, database=None, max_examples=200)
hypothesis.settings.load_profile("penstock")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


STORES = {"sqlite": None, "memory": "memory:"}
"""What `--store` takes: the stores that the tests of the engine run on, and their URLs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/engine --store=memory` runs these tests on another store."""
    what = "the store of engines in tests/engine"
    parser.addoption("--store", choices=list(STORES), default="sqlite", help=what)


def _store_of(config: pytest.Config) -> str:
    return str(config.getoption("--store"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a file is left out where the store has none."""
    if _store_of(config) == "sqlite":
        return
    left_out = [item for item in items if item.get_closest_marker("needs_file") is not None]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


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


@pytest.fixture
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The variables of a fresh store: a file in the test's own folder, unless `--store` says."""
    url = STORES[_store_of(request.config)]
    return {
        "PENSTOCK_HOME": str(tmp_path / "home"),
        **({"PENSTOCK_DATABASE_URL": url} if url is not None else {}),
    }


@pytest.fixture(autouse=True)
def _nothing_of_the_user(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> Iterator[None]:
    """No test sees or writes the files of the user who runs it, or those of another test."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    yield
    shutdown()


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    """Settings of a fresh store."""
    return load_settings(environ)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on a fresh store; flushed and closed at the end."""
    with use_settings(settings) as engine:
        yield engine


@pytest.fixture
def clock(settings: Settings) -> Iterator[FakeClock]:
    """The fake clock of an engine on the same file; it has patience with busy machines."""
    clock = FakeClock(patience_seconds=PATIENCE_SECONDS)
    with engine_of_a_test(clock, home=settings.home):
        yield clock
