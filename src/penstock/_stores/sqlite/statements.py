"""Statements, as all modules of this folder make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Statement(NamedTuple):
    """A statement with its values."""

    sql: str
    values: Sequence[object] = ()
