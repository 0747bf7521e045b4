"""A machine for the scripts of each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec.transcripts import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which Penstock has not run yet."""
    return Machine(tmp_path)
