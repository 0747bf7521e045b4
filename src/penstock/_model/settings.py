"""The settings of an engine, from the environment or from code.

An unknown name and an impossible value are errors: otherwise a misspelt setting would be ignored.

Why: docs/inside/run.md, "An unknown setting is an error".
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypedDict, get_args

import msgspec

from penstock._model import checks
from penstock._model.store_kinds import kind_of, split_url
from penstock.exceptions import ConfigurationError

PREFIX = "PENSTOCK_"
Durability = Literal["relaxed", "strict"]
"""Whether a result may be seen before its row is on disk (`relaxed`), or only after (`strict`)."""
Synchronous = Literal["normal", "full"]
"""Whether a commit survives a killed process (`normal`), or a power loss as well (`full`)."""
_PATHS = frozenset({"home", "database_url", "local_storage_path"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one engine.

    Attributes:
        home: the folder of the database and of large results, where nothing else is set.
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
        """The file of the database; None: its store keeps nothing in a file."""
        _scheme, rest = split_url(self.database_url)
        return kind_of(self.database_url).file_of(rest)


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
    return _checked({**_paths_below(given["home"]), **given})


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that `load_settings` makes these settings of."""
    return {
        f"{PREFIX}{name.upper()}": str(value)
        for name, value in msgspec.structs.asdict(settings).items()
    }


def changed(settings: Settings, changes: SettingsChanges) -> Settings:
    """The settings with some of them changed; another home also moves what is kept below it.

    Raises:
        ConfigurationError: there is no setting of a name, or its value is impossible.
    """
    paths = _paths_below(changes["home"]) if "home" in changes else {}
    return _checked({**msgspec.structs.asdict(settings), **paths, **changes})


def _paths_below(given: object) -> dict[str, object]:
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
    """The settings in `environ`; an empty path counts as not given."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
    }
    return {name: value for name, value in given.items() if value or name not in _PATHS}


def _converted(name: str, value: object) -> object:
    """The value as the type of the setting says; a variable of the environment is a string."""
    type_, variable = _TYPES[name], f"{PREFIX}{name.upper()}"
    if type_ is Path:
        return checks.path(value, variable, "")
    if type_ is str:
        return checks.string(value, variable, "")
    if type_ is int:
        with suppress(ValueError):
            value = int(value) if isinstance(value, str) else value
        return checks.integer(value, variable, "", at_least=1)
    checks.one_of(value, get_args(type_), variable, "")
    return value


def _check(settings: Settings) -> None:
    kind_of(settings.database_url)
    levels = logging.getLevelNamesMapping()
    if settings.logging_level.upper() not in levels:
        checks.one_of(settings.logging_level, levels, f"{PREFIX}LOGGING_LEVEL", "")
