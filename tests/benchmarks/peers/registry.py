"""Which rivals a case is held against, and how many times faster Penstock is to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tests.benchmarks.peers.rivals import DASK, DBOS, JOBLIB, PREFECT, Rival


class Peer(NamedTuple):
    """A rival's way to do the work of a case.

    Attributes:
        rival: whose.
        by: what of the rival does it.
        at_most: the goal: Penstock's figure by this one; None: there is none.
        divisor: the rival does the work for so many times fewer tasks.
    """

    rival: Rival
    by: str
    at_most: float | None = None
    divisor: int = 1

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{self.rival.name} {self.rival.version}, {self.by}"


PEERS: Final[Mapping[str, Sequence[Peer]]] = {
    "direct": [
        Peer(PREFECT, "own server", at_most=1 / 200, divisor=50),
        Peer(DBOS, "SQLite", at_most=1 / 100, divisor=20),
    ],
    "submit": [
        Peer(PREFECT, "own server", at_most=1 / 200, divisor=50),
        Peer(DASK, "LocalCluster, no rows", divisor=10),
        Peer(JOBLIB, "40 threads, no rows"),
    ],
    "cache": [Peer(JOBLIB, "Memory, no rows", at_most=1 / 5)],
    "cache-restart": [Peer(JOBLIB, "Memory, no rows", at_most=1 / 3)],
    "sleep-threads": [Peer(JOBLIB, "40 threads, no rows")],
    "strict": [Peer(DBOS, "SQLite")],
}
"""By the names of the cases."""
