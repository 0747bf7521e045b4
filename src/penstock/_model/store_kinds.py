"""The kinds of stores, by the scheme of their URLs: a further one is one more entry.

Settings are checked against this table, and are made before any store is. So an entry names the
function that opens its store, and what that needs is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from penstock._model import checks

_SQLITE_IN_MEMORY: Final = "///:memory:"


def _no_file(_rest: str) -> None:
    return None


class StoreKind(NamedTuple):
    """What is known of a kind of store before it is imported.

    Attributes:
        form: how its URLs are written.
        takes: whether it can be opened by what follows the scheme.
        opener: its `open_store(settings, host)`, as module and name.
        file_of: the file that what follows the scheme names; None: it keeps nothing in a file.
    """

    form: str
    takes: Callable[[str], bool]
    opener: str
    file_of: Callable[[str], Path | None] = _no_file


def _names_a_file(rest: str) -> bool:
    return rest.startswith("///") and len(rest) > len("///")


def _named_file(rest: str) -> Path | None:
    return None if rest == _SQLITE_IN_MEMORY else Path(rest.removeprefix("///")).expanduser()


def _is_empty(rest: str) -> bool:
    return not rest


STORE_KINDS: Final[Mapping[str, StoreKind]] = {
    "sqlite": StoreKind(
        "'sqlite:///PATH' (four slashes for an absolute path)",
        _names_a_file,
        "penstock._stores.sqlite.store:open_store",
        _named_file,
    ),
    "memory": StoreKind("'memory:'", _is_empty, "penstock._stores.memory:open_store"),
}


def kind_of(url: str) -> StoreKind:
    """The kind of store that a URL asks for.

    Raises:
        ConfigurationError: there is no such kind.
    """
    scheme, rest = split_url(url)
    kind = STORE_KINDS.get(scheme)
    if kind is None or not kind.takes(rest):
        forms = " or ".join(kind.form for kind in STORE_KINDS.values())
        raise checks.refusal(url, "PENSTOCK_DATABASE_URL", "", forms)
    return kind


def split_url(url: str) -> tuple[str, str]:
    """The scheme of a URL without a driver, as in `sqlite+aiosqlite`, and what follows it."""
    scheme, _colon, rest = url.partition(":")
    return scheme.partition("+")[0], rest
