"""`python -m tests.benchmarks.against REV`: the working tree's Penstock beside that of a revision.

Each version is installed into an environment of its own, and does the same work, by public names
alone: `works.py` of the working tree. The processes of the two alternate, so that what else the
machine does meets both. It prints medians, ranges and ratios, and asserts nothing of them.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks import measure
from tests.benchmarks.cases import Case
from tests.benchmarks.measure import FailedSideError, read_from
from tests.benchmarks.registry import CASES
from tests.benchmarks.report import aligned, number
from tests.benchmarks.works import WORKS

_ROOT: Final = Path(__file__).parents[2]
_PIP: Final = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


class Version(NamedTuple):
    """A version of Penstock that is installed.

    Attributes:
        name: as the table calls it.
        python: the interpreter of its environment.
        bytecode: the folder of its compiled modules.
    """

    name: str
    python: Path
    bytecode: Path


class Compared(NamedTuple):
    """What both versions have measured of a case, in pairs; nothing where one of them cannot."""

    case: Case
    before: Sequence[float]
    now: Sequence[float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen cases with both versions, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.against", description=__doc__)
    parser.add_argument("revision", metavar="REV", help="a commit, branch or tag")
    add_options(parser)
    options = parser.parse_args(arguments)
    compare(options.revision, options.only, options.repeat, quick=options.quick)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which cases, and how often."""
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=WORKS, help=", ".join(WORKS))
    parser.add_argument(
        "--repeat",
        type=int,
        choices=range(1, 100),
        metavar="N",
        help="pairs of readings (default: 5, quick: 3)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer tasks, for a look")


def compare(
    revision: str, only: Sequence[str] | None, repeat: int | None, *, quick: bool = False
) -> None:
    """Measure in new environments, in the temporary folder."""
    names = only or list(WORKS)
    if not WORKS.keys() >= set(names):
        sys.exit(f"Only these can be compared: {', '.join(WORKS)}.")
    times = repeat or (3 if quick else 5)
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        before = _installed(revision, _extracted(revision, Path(folder, "source")), Path(folder))
        now = _installed("now", _ROOT, Path(folder))
        compared: list[Compared] = []
        for name in names:
            sys.stderr.write(f"{name}\n")
            compared.append(_compared(CASES[name], before, now, times, quick=quick))
    sys.stdout.write(f"{table(revision, compared, times)}\n")


# The environments


def _extracted(revision: str, folder: Path) -> Path:
    """The files of a revision."""
    archive = _run("git", "-C", str(_ROOT), "archive", "--format=tar", revision)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _installed(name: str, source: Path, folder: Path) -> Version:
    """An environment with the project in `source`, as a user would install it."""
    sys.stderr.write(f"{name}: installing\n")
    environment = folder / f"environment-{len(list(folder.iterdir()))}"
    venv.create(environment, with_pip=True)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = environment / scripts / "python"
    _run(str(python), *_PIP, f"{source}[trio]")
    version = Version(name, python, environment / "bytecode")
    _read(CASES["first-flow"], version, 1)  # compiles the modules
    return version


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.decode()}")
    return done.stdout


# Measuring


def _compared(case: Case, before: Version, now: Version, times: int, *, quick: bool) -> Compared:
    """The two in turn."""
    count = case.quick_count if quick else case.count
    readings: Mapping[Version, list[float]] = {before: [], now: []}
    try:
        for turn in range(times):
            # Each goes first as often as the other: one may leave the machine warmer.
            pair = (before, now) if turn % 2 == 0 else (now, before)
            for version in pair:
                readings[version].append(_read(case, version, count))
    except FailedSideError as error:
        *_, last = str(error).strip().splitlines()
        sys.stderr.write(f"{case.name} cannot be compared: {last}\n")
        return Compared(case, (), ())
    return Compared(case, readings[before], readings[now])


def _read(case: Case, version: Version, count: int) -> float:
    command = [str(version.python), "-m", measure.__name__, case.name, str(count)]
    # A PYTHONPATH would lead to a version that is not this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return read_from(command, environ, version.bytecode, case.timeout_seconds).value


# The table


def table(revision: str, compared: Sequence[Compared], times: int) -> str:
    """The comparison as lines of text."""
    headings = ("case", revision, "now", "", "ratio", "of pairs", "what")
    lines = aligned([headings, *map(_row, compared)], to_the_left={0, 3, 6})
    head = f"now against {revision}: medians of {times} [min–max]; µs a task unless said"
    return "\n".join((head, "", lines[0], "-" * len(lines[0]), *lines[1:]))


def _row(compared: Compared) -> tuple[str, ...]:
    case = compared.case
    if not compared.now:
        return (case.name, "", "", "", "", "", f"{case.what}: not both can do it")
    before, now = compared.before, compared.now
    ratio = statistics.median(now) / statistics.median(before)
    pairs = [after / first for first, after in zip(before, now, strict=True)]
    unit = "" if case.unit == "µs" else case.unit
    spread = f"{min(pairs):.2f}–{max(pairs):.2f}"
    return (case.name, _spread(before), _spread(now), unit, f"{ratio:.2f} ×", spread, case.what)


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{number(middle)} [{number(min(values))}–{number(max(values))}]"


if __name__ == "__main__":
    main()
