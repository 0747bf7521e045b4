"""Memory: what a future costs while the user holds it."""

from __future__ import annotations

from tests.benchmarks.cases import Case


class EagerFutures(Case):
    name = "futures"
    what = "growth of the peak RSS by a held future"
    count = 50_000
    quick_count = 10_000
    unit = "B"
    limit = 1000
