"""Logging: what the lines of every run cost where somebody wants them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference, Sample
from tests.benchmarks.direct import call_all


class InfoLogging(Case):
    name = "logging"
    what = "direct calls, INFO logged to a file"
    count = 5_000
    quick_count = 1_000

    def penstock(self, count: int, /) -> Sample:
        file = floor.prepare_database().with_suffix(".log")
        logging.basicConfig(filename=file, level=logging.INFO, force=True)
        return runs.timed(lambda: call_all(count), count)

    def without(self, count: int, /) -> Sample:
        return runs.timed(lambda: call_all(count), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("with logging off", self.without, at_most=2)]
