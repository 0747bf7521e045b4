"""Limits on what runs at once, over all processes that share a database.

A limit has a name and a number of slots. A task run with a tag of that name holds a slot while it
is Running; other code holds one inside `concurrency`. `rate_limit` takes slots that become free by
themselves, a number of them each second.

Limits are kept in the database until they are deleted. Slots are not: when a process ends, in
whatever way, its slots are released.

Examples:
    At most ten at once, whatever the process::

        set_limit("database", 10)

        @task(tags=["database"])
        def query(): ...

        with concurrency("database"):
            ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import anyio

from penstock._engine.engine import Engine
from penstock._engine.process import get_engine
from penstock._engine.slot_broker import SlotGrant
from penstock._model import checks
from penstock._model.publishing import publish
from penstock._stores.port import Limit
from penstock.exceptions import ConfigurationError, UnknownLimit

__all__ = [
    "Limit",
    "concurrency",
    "delete_limit",
    "get_limit",
    "get_limits",
    "rate_limit",
    "rate_limit_async",
    "set_limit",
]


# The limits


def set_limit(name: str, slots: int, *, slot_decay_per_second: float = 0.0) -> None:
    """Make a limit, or change it. When the call returns, all processes know it.

    Slots that are held stay held, also where the limit has fewer slots than that now.

    Args:
        name: of the limit; it holds for task runs with this tag.
        slots: how many there are; with 0, whatever asks for one waits until there are more.
        slot_decay_per_second: how many of the slots that `rate_limit` took become free again in a
            second; 0: it is not a rate limit.

    Raises:
        ConfigurationError: naming the argument that has an impossible value.
    """
    checks.string_not_blank(name, "name", "set_limit()")
    checks.integer(slots, "slots", "set_limit()", at_least=0)
    decay = checks.number(slot_decay_per_second, "slot_decay_per_second", "set_limit()")
    engine = get_engine()
    engine.store.slots.set_limit(Limit(name, slots, decay))
    engine.slots.start()


def get_limit(name: str) -> Limit | None:
    """The limit with this name, and how many of its slots are taken now; None: there is none."""
    return next((limit for limit in get_limits() if limit.name == name), None)


def get_limits() -> list[Limit]:
    """All limits by name, and how many of their slots are taken now."""
    engine = get_engine()
    return list(engine.store.slots.read_limits(engine.clock.now()))


def delete_limit(name: str) -> bool:
    """Delete a limit; False: there was none. What waits for one of its slots goes on.

    From then on, `concurrency` and `rate_limit` raise for its name, and task runs with that tag are
    no longer limited.
    """
    return get_engine().store.slots.delete_limit(name)


# Their slots


class concurrency:  # noqa: N801  # used like a function
    """Hold slots inside a `with` block in sync code, or an `async with` block in async code.

    Slots are given in the order in which they were asked for. Those of several limits are given all
    at once, so no code waits for one slot while it holds another. `with` blocks the thread.

    One object may be used many times, also by several threads or tasks at once.

    Args:
        names: one limit, or several.
        occupy: how many slots of each.
        timeout_seconds: how long to wait; None: without end.

    Raises:
        ConfigurationError: an argument has an impossible value, or on entering: a limit has fewer
            slots than `occupy`.
        UnknownLimit: on entering: there is no such limit.
        TimeoutError: on entering: the slots did not become free in time.
    """

    def __init__(
        self, names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None
    ) -> None:
        self._names = _names(names, "concurrency()")
        self._occupy = checks.integer(occupy, "occupy", "concurrency()", at_least=1)
        self._timeout_seconds = _timeout(timeout_seconds, "concurrency()")
        self._held: list[SlotGrant] = []

    def __enter__(self) -> None:
        grant = _ask(self._names, self._occupy, "concurrency()")
        if grant is not None:
            _wait(grant, self._timeout_seconds)
            self._held.append(grant)

    def __exit__(self, *exc: object) -> None:
        if self._names:
            self._held.pop().give_back()  # any of them, as they are alike

    async def __aenter__(self) -> None:
        grant = _ask(self._names, self._occupy, "concurrency()")
        if grant is not None:
            await _wait_async(grant, self._timeout_seconds)
            self._held.append(grant)

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()


def rate_limit(
    names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None
) -> None:
    """Block this thread until the rate allows it to go on.

    It takes slots and does not release them: they become free by themselves, at the limit's
    `slot_decay_per_second`. In async code use `rate_limit_async`.

    Args:
        names: one limit, or several.
        occupy: how many slots of each.
        timeout_seconds: how long to wait; None: without end.

    Raises:
        ConfigurationError: an argument has an impossible value, or a limit has no
            `slot_decay_per_second`, or fewer slots than `occupy`.
        UnknownLimit: there is no such limit.
        TimeoutError: the slots did not become free in time; none was taken.
    """
    grant = _ask_for_rate(names, occupy, "rate_limit()")
    if grant is not None:
        _wait(grant, _timeout(timeout_seconds, "rate_limit()"))


async def rate_limit_async(
    names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None
) -> None:
    """The same as `rate_limit`, without blocking the event loop."""
    grant = _ask_for_rate(names, occupy, "rate_limit_async()")
    if grant is not None:
        await _wait_async(grant, _timeout(timeout_seconds, "rate_limit_async()"))


def _ask_for_rate(names: object, occupy: object, owner: str) -> SlotGrant | None:
    count = checks.integer(occupy, "occupy", owner, at_least=1)
    return _ask(_names(names, owner), count, owner, decays=True)


def _ask(
    names: Sequence[str], occupy: int, owner: str, *, decays: bool = False
) -> SlotGrant | None:
    """Ask for slots of limits that exist and can give them; None: of no limit."""
    engine = get_engine()
    for limit in _known_limits(engine, names):
        if 0 < limit.slots < occupy:
            bound = f"at most {limit.slots}, the slots of the limit {limit.name!r}"
            raise checks.refusal(occupy, "occupy", owner, bound)
        if decays and not limit.slot_decay_per_second:
            raise ConfigurationError(
                f"{owner}: the limit {limit.name!r} is not a rate limit: set it with "
                "slot_decay_per_second."
            )
    return engine.slots.ask(names, occupy, decays=decays) if names else None


def _known_limits(engine: Engine, names: Sequence[str]) -> list[Limit]:
    limits: Mapping[str, Limit] = engine.store.slots.limits()
    for name in names:
        if name not in limits:
            raise UnknownLimit(
                f"There is no concurrency limit {name!r}. Set it first: "
                f"penstock.concurrency.set_limit({name!r}, ...)."
            )
    return [limits[name] for name in names]


def _wait(grant: SlotGrant, timeout_seconds: float | None) -> None:
    try:
        grant.wait(timeout_seconds)
        _check(grant, timeout_seconds)
    except BaseException:
        grant.give_back()
        raise


async def _wait_async(grant: SlotGrant, timeout_seconds: float | None) -> None:
    try:
        with anyio.move_on_after(timeout_seconds):
            await grant.wait_async()
        _check(grant, timeout_seconds)
    except BaseException:
        grant.give_back()
        raise


def _check(grant: SlotGrant, timeout_seconds: float | None) -> None:
    if not grant.is_set():
        names = ", ".join(map(repr, grant.request.names))
        raise TimeoutError(f"No slots of {names} were free within {timeout_seconds} seconds.")
    if grant.error is not None:
        raise grant.error


# Arguments


def _names(names: object, owner: str) -> tuple[str, ...]:
    given = [names] if isinstance(names, str) else names
    return checks.distinct_strings(given, "names", owner, "the name of a limit, or a list of names")


def _timeout(seconds: object, owner: str) -> float | None:
    return None if seconds is None else checks.number(seconds, "timeout_seconds", owner)


publish(__name__, __all__)
