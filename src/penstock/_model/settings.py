"""The settings of an engine, and where they come from: the environment, or the code.

An unknown name and an impossible value are errors, as what is misspelt would be ignored otherwise.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict, get_args

import msgspec

from penstock.exceptions import ConfigurationError

PREFIX = "PENSTOCK_"
Durability = Literal["relaxed", "strict"]
"""What a result that is seen says of the disk: little, or that its row is there."""
Synchronous = Literal["normal", "full"]
"""What a commit outlives: the process, or a power loss too."""
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


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)}


class SettingsChanges(TypedDict, total=False):
    """The settings as keywords."""

    home: Path | str
    database_url: str
    local_storage_path: Path | str
    durability: Durability
    synchronous: Synchronous
    logging_level: str
    task_runner_max_workers: int


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that `environ` (default: `os.environ`) asks for.

    Raises:
        ConfigurationError: a variable has an impossible value, or there is no setting of its name.
    """
    given = _given(os.environ if environ is None else environ)
    given.setdefault("home", "~/.penstock")
    return _checked({**_places_in(given["home"]), **given})


def changed(settings: Settings, changes: SettingsChanges) -> Settings:
    """The settings with some of them changed; with another home, its places come along.

    Raises:
        ConfigurationError: there is no setting of a name, or its value is impossible.
    """
    places = _places_in(changes["home"]) if "home" in changes else {}
    return _checked({**msgspec.structs.asdict(settings), **places, **changes})


def _places_in(given: object) -> dict[str, object]:
    home = _converted("home", given)
    assert isinstance(home, Path), "a home is a path"
    return {
        "database_url": f"sqlite:///{home / 'penstock.db'}",
        "local_storage_path": home / "storage",
    }


def _checked(given: Mapping[str, object]) -> Settings:
    for name in given:
        if name not in _TYPES:
            raise ConfigurationError(
                f"There is no setting {PREFIX}{name.upper()}; there are "
                + ", ".join(PREFIX + known.upper() for known in _TYPES)
                + "."
            )
    values = {name: _converted(name, value) for name, value in given.items()}
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


def _converted(name: str, value: object) -> object:
    type_ = _TYPES[name]
    try:
        if type_ is Path and isinstance(value, str | Path):
            return Path(value).expanduser()
        return msgspec.convert(value, type_, strict=not isinstance(value, str))
    except (msgspec.ValidationError, TypeError) as error:
        choices = ", ".join(get_args(type_))
        what = f"it must be one of {choices}" if choices else str(error)
        raise ConfigurationError(f"{PREFIX}{name.upper()} is {value!r}: {what}.") from None


def _check(settings: Settings) -> None:
    settings.database_path()
    if settings.task_runner_max_workers < 1:
        raise ConfigurationError(f"{PREFIX}TASK_RUNNER_MAX_WORKERS must be at least 1.")
    if settings.logging_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigurationError(
            f"{PREFIX}LOGGING_LEVEL is {settings.logging_level!r}; it must be one of "
            f"{', '.join(logging.getLevelNamesMapping())}."
        )
