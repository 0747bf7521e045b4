"""Logging: what the lines of every run cost where somebody wants them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tests.benchmarks import floor
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample, microseconds_a_task
from tests.benchmarks.works import WORKS, log_to_a_file


def _log_twice(count: int) -> None:
    logger = logging.getLogger("penstock.task_runs")
    for number in range(count):
        logger.info("Created task run '%s' for task '%s'", number, "noop")
        logger.info("Finished in state %s", "Completed(None)")


class InfoLogging(Case):
    name = "logging"
    what = "direct calls, INFO logged to a file"
    count = 5_000
    quick_count = 1_000

    def two_lines(self, count: int, /) -> Sample:
        floor.prepare_database()
        log_to_a_file()
        return Sample(microseconds_a_task(lambda: _log_twice(count), count))

    def references(self) -> Sequence[Reference]:
        return [
            Reference("with logging off", WORKS["direct"], at_most=2),
            Reference("two plain lines, no runs", self.two_lines),
        ]
