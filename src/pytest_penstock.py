"""A plugin of pytest: the fixtures `penstock_engine` and `fake_clock`.

It is a module beside the package, so that pytest imports Penstock in the first test that uses it,
and not with the plugin.

Why: docs/inside/testing.md, "The plugin of pytest is a module beside the package".
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from penstock.testing import Engine, FakeClock


@pytest.fixture
def penstock_engine(request: pytest.FixtureRequest) -> Generator[Engine]:
    """An engine for this test alone, in memory; `penstock.history` reads its runs."""
    from penstock.testing import FakeClock, engine

    clock = FakeClock() if "fake_clock" in request.fixturenames else None
    with engine(clock) as own:
        yield own


@pytest.fixture
def fake_clock(penstock_engine: Engine) -> FakeClock:
    """The clock of `penstock_engine`, whose time passes when all wait for it, and then at once."""
    clock = penstock_engine.clock
    assert clock is not None, "name `fake_clock` among the test's arguments, or in a usefixtures"
    return clock
