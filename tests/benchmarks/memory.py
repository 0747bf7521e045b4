"""Memory: what a future costs while the user holds it."""

from __future__ import annotations

import resource
import sys

from penstock import flow
from tests.benchmarks import runs
from tests.benchmarks.cases import Case, Sample


def peak_rss_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@flow
def hold_all(count: int) -> int:
    futures = runs.noop.map(range(count))
    return sum(futures.result())


class EagerFutures(Case):
    name = "futures"
    what = "growth of the peak RSS by a held future"
    count = 50_000
    quick_count = 10_000
    unit = "B"
    limit = 1000

    def penstock(self, count: int, /) -> Sample:
        runs.warm_up()
        before = peak_rss_bytes()
        sample = runs.timed(lambda: hold_all(count), count)
        return Sample(
            (peak_rss_bytes() - before) / count,
            sample.task_runs + runs.WARM_UP_RUNS,
            sample.flow_runs + runs.WARM_UP_RUNS,
        )
