"""The example of the README's first command: what it measures, and what it measures again."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import penstock
from penstock import history
from penstock._engine.engine import Engine

CENSUS = Path(__file__).parents[2] / "docs" / "examples" / "census.py"
SUMMARY = re.compile(
    r"([\d,]+) modules: ([\d,]+) measured, ([\d,]+) from the cache, in \d+\.\d s\n"
)


class Summary(NamedTuple):
    """What a census says of itself at the end."""

    modules: int
    measured: int
    cached: int


class Census(NamedTuple):
    """A census that was taken in a process of its own."""

    summary: Summary
    report: str
    log: str


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small part of the standard library, to measure and to change."""
    root = tmp_path / "tree"
    library = Path(sysconfig.get_paths()["stdlib"])
    for package in ("json", "wsgiref"):
        shutil.copytree(
            library / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(library / "textwrap.py", root)
    return root


def run_census(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example as the README says, in a folder of the test's own."""
    return subprocess.run(
        [sys.executable, str(CENSUS), *arguments],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def take_census(tmp_path: Path, *arguments: str) -> Census:
    """A census that has to succeed."""
    done = run_census(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    said = SUMMARY.fullmatch(done.stdout)
    assert said is not None, done.stdout
    modules, measured, cached = (int(number.replace(",", "")) for number in said.groups())
    report = (tmp_path / "census.md").read_text(encoding="utf-8")
    return Census(Summary(modules, measured, cached), report, done.stderr)


def test_second_census_is_served_from_the_cache_and_reports_the_same(
    tree: Path, tmp_path: Path
) -> None:
    number = len(list(tree.rglob("*.py")))
    first = take_census(tmp_path, "--root", str(tree))
    second = take_census(tmp_path, "--root", str(tree))
    assert first.summary == (number, number, 0)
    assert second.summary == (number, 0, number)
    assert second.report == first.report


def test_changed_file_alone_is_measured_again(tree: Path, tmp_path: Path) -> None:
    first = take_census(tmp_path, "--root", str(tree))
    with (tree / "json" / "tool.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef added_by_the_test():\n" + "    pass\n" * 1000)
    second = take_census(tmp_path, "--root", str(tree))
    assert second.summary == (first.summary.modules, 1, first.summary.modules - 1)
    assert "added_by_the_test" not in first.report
    assert "| `json.tool.added_by_the_test` | function | 1001 | 1 | False |" in second.report


def test_file_written_anew_with_the_same_size_is_measured_again(tree: Path, tmp_path: Path) -> None:
    take_census(tmp_path, "--root", str(tree))
    os.utime(tree / "textwrap.py", (1, 1))
    assert take_census(tmp_path, "--root", str(tree)).summary.measured == 1


def test_what_one_census_has_measured_serves_one_of_another_extent(
    tree: Path, tmp_path: Path
) -> None:
    part = take_census(tmp_path, "--root", str(tree), "--package", "json").summary
    whole = take_census(tmp_path, "--root", str(tree)).summary
    assert part.measured == part.modules > 0
    assert whole == (whole.modules, whole.modules - part.modules, part.modules)


def test_relative_and_absolute_root_share_the_cache(tree: Path, tmp_path: Path) -> None:
    take_census(tmp_path, "--root", str(tree))
    assert take_census(tmp_path, "--root", tree.name).summary.measured == 0


def test_standard_library_is_the_default(tmp_path: Path) -> None:
    package = Path(sysconfig.get_paths()["stdlib"]) / "json"
    census = take_census(tmp_path, "--package", "json")
    assert census.summary.modules == len(list(package.glob("*.py")))
    assert "`json.decoder.JSONObject`" in census.report


def test_log_tells_of_the_flow_and_not_of_each_module(tree: Path, tmp_path: Path) -> None:
    log = take_census(tmp_path, "--root", str(tree)).log
    assert "for flow 'census'" in log
    assert "Finished in state Completed" in log
    assert "Task run '" not in log
    assert "Created task run" not in log


def test_census_that_cannot_write_its_report_logs_no_frame_of_the_engine(
    tree: Path, tmp_path: Path
) -> None:
    done = run_census(tmp_path, "--root", str(tree), "--report", "nowhere/census.md")
    assert done.returncode == 1
    logged = re.split(r"^(?=\d\d:\d\d:\d\d\.\d{3} \|)", done.stderr, flags=re.MULTILINE)
    errors = [entry for entry in logged if "Encountered exception during execution" in entry]
    assert len(errors) == 2, "one of the task run, one of the flow run"
    library = str(Path(penstock.__file__).parent)
    for entry in errors:
        assert "in write_report" in entry
        assert library not in entry


def test_module_counts_in_the_summary_are_those_of_the_history(tree: Path, tmp_path: Path) -> None:
    take_census(tmp_path, "--root", str(tree), "--package", "json")
    summary = take_census(tmp_path, "--root", str(tree)).summary
    latest = history.flow_runs(flow="census", limit=1)[0]
    runs = history.task_runs(flow_run=latest, task="measure")
    assert sum(run.state.name == "Cached" for run in runs) == summary.cached > 0
    assert sum(run.state.name == "Completed" for run in runs) == summary.measured > 0


def test_report_has_the_figures_counted_by_hand(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for name, source in SOURCES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    census = take_census(tmp_path, "--root", str(root))
    assert census.summary == (4, 4, 0)
    assert "Modules that could not be parsed: 1\n" in census.report
    for row in ROWS:
        assert f"| {row} |\n" in census.report
    with_tests = take_census(tmp_path, "--root", str(root), "--tests")
    assert with_tests.summary == (5, 1, 4)


SOURCES = {
    "alone.py": '''"""A module."""

class Thing:
    """A class."""

    def choose(self, values):
        """A method with a function inside."""
        def inner(a, b):
            return a and b or [x for x in a if x]
        if not values:
            return inner
        elif len(values) > 1:
            return None
        for value in values:
            while value:
                value -= 1
        try:
            return 1 if values else 2
        except ValueError:
            match values:
                case []:
                    return 3
                case _:
                    return 4
''',
    "pack/__init__.py": "",
    "pack/part.py": "async def wait():\n    async for x in y:\n        pass\n\n# The end.\n",
    "pack/broken.py": "def (:\n",
    "pack/tests/test_part.py": "def test():\n    assert True\n",
    "site-packages/foreign.py": "x = 1\n",
}
# choose: itself 1, if, elif, for, while, conditional, except, two cases; inner: itself 1, and, or,
# the comprehension and its condition.
ROWS = (
    "`alone.Thing.choose` | function | 19 | 9 | True",
    "`alone.Thing.choose.inner` | function | 2 | 5 | False",
    "`pack.part.wait` | function | 3 | 2 | False",
    "`alone` | 1 | 24 | 1 | 2 | 7.0 | 75%",
    "`pack` | 3 | 6 | 0 | 1 | 2.0 | 0%",
    "`everything` | 4 | 30 | 1 | 3 | 5.3 | 43%",
)


@pytest.fixture
def example() -> Iterator[ModuleType]:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("census", CENSUS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["census"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["census"]


def test_reading_is_tried_again_after_an_os_error(
    example: Any, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.py"
    path.write_text("x = 1\n")
    read_bytes = Path.read_bytes
    failures = [OSError("the disk is asleep"), OSError("the disk turns over")]

    def read_bytes_of_a_tired_disk(path: Path) -> bytes:
        if failures and path.name == "file.py":
            raise failures.pop()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes_of_a_tired_disk)
    assert example.read.call_state(path).result() == b"x = 1\n"
    names = [state.name for state in history.task_runs(task="read")[0].states]
    retry = ["AwaitingRetry", "Retrying"]
    assert names == ["Pending", "Running", *retry, *retry, "Completed"]
