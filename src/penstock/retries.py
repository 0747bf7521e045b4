"""Retries: how long a failed run waits before it is tried again."""

from __future__ import annotations

from collections.abc import Callable

from penstock._model import checks
from penstock._model.retry_policy import LONGEST_DELAY, RetryDelays, RetryOn

__all__ = ["RetryDelays", "RetryOn", "exponential_backoff"]


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """A `retry_delay_seconds` that doubles: factor, 2·factor, 4·factor, and so on.

    Args:
        backoff_factor: seconds before the first retry.

    Raises:
        ConfigurationError: the factor is not a number of at least 0.
    """
    checks.number(backoff_factor, "backoff_factor", "exponential_backoff()", below=LONGEST_DELAY)

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**retry for retry in range(retries)]

    return delays
