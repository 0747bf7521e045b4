"""The table of Prefect's names is so: what it says is there is there, and what is absent is not.

The first column of a row has names of Prefect's, the second says `same`, `different` or `absent`.
A same name is looked for with `penstock` in the place of `prefect`; the other name of a different
one begins the third column. `@flow(name)` is an argument of the decorator, `f(name)` of all calls.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_overloads

import msgspec
import pytest

import penstock
from penstock._calls.signature import RESERVED
from penstock.settings import Settings

PAGE = Path(__file__).parents[2] / "docs/coming-from-prefect.md"
ROW = re.compile(r"\| (`.+`) \| (\w+) \| (.*) ?\|")
CODE = re.compile(r"`([^`]+)`")
ARGUMENT = re.compile(r"@?(\w+)\((\w+)\)")
DECORATORS: dict[str, Callable[..., object]] = {"flow": penstock.flow, "task": penstock.task}
SETTINGS = {f"PENSTOCK_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}


class Row(NamedTuple):
    """A name of Prefect's, what the table says of it, and what it would be here."""

    name: str
    here: str
    counterpart: str


def rows_of(text: str) -> Iterator[Row]:
    for line in text.splitlines():
        row = ROW.fullmatch(line)
        assert row or not line.startswith("| `"), f"no row of the table: {line}"
        for name in CODE.findall(row[1]) if row else ():
            other = CODE.match(row[3]) if row and row[2] == "different" else None
            yield Row(name, row[2] if row else "", other[1] if other else translated(name))


def translated(name: str) -> str:
    """What the name would be here, were it the same."""
    return name.replace("prefect", "penstock", 1).replace("PREFECT_", "PENSTOCK_")


def exists(name: str) -> bool:
    """Whether there is such a setting, argument, module or attribute."""
    if name.startswith("PENSTOCK_"):
        return name in SETTINGS
    argument = ARGUMENT.fullmatch(name)
    if argument is None:
        return is_found(name)
    function, parameter = argument.groups()
    if function == "f":
        return parameter in RESERVED
    return parameter in inspect.signature(get_overloads(DECORATORS[function])[-1]).parameters


def is_found(path: str) -> bool:
    """Whether a path leads from a module through attributes to anything."""
    module, names = path, list[str]()
    while True:
        try:
            found: object = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, name = module.rpartition(".")
            names.insert(0, name)
        else:
            break
    for name in names[:-1]:
        found = getattr(found, name, None)
    return not names or hasattr(found, names[-1]) or is_set_by_init(found, names[-1])


def is_set_by_init(owner: object, name: str) -> bool:
    """Whether a flow or a task has the attribute, though its class has not."""
    made = {penstock.Flow: penstock.flow(len_of), penstock.Task: penstock.task(len_of)}
    return isinstance(owner, type) and hasattr(made.get(owner), name)


def len_of(text: str) -> int:
    return len(text)


ROWS = list(rows_of(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_the_table_says_of_a_name_is_so(row: Row) -> None:
    assert row.here in {"same", "different", "absent"}
    assert exists(row.counterpart) is (row.here != "absent"), row


def test_no_name_is_in_the_table_twice() -> None:
    assert len(ROWS) > 150
    assert sorted(row.name for row in ROWS) == sorted({row.name for row in ROWS})


def test_a_different_name_says_what_there_is_in_its_place() -> None:
    (row,) = rows_of("| `prefect.A` | different | `penstock.B`: why, not `penstock.C` |")
    assert row.counterpart == "penstock.B"
    assert not exists(row.counterpart)
