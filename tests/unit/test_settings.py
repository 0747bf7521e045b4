"""Settings: read from the environment, with an error that names the variable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock._model.settings import SettingsChanges, changed
from penstock.exceptions import ConfigurationError
from penstock.settings import Settings, load_settings


def loaded(**variables: str) -> Settings:
    """The settings of an environment with these variables, `PENSTOCK_` left out."""
    return load_settings({f"PENSTOCK_{name}": value for name, value in variables.items()})


def test_the_defaults_are_below_the_home_of_the_user() -> None:
    home = Path("~/.penstock").expanduser()
    assert load_settings({}) == Settings(
        home=home,
        database_url=f"sqlite:///{home / 'penstock.db'}",
        local_storage_path=home / "storage",
        durability="relaxed",
        synchronous="normal",
        logging_level="INFO",
        task_runner_max_workers=40,
    )
    assert load_settings({}).database_path() == home / "penstock.db"


def test_a_home_moves_the_database_and_the_storage() -> None:
    settings = loaded(HOME="/data/penstock")
    assert settings.home == Path("/data/penstock")
    assert settings.database_path() == Path("/data/penstock/penstock.db")
    assert settings.local_storage_path == Path("/data/penstock/storage")


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("LOCAL_STORAGE_PATH", "/big", "local_storage_path", Path("/big")),
        ("LOCAL_STORAGE_PATH", "~/big", "local_storage_path", Path("~/big").expanduser()),
        ("HOME", "~/mine", "home", Path("~/mine").expanduser()),
        ("DURABILITY", "strict", "durability", "strict"),
        ("SYNCHRONOUS", "full", "synchronous", "full"),
        ("LOGGING_LEVEL", "DEBUG", "logging_level", "DEBUG"),
        ("LOGGING_LEVEL", "warning", "logging_level", "warning"),
        ("TASK_RUNNER_MAX_WORKERS", "3", "task_runner_max_workers", 3),
    ],
)
def test_each_setting_is_read_from_its_variable(
    name: str, text: str, field: str, value: object
) -> None:
    assert getattr(loaded(**{name: text}), field) == value


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////data/my.db", Path("/data/my.db")),
        ("sqlite+aiosqlite:////data/my.db", Path("/data/my.db")),
        ("sqlite:///my.db", Path("my.db")),
        ("sqlite:///~/my.db", Path("~/my.db").expanduser()),
        ("memory:", None),
        ("sqlite:///:memory:", None),
        ("sqlite+aiosqlite:///:memory:", None),
    ],
)
def test_a_database_url_is_a_file_or_memory(url: str, path: Path | None) -> None:
    assert loaded(DATABASE_URL=url).database_path() == path


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("DATABASE_URL", "postgresql://host/db", "sqlite:///PATH"),
        ("DATABASE_URL", "/data/my.db", "sqlite:///PATH"),
        ("DATABASE_URL", "sqlite:///", "sqlite:///PATH"),
        ("DATABASE_URL", "sqlite://my.db", "four slashes"),
        ("DURABILITY", "maybe", "maybe"),
        ("SYNCHRONOUS", "off", "off"),
        ("LOGGING_LEVEL", "LOUD", "LOUD"),
        ("TASK_RUNNER_MAX_WORKERS", "many", "many"),
        ("TASK_RUNNER_MAX_WORKERS", "2.5", "2.5"),
        ("TASK_RUNNER_MAX_WORKERS", "", "int"),
        ("TASK_RUNNER_MAX_WORKERS", "0", "at least 1"),
        ("TASK_RUNNER_MAX_WORKERS", "-1", "at least 1"),
    ],
)
def test_an_impossible_value_is_refused_with_the_name_of_its_variable(
    name: str, text: str, what: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        loaded(**{name: text})
    assert str(raised.value).startswith(f"PENSTOCK_{name} ")
    assert what in str(raised.value)


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do() -> None:
    settings = {"DURABILITY": ("relaxed", "strict"), "SYNCHRONOUS": ("normal", "full")}
    for name, choices in settings.items():
        with pytest.raises(ConfigurationError) as raised:
            loaded(**{name: "maybe"})
        assert all(choice in str(raised.value) for choice in choices)


def test_a_setting_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigurationError) as raised:
        loaded(DATABSE_URL="memory:")
    message = str(raised.value)
    assert message.startswith("There is no setting PENSTOCK_DATABSE_URL; there are ")
    for field in msgspec.structs.fields(Settings):
        assert f"PENSTOCK_{field.name.upper()}" in message


@pytest.mark.parametrize("name", ["HOME", "LOCAL_STORAGE_PATH", "DATABASE_URL"])
def test_an_empty_place_is_one_that_was_not_given(name: str) -> None:
    """Never the folder that the process happens to run in."""
    assert loaded(**{name: ""}) == load_settings({})


def test_other_variables_are_none_of_its_business() -> None:
    assert load_settings({"HOME": "/x", "PREFECT_HOME": "/y", "penstock_home": "/z"}) == (
        load_settings({})
    )


def test_the_environment_is_that_of_the_process_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_TASK_RUNNER_MAX_WORKERS", "7")
    assert load_settings().task_runner_max_workers == 7


def test_settings_cannot_be_changed() -> None:
    settings: Any = load_settings({})
    with pytest.raises(AttributeError):
        settings.durability = "strict"


# Changes


BASE = load_settings({"PENSTOCK_HOME": "/base"})


def test_changed_settings_keep_all_the_others() -> None:
    settings = changed(BASE, {"durability": "strict", "task_runner_max_workers": 4})
    assert settings == msgspec.structs.replace(BASE, durability="strict", task_runner_max_workers=4)


def test_another_home_has_places_of_its_own_unless_they_are_given() -> None:
    assert changed(BASE, {"home": "/other"}) == load_settings({"PENSTOCK_HOME": "/other"})
    settings = changed(BASE, {"home": Path("/other"), "database_url": "memory:"})
    assert settings.database_path() is None
    assert settings.local_storage_path == Path("/other/storage")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"durabilty": "strict"}, "There is no setting PENSTOCK_DURABILTY"),
        (
            {"durability": "lax"},
            "PENSTOCK_DURABILITY must be one of 'relaxed', 'strict', not 'lax'",
        ),
        (
            {"task_runner_max_workers": 0},
            "PENSTOCK_TASK_RUNNER_MAX_WORKERS must be an integer of at least 1, not 0",
        ),
        (
            {"task_runner_max_workers": True},
            "PENSTOCK_TASK_RUNNER_MAX_WORKERS must be an integer of at least 1, not True",
        ),
        (
            {"task_runner_max_workers": None},
            "PENSTOCK_TASK_RUNNER_MAX_WORKERS must be an integer of at least 1, not None",
        ),
        ({"logging_level": 10}, "PENSTOCK_LOGGING_LEVEL must be a string, not 10"),
        ({"logging_level": "LOUD"}, "PENSTOCK_LOGGING_LEVEL must be one of"),
        ({"home": None}, "PENSTOCK_HOME must be a path, not None"),
        ({"local_storage_path": 3}, "PENSTOCK_LOCAL_STORAGE_PATH must be a path, not 3"),
        ({"database_url": "mysql://"}, "PENSTOCK_DATABASE_URL must be 'sqlite:///PATH'"),
    ],
)
def test_unknown_and_impossible_changes_are_refused(changes: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(what)):
        changed(BASE, changes)


def test_each_setting_can_be_changed_by_its_keyword() -> None:
    names = {field.name for field in msgspec.structs.fields(Settings)}
    assert set(SettingsChanges.__annotations__) == names
