"""Cache policies: what a task's results depend on, added up from parts.

The law: a policy is a set of parts, so neither the order of an addition nor a repetition matters,
and its key is one hash over the task's identity and the forms of these parts. Several key functions
alone stay in the order in which they were added, as nothing else tells them apart.

    from penstock.cache_policies import INPUTS, TASK_SOURCE

    @task(cache_policy=INPUTS - "verbose" + TASK_SOURCE)

Why: docs/inside/caching.md, "The key of a policy knows its parts".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Final

from typing_extensions import override

from penstock._caching.canonical import hash_of_forms, name_form
from penstock._caching.keys import (
    CacheKey,
    CacheKeyFunction,
    KeyedRun,
    task_input_forms,
    task_input_hash,
)
from penstock._caching.policy_parts import (
    FlowParameters,
    Forms,
    Inputs,
    KeyFunction,
    Parameters,
    Part,
    RunId,
    TaskSource,
    Uncached,
)
from penstock._model import checks
from penstock._model.codecs import storable_text
from penstock.exceptions import ConfigurationError


class CachePolicy:
    """What the results of a task depend on: runs that are alike in it share one result.

    `one + other` counts both. `policy - "name"` does not count that argument of the task. Policies
    are equal where they count the same, and none changes once it is made.
    """

    __slots__ = ("_begin", "_parts")

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts: tuple[Part, ...] = tuple(sorted(_each_once(parts), key=_tag))
        # Two policies of one task never have equal keys; nor is one a key of `task_input_hash`.
        self._begin = name_form("policy " + " + ".join(map(_tag, self._parts)))

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """Count what either of them counts.

        Raises:
            ConfigurationError: the other one is not a cache policy.
        """
        if not isinstance(other, CachePolicy):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped code
            raise ConfigurationError(
                f"{self!r} + {other!r}: the latter is not a cache policy. {_HINT}"
            )
        return _policy_of(_merged([*self._parts, *other._parts]))

    def __radd__(self, other: object) -> CachePolicy:
        """Refuse what is not a cache policy.

        Raises:
            ConfigurationError: always; policies are added by `__add__`.
        """
        raise ConfigurationError(f"{other!r} + {self!r}: the former is not a cache policy. {_HINT}")

    def __sub__(self, argument: str) -> CachePolicy:
        """Do not count the argument with this name; of a method, `self` is one too.

        Raises:
            ConfigurationError: it is not a string, or the policy counts no arguments.
        """
        if not isinstance(argument, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped code
            raise ConfigurationError(
                f"{self!r}: only the name of an argument can be subtracted, not {argument!r}."
            )
        inputs = _inputs_in(self._parts)
        if inputs is None:
            raise ConfigurationError(
                f"{self!r} counts no arguments, so {argument!r} cannot be left out of it."
            )
        fewer = Inputs(inputs.left_out | {argument})
        return _policy_of(fewer if part is inputs else part for part in self._parts)

    @property
    def left_out(self) -> frozenset[str]:
        """The names of the arguments that do not count."""
        inputs = _inputs_in(self._parts)
        return frozenset() if inputs is None else inputs.left_out

    def compute_key(self, run: KeyedRun, parameters: Parameters) -> CacheKey | None:
        """The key of a run with these arguments; None: it is not cached.

        Raises:
            UnhashableParameter: an argument that counts has no canonical form.
            Exception: what a key function raised.
        """
        try:
            forms = [part.forms(run, parameters) for part in self._parts]
        except Uncached:
            return None
        if forms.count(None) == len(forms):
            return None
        work = [self._begin, name_form(run.options.task_key)]
        for of_part in forms:
            work += (b"-",) if of_part is None else (b"%d|" % len(of_part), *of_part)
        return CacheKey(hash_of_forms(work), partial(self._named_parts, run, parameters, forms))

    def _named_parts(
        self, run: KeyedRun, parameters: Parameters, forms: Iterable[Forms | None]
    ) -> dict[str, bytes]:
        parts: dict[str, bytes] = {}
        try:
            for part, of_part in zip(self._parts, forms, strict=True):
                if of_part is not None:
                    parts.update(part.named(run, parameters, of_part))
        except Exception:  # the code cannot be walked any more
            return {}
        return parts

    def __bool__(self) -> bool:
        """Whether anything counts; where nothing does, runs are not cached."""
        return bool(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CachePolicy) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._parts)) or "NO_CACHE"


class CacheKeyFnPolicy(CachePolicy):
    """Counts what a function of (context, parameters) returns.

    Alone, what it returns is the key itself, and tasks that return equal ones share results; added
    to others it is one part of the key. Where it returns None, the run is not cached.

    Args:
        cache_key_fn: the function, a sync one.

    Raises:
        ConfigurationError: it is not a sync function of two arguments.
    """

    __slots__ = ("_function",)

    def __init__(self, cache_key_fn: CacheKeyFunction) -> None:
        self._function = _checked_key_function(cache_key_fn, "CacheKeyFnPolicy")
        super().__init__([KeyFunction(cache_key_fn)])

    @override
    def compute_key(self, run: KeyedRun, parameters: Parameters) -> CacheKey | None:
        if self._function is task_input_hash:
            forms = task_input_forms(run.options.fn, run.options.task_key, parameters)
            parts = partial(self._named_parts, run, parameters, [forms])
            return CacheKey(hash_of_forms(forms), parts)
        key = self._function(run.context(), parameters)
        return None if key is None else CacheKey(storable_text(str(key)))


_HINT: Final = (
    "Policies are INPUTS, TASK_SOURCE and others of penstock.cache_policies, and their sums; "
    "CacheKeyFnPolicy(...) makes one of a function."
)


def _tag(part: Part) -> str:
    return part.tag


def _each_once(parts: Iterable[Part]) -> list[Part]:
    kept: list[Part] = []
    for part in parts:
        if part not in kept:
            kept.append(part)
    return kept


def _policy_of(parts: Iterable[Part]) -> CachePolicy:
    policy = CachePolicy(parts)
    only = policy._parts[0] if len(policy._parts) == 1 else None
    return CacheKeyFnPolicy(only.function) if isinstance(only, KeyFunction) else policy


def _merged(parts: Sequence[Part]) -> list[Part]:
    """The parts with all `Inputs` in one: an argument counts where any of them counts it."""
    inputs = [part for part in parts if isinstance(part, Inputs)]
    others = [part for part in parts if not isinstance(part, Inputs)]
    if not inputs:
        return others
    return [Inputs(frozenset[str].intersection(*(part.left_out for part in inputs))), *others]


def _inputs_in(parts: Iterable[Part]) -> Inputs | None:
    return next((part for part in parts if isinstance(part, Inputs)), None)


def policy_of_options(
    policy: object, cache_key_fn: object, parameters: Collection[str], owner: str
) -> CachePolicy:
    """The policy that a task's options ask for, `NO_CACHE` where they ask for none.

    Args:
        policy: as given to the decorator.
        cache_key_fn: as given to the decorator.
        parameters: the names of the task's parameters.
        owner: how errors call the task.

    Raises:
        ConfigurationError: naming the option with an impossible value.
    """
    if cache_key_fn is None:
        return NO_CACHE if policy is None else _checked_policy(policy, parameters, owner)
    if policy is not None:
        raise ConfigurationError(
            f"{owner}: cache_key_fn is a cache policy of its own; give either cache_key_fn or "
            "cache_policy, or add CacheKeyFnPolicy(...) to the latter."
        )
    return CacheKeyFnPolicy(_checked_key_function(cache_key_fn, owner))


def _checked_policy(policy: object, parameters: Collection[str], owner: str) -> CachePolicy:
    if not isinstance(policy, CachePolicy):
        raise checks.refusal(policy, "cache_policy", owner, "a cache policy", _HINT)
    for name in sorted(policy.left_out.difference(parameters)):
        raise ConfigurationError(
            f"{owner}: cache_policy={policy!r} leaves out {name!r}, but there is no such "
            f"parameter; there are {', '.join(parameters) or 'none'}."
        )
    return policy


def _checked_key_function(function: object, owner: str) -> CacheKeyFunction:
    return checks.sync_function(function, "cache_key_fn", owner, ("context", "parameters"))


INPUTS: Final[CachePolicy] = CachePolicy([Inputs()])
"""The task's arguments, defaults included; `INPUTS - "name"` leaves one out."""
TASK_SOURCE: Final[CachePolicy] = CachePolicy([TaskSource()])
"""The code of the task's function and of all helpers of yours that it reaches."""
FLOW_PARAMETERS: Final[CachePolicy] = CachePolicy([FlowParameters()])
"""The arguments of the flow run that the task belongs to; outside of flows, nothing."""
RUN_ID: Final[CachePolicy] = CachePolicy([RunId()])
"""The flow run: results are shared within it only, and not at all outside of flows."""
NO_CACHE: Final[CachePolicy] = CachePolicy([])
"""Nothing: runs are not cached. Added to another policy, it changes nothing."""
