"""Settings, read from `PENSTOCK_*` environment variables when the engine starts.

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

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import msgspec

from penstock.exceptions import ConfigurationError

PREFIX = "PENSTOCK_"
Durability = Literal["relaxed", "strict"]
Synchronous = Literal["normal", "full"]
_PLACES = frozenset({"home", "database_url", "local_storage_path"})
_MEMORY_URLS = frozenset({"memory:", "sqlite:///:memory:", "sqlite+aiosqlite:///:memory:"})
_FILE_PREFIXES = ("sqlite+aiosqlite:///", "sqlite:///")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one engine.

    Attributes:
        home: the folder of all that has no place of its own.
        database_url: `sqlite:///PATH` or `memory:`.
        local_storage_path: the folder of results of 64 KiB and more.
        durability: `strict`: a result is seen only after its row has been committed.
        synchronous: `full`: each commit is synced to the disk.
        logging_level: of a script that has not set up logging.
        task_runner_max_workers: threads of the default task runner.
    """

    home: Path
    database_url: str
    local_storage_path: Path
    durability: Durability = "relaxed"
    synchronous: Synchronous = "normal"
    logging_level: str = "INFO"
    task_runner_max_workers: int = 40

    def database_path(self) -> Path | None:
        """The file of the database; None: it is kept in memory.

        Raises:
            ConfigurationError: the URL is of no known kind.
        """
        if self.database_url in _MEMORY_URLS:
            return None
        for prefix in _FILE_PREFIXES:
            if self.database_url.startswith(prefix) and len(self.database_url) > len(prefix):
                return Path(self.database_url.removeprefix(prefix)).expanduser()
        raise ConfigurationError(
            f"{PREFIX}DATABASE_URL is {self.database_url!r}; it must be 'sqlite:///PATH' "
            f"(four slashes for an absolute path) or 'memory:'."
        )


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that `environ` (default: `os.environ`) asks for.

    Raises:
        ConfigurationError: a variable has an impossible value, or there is no setting of its name.
    """
    environ = os.environ if environ is None else environ
    given = _given(environ)
    home = Path(given.get("home") or "~/.penstock").expanduser()
    given.setdefault("database_url", f"sqlite:///{home / 'penstock.db'}")
    given.setdefault("local_storage_path", str(home / "storage"))
    known = {field.name: field for field in msgspec.structs.fields(Settings)}
    values: dict[str, object] = {"home": home}
    for name, text in given.items():
        if name not in known:
            raise ConfigurationError(_unknown(name, known))
        if name != "home":
            values[name] = _converted(name, text, known[name].type)
    settings = Settings(**values)  # type: ignore[arg-type]  # converted to the fields' types above
    _check(settings)
    return settings


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings in `environ`; an empty place is one that was not given."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
    }
    return {name: value for name, value in given.items() if value or name not in _PLACES}


def _converted(name: str, text: str, type_: object) -> object:
    if type_ is Path:
        return Path(text).expanduser()
    try:
        return msgspec.convert(text, type_, strict=False)
    except msgspec.ValidationError as error:
        choices = ", ".join(get_args(type_))
        what = f"it must be one of {choices}" if choices else str(error)
        raise ConfigurationError(f"{PREFIX}{name.upper()} is {text!r}: {what}.") from None


def _check(settings: Settings) -> None:
    settings.database_path()
    if settings.task_runner_max_workers < 1:
        raise ConfigurationError(f"{PREFIX}TASK_RUNNER_MAX_WORKERS must be at least 1.")
    if settings.logging_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigurationError(
            f"{PREFIX}LOGGING_LEVEL is {settings.logging_level!r}; it must be one of "
            f"{', '.join(logging.getLevelNamesMapping())}."
        )


def _unknown(name: str, known: Mapping[str, object]) -> str:
    return (
        f"There is no setting {PREFIX}{name.upper()}; there are " + ", ".join(_names(known)) + "."
    )


def _names(known: Mapping[str, object]) -> Iterator[str]:
    return (PREFIX + name.upper() for name in known)
