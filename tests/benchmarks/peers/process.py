"""A rival's side of one case, in a process of its own, by the interpreter of its environment.

Nothing of the user reaches it: neither settings of the rival nor files in the home.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks.peers import sides
from tests.benchmarks.peers.environments import interpreter
from tests.benchmarks.peers.registry import Peer

_ROOT: Final = Path(__file__).parents[3]
_TIMEOUT_SECONDS: Final = 300
_FOREIGN: Final = ("PREFECT_", "DBOS_", "DASK_", "DISTRIBUTED_", "JOBLIB_", "PYTHON")
_SETTINGS: Final = {
    "DO_NOT_TRACK": "1",  # Prefect would report its use
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",  # so would its server
    "PREFECT_LOGGING_LEVEL": "WARNING",  # as on Penstock's side
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # a busy machine takes over 20
}


class PeerReading(msgspec.Struct, frozen=True):
    """What one process of a rival has measured; see `Measurement`."""

    version: str
    value: float
    returned: float
    peak_rss_bytes: int
    children_peak_rss_bytes: int
    records: int


def read(case: str, peer: Peer, count: int) -> PeerReading:
    """Measure in a new process, in a new home.

    Raises:
        RuntimeError: it failed, or its records are not what they must be.
    """
    module = f"{sides.__name__}.{peer.rival.side}"
    command = [str(interpreter(peer.rival)), "-m", module, case, str(count)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=home,
            env=_environment(home),
            timeout=_TIMEOUT_SECONDS,
        )
    if done.returncode:
        raise RuntimeError(f"{case}, {peer.name}: {done.stderr.decode()}")
    *_, last = done.stdout.splitlines()
    return msgspec.json.decode(last, type=PeerReading)


def _environment(home: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    places = {"HOME": home, "TMPDIR": home, "PREFECT_HOME": home, "PYTHONPATH": str(_ROOT)}
    return {**others, **places, **_SETTINGS}
