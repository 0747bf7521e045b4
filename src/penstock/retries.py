"""Whether a run is tried again, and after how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from penstock.exceptions import ConfigurationError


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often, and after which delays in seconds; the last delay serves for all later ones."""

    retries: int = 0
    delays: tuple[float, ...] = (0.0,)

    def allows(self, attempts: int) -> bool:
        """Whether a run that has failed `attempts` times is tried once more."""
        return attempts <= self.retries

    def delay_after(self, attempts: int) -> float:
        """Seconds between failed attempt number `attempts` (1: the first) and the next."""
        return self.delays[min(attempts, len(self.delays)) - 1]


def retry_policy(
    retries: int, retry_delay_seconds: float | Sequence[float], owner: str
) -> RetryPolicy:
    """The policy that a decorator's arguments ask for.

    Raises:
        ConfigurationError: a number is negative or none at all.
    """
    if type(retries) is not int or retries < 0:
        raise ConfigurationError(f"{owner}: retries must be a whole number ≥ 0, not {retries!r}.")
    given = retry_delay_seconds
    delays = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not delays or not all(_is_delay(delay) for delay in delays):
        raise ConfigurationError(
            f"{owner}: retry_delay_seconds must be a number of seconds ≥ 0, or a list of them, "
            f"not {retry_delay_seconds!r}."
        )
    return RetryPolicy(retries, cast("tuple[float, ...]", delays))


def _is_delay(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
