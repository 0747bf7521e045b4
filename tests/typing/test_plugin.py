"""What mypy says with the plugin, word by word and line by line; the files beside hold the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "tests" / "typing" / "with_plugin" / "mypy.ini"
DEFINITIONS = """\
from penstock import flow, task, unmapped

@task
def inc(x: int, *, by: int = 1) -> int:
    return x + by

@task
def name_of(x: int) -> str:
    return str(x)

@task
def total(values: list[int]) -> int:
    return sum(values)

@flow
async def stream(x: int) -> str:
    return str(x)

text = name_of.submit(1)
by_number = {1: 2}
"""
INT = "int | TaskFuture[int] | State[int]"
AWAITED = "TaskFuture[Any] | FailureAllowed[Any] | State[Any]"
INTS = (
    f"Iterable[{INT}] | int | unmapped[{INT}] | "
    f"TaskFuture[Iterable[{INT}] | int] | State[Iterable[{INT}] | int]"
)
INT_LIST = f"ListOf[{INT}] | TaskFuture[list[int]] | State[list[int]]"
WRONG = {
    'inc.submit("a")': (
        f'Argument 1 to "submit" of "Task" has incompatible type "str"; expected "{INT}"  '
        "[arg-type]"
    ),
    "inc.submit(text)": (
        'Argument 1 to "submit" of "Task" has incompatible type "TaskFuture[str]"; '
        f'expected "{INT}"  [arg-type]'
    ),
    "inc(1, by=text)": (
        'Argument "by" to "__call__" of "Task" has incompatible type "TaskFuture[str]"; '
        f'expected "{INT}"  [arg-type]'
    ),
    "stream.run_sync(text)": (
        'Argument 1 to "run_sync" of "AsyncFlow" has incompatible type "TaskFuture[str]"; '
        f'expected "{INT}"  [arg-type]'
    ),
    "inc.submit()": ('Missing positional argument "x" in call to "submit" of "Task"  [call-arg]'),
    "inc.submit(1, to=2)": ('Unexpected keyword argument "to" for "submit" of "Task"  [call-arg]'),
    "name_of.submit(1, 2)": 'Too many arguments for "submit" of "Task"  [call-arg]',
    "inc.submit(1, return_state=True)": (
        'Unexpected keyword argument "return_state" for "submit" of "Task"  [call-arg]'
    ),
    "stream.run_sync(1, wait_for=[1])": (
        'List item 0 has incompatible type "int"; '
        f'expected "{AWAITED} | Iterable[{AWAITED} | None] | None"  [list-item]'
    ),
    "stream.submit(text)": (
        'Argument 1 to "submit" of "AsyncFlow" has incompatible type "TaskFuture[str]"; '
        f'expected "{INT}"  [arg-type]'
    ),
    "inc.submit(1, wait_for=[1])": (
        'List item 0 has incompatible type "int"; '
        f'expected "{AWAITED} | Iterable[{AWAITED} | None] | None"  [list-item]'
    ),
    "total.submit([1, text])": (
        f'List item 1 has incompatible type "TaskFuture[str]"; expected "{INT}"  [list-item]'
    ),
    "total.submit((1, 2))": (
        'Argument 1 to "submit" of "Task" has incompatible type "tuple[int, int]"; '
        f'expected "{INT_LIST}"  [arg-type]'
    ),
    "total.submit(name_of.map([1]))": (
        'Argument 1 to "submit" of "Task" has incompatible type "FutureList[str]"; '
        f'expected "{INT_LIST}"  [arg-type]'
    ),
    'inc.map(["a"])': (f'List item 0 has incompatible type "str"; expected "{INT}"  [list-item]'),
    'inc.map([1], by="a")': (
        f'Argument "by" to "map" of "Task" has incompatible type "str"; expected "{INTS}"  '
        "[arg-type]"
    ),
    'inc.map(b"abc")': (
        'map() does not take "bytes" apart; each run would get it for "int"  [arg-type]'
    ),
    "inc.map(by_number)": (
        'map() does not take "dict[int, int]" apart; each run would get it for "int"  [arg-type]'
    ),
    "inc.map(1, by=unmapped(2))": (
        "map() got no iterable argument; use submit() for a single run  [call-arg]"
    ),
    "inc.map()": 'Missing positional argument "x" in call to "map" of "Task"  [call-arg]',
}

Errors: TypeAlias = Mapping[str, Sequence[str]]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Errors:
    """The errors of each wrong line, all of them below the definitions in one file."""
    folder = tmp_path_factory.mktemp("mypy")
    (folder / "calls.py").write_text(DEFINITIONS + "\n".join(WRONG))
    (folder / "mypy.ini").write_text("[mypy]\nstrict = True\nplugins = penstock.mypy\n")
    found: dict[str, list[str]] = {line: [] for line in WRONG}
    lines = (DEFINITIONS + "\n".join(WRONG)).splitlines()
    for error in run_mypy(folder, "--config-file", "mypy.ini", "calls.py"):
        match = re.fullmatch(r"calls\.py:(\d+): error: (.*)", error)
        if match is not None:
            found[lines[int(match[1]) - 1]].append(match[2])
    return found


def run_mypy(folder: Path, *arguments: str) -> list[str]:
    """What mypy prints there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        printed, complaints, _ = api.run(["--no-error-summary", *arguments])
    finally:
        os.chdir(before)
    assert complaints == ""
    return printed.splitlines()


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_call_is_one_error_at_its_line(line: str, errors: Errors) -> None:
    assert errors[line] == [WRONG[line]]


def test_the_files_of_calls_hold_with_the_plugin(tmp_path: Path) -> None:
    options = ["--config-file", str(CONFIGURATION), "--cache-dir", str(tmp_path)]
    assert run_mypy(ROOT, *options, "tests/typing/calls.py", "tests/typing/with_plugin") == []
