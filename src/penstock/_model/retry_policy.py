"""Whether a run is tried again, and after how long.

A failed run is tried again while it has retries left, its exception is one of `retry_on`, and its
`retry_condition_fn` agrees. The last of these is the user's code, so the rules call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from penstock._model import checks
from penstock.exceptions import ConfigurationError

RetryDelays: TypeAlias = float | Sequence[float] | Callable[[int], Iterable[float]]
"""Seconds before each retry: one number, a list, or a function of the number of retries."""
RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...]
"""The exceptions after which a run is tried again."""

LONGEST_DELAY: Final = 1e9
"""Seconds, some 30 years; what is longer is taken for a mistake."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a run is tried again, after which failures, and after how many seconds.

    Attributes:
        retries: how many attempts may follow the first one.
        delays: seconds before each retry; the last serves for all later ones.
        jitter_factor: the share of a delay that is added or taken away at most.
        on: the classes of exception after which it is tried again; None: after any failure.
        condition: a function of (task, run, state) that has to agree; None: there is none.
    """

    retries: int = 0
    delays: tuple[float, ...] = (0.0,)
    jitter_factor: float = 0.0
    on: tuple[type[Exception], ...] | None = None
    condition: Callable[[Any, Any, Any], object] | None = None

    def allows(self, attempts: int, error: BaseException | None = None) -> bool:
        """Whether a run that has failed `attempts` times, last with `error`, may be tried again."""
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
    checks.integer(retries, "retries", owner, at_least=0)
    return RetryPolicy(
        retries,
        _delays(retries, retry_delay_seconds, owner),
        _jitter_factor(retry_jitter_factor, owner),
        _classes(retry_on, owner),
    )


def with_condition(policy: RetryPolicy, condition: object, owner: str) -> RetryPolicy:
    """The policy, with a condition that has to agree; None: the policy as it is.

    Raises:
        ConfigurationError: it is not a sync function of three arguments.
    """
    if condition is None:
        return policy
    function = checks.sync_function(
        condition, "retry_condition_fn", owner, ("task", "task_run", "state")
    )
    return msgspec.structs.replace(policy, condition=function)


def _delays(retries: int, given: object, owner: str) -> tuple[float, ...]:
    if callable(given):
        return _delays_called(retries, given, owner)
    many = isinstance(given, list | tuple)
    delays = tuple(cast("Sequence[object]", given)) if many else (given,)
    if not delays or not all(map(_is_delay, delays)):
        requirement = (
            "a number of seconds of at least 0, a list of them, or a function that returns such a "
            "list for a number of retries"
        )
        raise checks.refusal(given, "retry_delay_seconds", owner, requirement)
    return cast("tuple[float, ...]", delays)


def _delays_called(retries: int, given: Callable[..., object], owner: str) -> tuple[float, ...]:
    """What the function returns for that many retries; where there are none, it is not called."""
    if not retries:
        return (0.0,)
    try:
        answer = given(retries)
    except Exception as error:
        raise ConfigurationError(
            f"{owner}: the function given as retry_delay_seconds raised {error!r} when it was "
            f"called with {retries} retries."
        ) from error
    delays = tuple(cast("Iterable[object]", answer)) if isinstance(answer, Iterable) else ()
    if not delays or not all(map(_is_delay, delays)):
        raise ConfigurationError(
            f"{owner}: the function given as retry_delay_seconds must return a list of seconds "
            f"from 0 to {LONGEST_DELAY:g}; for {retries} retries it returned {answer!r}."
        )
    return cast("tuple[float, ...]", delays)


def _jitter_factor(given: object, owner: str) -> float:
    if given is None:
        return 0.0
    return checks.number(given, "retry_jitter_factor", owner, below=LONGEST_DELAY)


def _classes(given: object, owner: str) -> tuple[type[Exception], ...] | None:
    if given is None:
        return None
    classes = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
    if not classes or not all(isinstance(c, type) and issubclass(c, Exception) for c in classes):
        shown = classes if len(classes) != 1 else classes[0]
        requirement = "a subclass of Exception, or a tuple of them"
        raise checks.refusal(shown, "retry_on", owner, requirement)
    return cast("tuple[type[Exception], ...]", classes)


def _is_delay(value: object) -> bool:
    return checks.is_number(value, below=LONGEST_DELAY)
