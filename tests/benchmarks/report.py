"""The figures of all cases: as a table for people, as JSON for programs."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

import penstock
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.measure import Reading
from tests.benchmarks.peers.process import PeerReading
from tests.benchmarks.peers.registry import Peer
from tests.benchmarks.registry import PENSTOCK


class Figures(msgspec.Struct, frozen=True):
    """What the repetitions of one side came to."""

    median: float
    minimum: float
    maximum: float
    peak_rss_mb: float
    readings: Sequence[Reading | PeerReading]


class Comparison(msgspec.Struct, frozen=True):
    """Penstock held against one other side; met: whether the goal is, None: there is none."""

    reference: str
    ratio: float
    at_most: float | None
    met: bool | None


class CaseReport(msgspec.Struct, frozen=True):
    """All there is to say about one case."""

    name: str
    what: str
    unit: str
    count: int
    limit: float | None
    within_limit: bool | None
    sides: Mapping[str, Figures]
    comparisons: Sequence[Comparison]


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    penstock: str
    python: str
    machine: str
    cpus: int | None
    quick: bool
    repeat: int
    cases: Sequence[CaseReport]


def figures_of(readings: Sequence[Reading | PeerReading]) -> Figures:
    """Median and range."""
    values = [reading.value for reading in readings]
    peak = statistics.median(reading.peak_rss_bytes for reading in readings)
    return Figures(statistics.median(values), min(values), max(values), peak / 1e6, readings)


def report_on(
    case: Case, count: int, sides: Mapping[str, Figures], others: Sequence[Reference | Peer]
) -> CaseReport:
    """Hold the figures of one case against each other and against its goals."""
    figure = sides[PENSTOCK].median
    comparisons: list[Comparison] = []
    for other in others:
        ratio = figure / sides[other.name].median
        goal = other.at_most
        met = None if goal is None else ratio <= goal
        comparisons.append(Comparison(other.name, ratio, goal, met))
    within_limit = None if case.limit is None else figure <= case.limit
    return CaseReport(
        case.name, case.what, case.unit, count, case.limit, within_limit, sides, comparisons
    )


def whole_report(cases: Sequence[CaseReport], *, quick: bool, repeat: int) -> Report:
    """The cases with what they were measured on."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}"
    return Report(penstock.__version__, python, machine, os.cpu_count(), quick, repeat, cases)


# The table

_HEADINGS = ("case", "penstock", "reference", "", "ratio", "goal", "", "MB", "what")
_TO_THE_LEFT = {0, 2, 5, 6, 8}


def table(report: Report) -> str:
    """The report as lines of text."""
    rows = [_HEADINGS, *(row for case in report.cases for row in _rows(case))]
    lines = aligned(rows, _TO_THE_LEFT)
    head = (
        f"Penstock {report.penstock}, {report.python}, {report.machine}, {report.cpus} CPUs; "
        f"medians of {report.repeat} [min–max], µs a task unless said, all rows on disk"
    )
    return "\n".join((head, "", lines[0], "-" * len(lines[0]), *lines[1:]))


def aligned(rows: Sequence[Sequence[str]], to_the_left: Collection[int]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cells(row, widths, to_the_left)).rstrip() for row in rows]


def _cells(
    row: Sequence[str], widths: Sequence[int], to_the_left: Collection[int]
) -> Iterator[str]:
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if index in to_the_left else cell.rjust(width)


def _rows(case: CaseReport) -> Iterator[tuple[str, ...]]:
    mine = case.sides[PENSTOCK]
    name, what, memory = case.name, case.what, f"{mine.peak_rss_mb:.0f}"
    figure = _spread(mine) + (f" {case.unit}" if case.unit != "µs" else "")
    if case.limit is not None:
        goal = f"≤ {number(case.limit)} {case.unit}"
        yield (name, figure, "", "", "", goal, _verdict(case.within_limit), memory, what)
        name = figure = memory = what = ""
    for comparison in case.comparisons:
        theirs = _spread(case.sides[comparison.reference])
        ratio = f"{number(comparison.ratio)} ×"
        goal = "" if comparison.at_most is None else f"≤ {number(comparison.at_most)} ×"
        verdict = _verdict(comparison.met)
        yield (name, figure, comparison.reference, theirs, ratio, goal, verdict, memory, what)
        name = figure = memory = what = ""
    yield from _parts(case)


def _parts(case: CaseReport) -> Iterator[tuple[str, ...]]:
    """What the value was taken from, beside the same of the first reference."""
    theirs: Mapping[str, float] = {}
    for comparison in case.comparisons[:1]:
        theirs = _parts_of(case.sides[comparison.reference])
    for part, value in _parts_of(case.sides[PENSTOCK]).items():
        other = number(theirs[part]) if part in theirs else ""
        yield ("", f"{number(value)} {case.unit}", "", other, "", "", "", "", part)


def _parts_of(side: Figures) -> Mapping[str, float]:
    reading = side.readings[0]
    return reading.parts if isinstance(reading, Reading) else {}


def _spread(figures: Figures) -> str:
    low, high = number(figures.minimum), number(figures.maximum)
    return f"{number(figures.median)} [{low}–{high}]"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "missed", None: ""}[met]
