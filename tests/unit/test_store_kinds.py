"""The kinds of stores are one table, which settings and engines ask."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

import pytest

from penstock import flow, history, temporary_settings
from penstock._model import store_kinds
from penstock._model.settings import Settings, load_settings
from penstock._model.store_kinds import STORE_KINDS, StoreKind, kind_of
from penstock._stores.memory import MemoryStore
from penstock._stores.opening import open_store
from penstock._stores.port import Store
from penstock._stores.sqlite.store import SqliteStore
from penstock._waiting.loops import LoopThread
from penstock.exceptions import ConfigurationError


@pytest.mark.parametrize("kind", STORE_KINDS.values(), ids=STORE_KINDS)
def test_each_kind_names_a_function_that_opens_it(kind: StoreKind) -> None:
    assert callable(resolve_name(kind.opener))


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("sqlite:///penstock.db", "sqlite"),
        ("sqlite+aiosqlite:////data/penstock.db", "sqlite"),
        ("sqlite:///:memory:", "sqlite"),
        ("memory:", "memory"),
    ],
)
def test_the_scheme_says_which_kind_it_is(url: str, scheme: str) -> None:
    """Whatever driver is named with it."""
    assert kind_of(url) is STORE_KINDS[scheme]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite",
        "sqlite:",
        "sqlite:///",
        "sqlite://host",
        "memory:x",
        "postgres://host",
        "/file",
    ],
)
def test_an_error_names_all_kinds(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind_of(url)
    assert str(caught.value) == (
        "PENSTOCK_DATABASE_URL must be 'sqlite:///PATH' (four slashes for an absolute path) or "
        f"'memory:', not {url!r}."
    )


def open_toy(_settings: Settings, _host: LoopThread) -> Store:
    """What a further kind would have in a module of its own."""
    return Toy()


class Toy(MemoryStore):
    """A further kind of store."""


def names_a_toy(rest: str) -> bool:
    return rest.startswith("//")


def test_a_further_kind_is_one_more_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = StoreKind("'toy://NAME'", names_a_toy, f"{__name__}:open_toy")
    monkeypatch.setattr(store_kinds, "STORE_KINDS", {**STORE_KINDS, "toy": toy})

    @flow
    def works() -> int:
        return 1

    with temporary_settings(database_url="toy://box"):
        assert works() == 1
        assert [run.name for run in history.flow_runs()]
    with pytest.raises(ConfigurationError, match="or 'toy://NAME'"):
        kind_of("postgres://host")


def test_the_store_is_that_of_the_settings(tmp_path: Path) -> None:
    host = LoopThread("test-host")
    kinds: dict[str, type[Store]] = {
        f"sqlite:///{tmp_path / 'penstock.db'}": SqliteStore,
        "sqlite:///:memory:": MemoryStore,
        "memory:": MemoryStore,
    }
    for url, kind in kinds.items():
        settings = load_settings({"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_DATABASE_URL": url})
        store = open_store(settings, host)
        assert type(store) is kind
        store.close()
    host.stop()
