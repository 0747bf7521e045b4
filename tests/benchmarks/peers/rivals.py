"""The one place where rivals are pinned: to the newest release that installs on CPython 3.11.

Each is installed from PyPI, into an environment of its own; see `environments`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Rival(NamedTuple):
    """A library that a user would pick instead.

    Attributes:
        name: as the table calls it.
        distribution: as PyPI calls it.
        version: the pin.
        side: the module of `sides` that measures it.
        pinned_too: what its own requirements leave open and does not work with it.
    """

    name: str
    distribution: str
    version: str
    side: str
    pinned_too: tuple[str, ...] = ()

    def requirements(self) -> str:
        """What pip is to install, a line each."""
        pins = (f"{self.distribution}=={self.version}", *self.pinned_too)
        return "".join(f"{pin}\n" for pin in pins)


PREFECT: Final = Rival(
    "Prefect",
    "prefect",
    "3.8.8",  # 3.9.0 and 3.9.1 require a certifi that is not there to install
    "prefect_side",
    ("fastapi==0.154.0",),  # from 0.155 on, `Body` takes no `min_items`, which Prefect passes
)
DBOS: Final = Rival("DBOS", "dbos", "3.4.0", "dbos_side")
DASK: Final = Rival("Dask", "distributed", "2026.8.0", "dask_side")
JOBLIB: Final = Rival("joblib", "joblib", "1.6.0", "joblib_side")
