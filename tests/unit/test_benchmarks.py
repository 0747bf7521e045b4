"""The benchmarks: their cases can be done with older versions, which have the public names, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import against, measure
from tests.benchmarks.against import Compared
from tests.benchmarks.registry import CASES
from tests.benchmarks.works import WORKS

ROOT = Path(__file__).parents[2]


def test_all_cases_but_those_on_request_can_be_compared() -> None:
    assert list(WORKS) == [name for name, case in CASES.items() if not case.on_request]


def imported_by(path: Path) -> Iterator[str]:
    """The modules of Penstock and of the tests that a file names in its imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_what_measures_older_versions_imports_public_names_alone() -> None:
    found: set[str] = set()
    left = [measure.__name__]
    while left:
        path = ROOT / f"{left.pop().replace('.', '/')}.py"
        if path.exists():
            new = set(imported_by(path)) - found
            found |= new
            left += [name for name in new if name.startswith("tests.")]
    assert {"penstock", "tests.benchmarks.works", "tests.benchmarks.runs"} <= found
    assert [name for name in found if name.startswith("penstock") and "._" in name] == []


def test_the_table_has_medians_and_what_each_pair_came_to() -> None:
    lines = against.table(
        "v1",
        [
            Compared(CASES["direct"], [20.0, 40.0, 22.0], [11.0, 22.0, 33.0]),
            Compared(CASES["tree"], [], []),
        ],
        3,
    ).splitlines()
    assert lines[0] == "now against v1: medians of 3 [min–max]; µs a task unless said"
    columns = lines[4].split()
    assert columns[:7] == ["direct", "22", "[20–40]", "22", "[11–33]", "1.00", "×"]
    assert columns[7] == "0.55–1.50"
    assert lines[5].split()[0] == "tree" and lines[5].endswith("not both can do it")


@pytest.mark.parametrize("name", ["scale", "prune", "nothing"])
def test_a_case_that_cannot_be_compared_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        against.main(["HEAD", "--only", name])
    assert "process-pool" in capsys.readouterr().err
