"""Opens the store that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import TypeAlias

from penstock._model.settings import Settings
from penstock._model.store_kinds import kind_of
from penstock._stores.port import Store
from penstock._waiting.loops import LoopThread

Opener: TypeAlias = Callable[[Settings, LoopThread], Store]


def open_store(settings: Settings, host: LoopThread) -> Store:
    """The store at `settings.database_url`, which may use the engine's loop.

    Raises:
        StoreError: it cannot be used.
    """
    opener: Opener = resolve_name(kind_of(settings.database_url).opener)
    return opener(settings, host)
