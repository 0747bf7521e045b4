"""`python -m tests.benchmarks`: time the engine against floors written by hand.

It prints medians, ranges and ratios, and asserts nothing of them. What it does insist on is that
every side of a case has left the same rows on disk. With `--peers` it times other libraries too,
which leave rows of their own; with `--against REV` another revision of Penstock, and nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from tests.benchmarks import against
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.measure import Reading
from tests.benchmarks.peers import process as peer_process
from tests.benchmarks.peers.environments import NotInstalledError, prepare
from tests.benchmarks.peers.process import PeerReading
from tests.benchmarks.peers.registry import PEERS, Peer
from tests.benchmarks.process import read
from tests.benchmarks.registry import CASES, PENSTOCK
from tests.benchmarks.report import CaseReport, figures_of, report_on, table, whole_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen cases, then print the table."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.against is not None:
        if options.peers or options.json is not None:
            parser.error("--against goes with --only, --repeat and --quick alone")
        against.compare(options.against, options.only, options.repeat, quick=options.quick)
        return
    repeat: int = options.repeat or (1 if options.quick else 3)
    names: Sequence[str] = options.only or [name for name in CASES if not CASES[name].on_request]
    peers = _prepared_peers(names if options.peers else ())
    cases: list[CaseReport] = []
    with tempfile.TemporaryDirectory() as bytecode:
        bench = Bench(quick=options.quick, repeat=repeat, bytecode=Path(bytecode))
        for name in names:
            began = time.perf_counter()
            cases.append(bench.measure(CASES[name], peers.get(name, ())))
            sys.stderr.write(f"{name}: {time.perf_counter() - began:.1f} s\n")
    report = whole_report(cases, quick=options.quick, repeat=repeat)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    sys.stdout.write(f"{table(report)}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=CASES, help=", ".join(CASES))
    parser.add_argument(
        "--repeat",
        type=int,
        choices=range(1, 100),
        metavar="N",
        help="repetitions, interleaved (default: 3, quick: 1)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer tasks, for a look")
    parser.add_argument("--against", metavar="REV", help="time a revision beside the working tree")
    parser.add_argument("--peers", action="store_true", help="time other libraries, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all readings to FILE")
    return parser


def _prepared_peers(names: Sequence[str]) -> Mapping[str, Sequence[Peer]]:
    """The peers of these cases, once all of them are installed."""
    chosen = {name: PEERS[name] for name in names if name in PEERS}
    try:
        for rival in dict.fromkeys(peer.rival for peers in chosen.values() for peer in peers):
            prepare(rival)
    except NotInstalledError as error:
        sys.exit(str(error))
    return chosen


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """How cases are measured in this run."""

    quick: bool
    repeat: int
    bytecode: Path

    def measure(self, case: Case, peers: Sequence[Peer]) -> CaseReport:
        """All sides of a case in turn, as often as is to be repeated."""
        count = case.quick_count if self.quick else case.count
        readings: dict[str, list[Reading | PeerReading]] = {}
        for _ in range(1 if case.on_request else self.repeat):
            for name, reading in self._readings(case, peers, count):
                readings.setdefault(name, []).append(reading)
        sides = {name: figures_of(side) for name, side in readings.items()}
        return report_on(case, count, sides, [*case.references(), *peers])

    def _readings(
        self, case: Case, peers: Sequence[Peer], count: int
    ) -> Iterator[tuple[str, Reading | PeerReading]]:
        mine = read(case.name, PENSTOCK, count, self.bytecode)
        yield PENSTOCK, mine
        for reference in case.references():
            other = read(case.name, reference.name, _fewer(count, reference), self.bytecode)
            _insist_on_equal_rows(case, reference, mine, other)
            yield reference.name, other
        for peer in peers:
            yield peer.name, peer_process.read(case.name, peer, _fewer(count, peer))


def _fewer(count: int, against: Reference | Peer) -> int:
    return max(1, count // against.divisor)


def _insist_on_equal_rows(case: Case, reference: Reference, mine: Reading, other: Reading) -> None:
    """Rows written by hand must be as long as Penstock's; those of a flow run are the margin."""
    if mine.rows and other.rows and abs(mine.row_bytes - other.row_bytes) > 3:
        raise RuntimeError(
            f"{case.name}: rows have {mine.row_bytes:.1f} bytes, "
            f"but {other.row_bytes:.1f} where the reference is {reference.name!r}"
        )


if __name__ == "__main__":
    main()
