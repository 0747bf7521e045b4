"""Settings: read from `PENSTOCK_*` environment variables when the first run starts.

| variable | meaning | default |
|---|---|---|
| `PENSTOCK_HOME` | where Penstock keeps its files | `~/.penstock` |
| `PENSTOCK_DATABASE_URL` | `sqlite:///PATH` or `memory:` | `penstock.db` in the home |
| `PENSTOCK_LOCAL_STORAGE_PATH` | the folder of large results | `storage` in the home |
| `PENSTOCK_DURABILITY` | `relaxed` or `strict`, see below | `relaxed` |
| `PENSTOCK_SYNCHRONOUS` | `normal` or `full`, see below | `normal` |
| `PENSTOCK_LOGGING_LEVEL` | the level of a script that has not set up logging | `INFO` |
| `PENSTOCK_TASK_RUNNER_MAX_WORKERS` | threads of the default task runner | 40 |

Under `relaxed` durability a result may be seen a few milliseconds before its row is on disk; under
`strict` never. With `normal` synchronous a commit survives a killed process; with `full` a power
loss as well. `sqlite+aiosqlite:///PATH` is taken as `sqlite:///PATH`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from typing_extensions import Unpack

from penstock._engine.process import present_engine, use_settings
from penstock._model.publishing import publish
from penstock._model.settings import (
    Durability,
    Settings,
    SettingsChanges,
    Synchronous,
    changed,
    load_settings,
)

__all__ = [
    "Durability",
    "Settings",
    "SettingsChanges",
    "Synchronous",
    "load_settings",
    "temporary_settings",
]


@contextmanager
def temporary_settings(**changes: Unpack[SettingsChanges]) -> Generator[Settings]:
    """Use other settings in the whole process inside a `with` block, and the earlier ones after it.

    It starts an engine with the current settings and these changes, and closes it at the end, after
    all that was submitted has ended. It can be nested. Where the database stays the same, both
    engines share its file; a database in memory is a new one. Runs in progress in other threads
    keep their engine, but tasks that they call inside the block are run and recorded by the new
    one, and cancelled at its end: so enter it while nothing runs.

    Args:
        changes: the settings in the table of this module, by their names in lower case, without
            `PENSTOCK_`. A new `home` also moves the database and the storage, unless they are
            given.

    Yields:
        The settings in force.

    Raises:
        ConfigurationError: there is no such setting, its value is impossible, or this is called in
            the code of a run.
        StoreError: the database cannot be used.
    """
    before = present_engine()
    if before is not None:  # what has been recorded is seen inside, too
        before.commit().wait()
    settings = changed(load_settings() if before is None else before.settings, changes)
    with use_settings(settings, None if before is None else before.clock):
        yield settings


publish(__name__, __all__)
