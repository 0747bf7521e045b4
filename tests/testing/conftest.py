"""A fake clock on both loops, and a plugin of pytest to test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.testing import FakeClock, engine

pytest_plugins = ["pytester"]


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """The clock of an engine in memory."""
    clock = FakeClock(patience_seconds=30)
    with engine(clock):
        yield clock
