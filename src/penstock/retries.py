"""Whether a run is tried again, and after how long.

A failed run is tried again while it has retries left, its exception is one of `retry_on`, and its
`retry_condition_fn` agrees. The last of these is the user's code, so it is the rules that ask it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from penstock.exceptions import ConfigurationError

RetryDelays: TypeAlias = float | Sequence[float] | Callable[[int], Iterable[float]]
"""Seconds before each retry: one number, a list, or a function of the number of retries."""
RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...]
"""The exceptions after which a run is tried again."""

_SHORTEST, _LONGEST = 0.0, 1e9


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a run is tried again, after which failures, and after how many seconds.

    Attributes:
        retries: how many attempts may follow the first one.
        delays: seconds before each retry; the last serves for all later ones.
        jitter_factor: which part of a delay is added or taken away at most.
        on: the classes of exception after which it is tried again; None: after any failure.
        condition: a function of (task, run, state) that has to agree; None: nobody is asked.
    """

    retries: int = 0
    delays: tuple[float, ...] = (0.0,)
    jitter_factor: float = 0.0
    on: tuple[type[Exception], ...] | None = None
    condition: Callable[[Any, Any, Any], object] | None = None

    def allows(self, attempts: int, error: BaseException | None = None) -> bool:
        """Whether a run that has failed `attempts` times, of late so, may be tried once more."""
        return attempts <= self.retries and (self.on is None or isinstance(error, self.on))

    def delay_after(self, attempts: int, draw: Callable[[], float] | None = None) -> float:
        """Seconds between failed attempt number `attempts` (1: the first) and the next.

        With jitter and a `draw`, which gives a number from 0 to 1, they are spread evenly over
        d·(1 - factor) to d·(1 + factor), or over 0 to d·(1 + factor) where the factor is above 1.
        """
        delay = self.delays[min(attempts, len(self.delays)) - 1]
        if not self.jitter_factor or draw is None:
            return delay
        shortest = max(0.0, delay * (1 - self.jitter_factor))
        return shortest + draw() * (delay * (1 + self.jitter_factor) - shortest)


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """A `retry_delay_seconds` that doubles: factor, 2·factor, 4·factor, and so on.

    Raises:
        ConfigurationError: the factor is no number of seconds ≥ 0.
    """
    if not _is_delay(backoff_factor):
        raise ConfigurationError(
            "exponential_backoff: backoff_factor must be a number of seconds ≥ 0, "
            f"not {backoff_factor!r}."
        )

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**retry for retry in range(retries)]

    return delays


def retry_policy(
    retries: int,
    retry_delay_seconds: RetryDelays,
    owner: str,
    retry_jitter_factor: float | None = None,
    retry_on: RetryOn | None = None,
) -> RetryPolicy:
    """The policy that a decorator's arguments ask for.

    Raises:
        ConfigurationError: naming the argument that has an impossible value.
    """
    if type(retries) is not int or retries < 0:
        raise ConfigurationError(f"{owner}: retries must be a whole number ≥ 0, not {retries!r}.")
    return RetryPolicy(
        retries,
        _delays(retries, retry_delay_seconds, owner),
        _jitter_factor(retry_jitter_factor, owner),
        _classes(retry_on, owner),
    )


def with_condition(policy: RetryPolicy, condition: object, owner: str) -> RetryPolicy:
    """The policy, asking that function as well; None: asking nobody.

    Raises:
        ConfigurationError: it is no sync function.
    """
    if condition is None:
        return policy
    if not callable(condition) or inspect.iscoroutinefunction(condition):
        raise ConfigurationError(
            f"{owner}: retry_condition_fn must be a sync function of (task, task_run, state), "
            f"not {condition!r}."
        )
    return msgspec.structs.replace(policy, condition=condition)


def _delays(retries: int, given: object, owner: str) -> tuple[float, ...]:
    if callable(given):
        return _delays_called(retries, given, owner)
    many = isinstance(given, list | tuple)
    delays = tuple(cast("Sequence[object]", given)) if many else (given,)
    if not delays or not all(_is_delay(delay) for delay in delays):
        raise ConfigurationError(
            f"{owner}: retry_delay_seconds must be a number of seconds ≥ 0, a list of them, or a "
            f"function of the number of retries that gives such a list, not {given!r}."
        )
    return cast("tuple[float, ...]", delays)


def _delays_called(retries: int, given: Callable[..., object], owner: str) -> tuple[float, ...]:
    """What the function says of that many retries; where there are none, it is not asked."""
    if not retries:
        return (0.0,)
    try:
        answer = given(retries)
    except Exception as error:
        raise ConfigurationError(
            f"{owner}: retry_delay_seconds is a function that raised when it was called with "
            f"{retries} retries: {error!r}."
        ) from error
    delays = tuple(cast("Iterable[object]", answer)) if isinstance(answer, Iterable) else ()
    if not delays or not all(_is_delay(delay) for delay in delays):
        raise ConfigurationError(
            f"{owner}: retry_delay_seconds is a function that must give a list of seconds from 0 "
            f"to {_LONGEST:g}; for {retries} retries it gave {answer!r}."
        )
    return cast("tuple[float, ...]", delays)


def _jitter_factor(given: object, owner: str) -> float:
    if given is None:
        return 0.0
    if not _is_delay(given):
        raise ConfigurationError(
            f"{owner}: retry_jitter_factor must be a number ≥ 0, not {given!r}."
        )
    return float(cast("float", given))


def _classes(given: object, owner: str) -> tuple[type[Exception], ...] | None:
    if given is None:
        return None
    classes = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (given,)
    if not classes or not all(isinstance(c, type) and issubclass(c, Exception) for c in classes):
        raise ConfigurationError(
            f"{owner}: retry_on must be a class of exception or a tuple of them, not {given!r}."
        )
    return cast("tuple[type[Exception], ...]", classes)


def _is_delay(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and _SHORTEST <= cast("float", value) < _LONGEST
