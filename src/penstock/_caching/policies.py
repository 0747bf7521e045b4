"""Cache policies: what a task's results depend on, added up from parts.

The law: a policy is a set of parts, so neither the order of an addition nor a repetition matters,
and its key is one hash over the task's identity and the forms of these parts. Several key functions
alone stay in the order in which they were added, as nothing else tells them apart.

    from penstock.cache_policies import INPUTS, TASK_SOURCE

    @task(cache_policy=INPUTS - "verbose" + TASK_SOURCE)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

import msgspec

from penstock._caching.canonical import canonical_form, hash_of_forms, text_form
from penstock._caching.keys import (
    CacheKey,
    CacheKeyFunction,
    forms_of_parameters,
    inputs_of,
    task_input_forms,
    task_input_hash,
)
from penstock._model import checks
from penstock._model.codecs import storable_text
from penstock.exceptions import ConfigurationError

if TYPE_CHECKING:
    from penstock._caching.reached_code import ReachedCode
    from penstock.context import TaskRunContext


class _Uncached(Exception):
    """A key function wants this run uncached."""


Parameters: TypeAlias = "dict[str, Any]"
Forms: TypeAlias = "Sequence[bytes]"


class _Part(Protocol):
    """What a result may depend on; equal parts count once.

    Attributes:
        tag: which kind of part it is, the same in every process.
    """

    tag: ClassVar[str]

    def forms(self, context: TaskRunContext, parameters: Parameters, /) -> Forms | None:
        """What enters the key; None: there is no such thing for this run."""
        ...

    def named(
        self, context: TaskRunContext, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        """The same by name, for people."""
        ...


class CachePolicy:
    """What the results of a task depend on: runs that are alike in it share one result.

    `one + other` counts both. `policy - "name"` does not count that argument of the task. Policies
    are equal where they count the same, and none changes once it is made.
    """

    __slots__ = ("_begin", "_parts")

    def __init__(self, parts: Iterable[_Part] = ()) -> None:
        self._parts: tuple[_Part, ...] = tuple(sorted(_each_once(parts), key=_tag))
        # Two policies of one task never have equal keys; nor is one a key of `task_input_hash`.
        self._begin = text_form("policy " + " + ".join(map(_tag, self._parts)))

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """Count what either of them counts.

        Raises:
            ConfigurationError: the other one is no policy.
        """
        if not isinstance(other, CachePolicy):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped code
            raise ConfigurationError(f"{self!r} + {other!r}: the latter is no policy. {_HINT}")
        return _policy_of(_merged([*self._parts, *other._parts]))

    def __radd__(self, other: object) -> CachePolicy:
        """Refuse what is no policy.

        Raises:
            ConfigurationError: always; policies are added by `__add__`.
        """
        raise ConfigurationError(f"{other!r} + {self!r}: the former is no policy. {_HINT}")

    def __sub__(self, argument: str) -> CachePolicy:
        """Do not count the argument with this name; of a method, `self` is one too.

        Raises:
            ConfigurationError: it is no name, or the policy counts no arguments.
        """
        if not isinstance(argument, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped code
            raise ConfigurationError(
                f"{self!r}: what is left out is the name of an argument, not {argument!r}."
            )
        inputs = _inputs_in(self._parts)
        if inputs is None:
            raise ConfigurationError(
                f"{self!r} counts no arguments, so {argument!r} cannot be left out of it."
            )
        fewer = _Inputs(inputs.left_out | {argument})
        return _policy_of(fewer if part is inputs else part for part in self._parts)

    @property
    def left_out(self) -> frozenset[str]:
        """The names of the arguments that do not count."""
        inputs = _inputs_in(self._parts)
        return frozenset() if inputs is None else inputs.left_out

    def compute_key(self, context: TaskRunContext, parameters: Parameters) -> CacheKey | None:
        """The key of a run with these arguments; None: it is not cached.

        Raises:
            UnhashableParameter: an argument that counts has no canonical form.
            Exception: what a key function raised.
        """
        try:
            forms = [part.forms(context, parameters) for part in self._parts]
        except _Uncached:
            return None
        if forms.count(None) == len(forms):
            return None
        work = [self._begin, text_form(context.task.task_key)]
        for of_part in forms:
            work += (b"-",) if of_part is None else (b"%d|" % len(of_part), *of_part)
        return CacheKey(hash_of_forms(work), partial(self._named_parts, context, parameters, forms))

    def _named_parts(
        self, context: TaskRunContext, parameters: Parameters, forms: Iterable[Forms | None]
    ) -> dict[str, bytes]:
        parts: dict[str, bytes] = {}
        try:
            for part, of_part in zip(self._parts, forms, strict=True):
                if of_part is not None:
                    parts.update(part.named(context, parameters, of_part))
        except Exception:  # the code that it went by cannot be walked any more
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
        cache_key_fn: the function; a sync one.

    Raises:
        ConfigurationError: it is no function of two arguments, or an async one.
    """

    __slots__ = ("_function",)

    def __init__(self, cache_key_fn: CacheKeyFunction) -> None:
        self._function = _checked_key_function(cache_key_fn, "CacheKeyFnPolicy")
        super().__init__([_KeyFunction(cache_key_fn)])

    def compute_key(self, context: TaskRunContext, parameters: Parameters) -> CacheKey | None:
        """See `CachePolicy`."""
        if self._function is task_input_hash:
            forms = task_input_forms(context, parameters)
            parts = partial(self._named_parts, context, parameters, [forms])
            return CacheKey(hash_of_forms(forms), parts)
        key = self._function(context, parameters)
        return None if key is None else CacheKey(storable_text(str(key)))


_HINT: Final = (
    "Policies are INPUTS, TASK_SOURCE and others of penstock.cache_policies, and their sums; "
    "CacheKeyFnPolicy(...) makes one of a function."
)


def _tag(part: _Part) -> str:
    return part.tag


def _each_once(parts: Iterable[_Part]) -> list[_Part]:
    kept: list[_Part] = []
    for part in parts:
        if part not in kept:
            kept.append(part)
    return kept


def _policy_of(parts: Iterable[_Part]) -> CachePolicy:
    policy = CachePolicy(parts)
    only = policy._parts[0] if len(policy._parts) == 1 else None
    return CacheKeyFnPolicy(only.function) if isinstance(only, _KeyFunction) else policy


def _merged(parts: Sequence[_Part]) -> list[_Part]:
    """The parts, with one for the inputs: an argument counts where any of them counts it."""
    inputs = [part for part in parts if isinstance(part, _Inputs)]
    others = [part for part in parts if not isinstance(part, _Inputs)]
    if not inputs:
        return others
    return [_Inputs(frozenset[str].intersection(*(part.left_out for part in inputs))), *others]


def _inputs_in(parts: Iterable[_Part]) -> _Inputs | None:
    return next((part for part in parts if isinstance(part, _Inputs)), None)


def policy_of_options(
    policy: object, cache_key_fn: object, parameters: Collection[str], owner: str
) -> CachePolicy:
    """The policy that a task's options ask for; `NO_CACHE`: they do not.

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
            f"{owner}: cache_key_fn is a cache policy of its own; give either that or "
            "cache_policy, or add CacheKeyFnPolicy(...) to the latter."
        )
    return CacheKeyFnPolicy(_checked_key_function(cache_key_fn, owner))


def _checked_policy(policy: object, parameters: Collection[str], owner: str) -> CachePolicy:
    if not isinstance(policy, CachePolicy):
        raise ConfigurationError(
            f"{owner}: cache_policy must be a cache policy, not {policy!r}. {_HINT}"
        )
    for name in sorted(policy.left_out.difference(parameters)):
        raise ConfigurationError(
            f"{owner}: cache_policy={policy!r} leaves out {name!r}, but there is no such "
            f"parameter; there are {', '.join(parameters) or 'none'}."
        )
    return policy


def _checked_key_function(function: object, owner: str) -> CacheKeyFunction:
    return checks.sync_function(function, "cache_key_fn", owner, ("context", "parameters"))


class _Inputs(msgspec.Struct, frozen=True):
    tag: ClassVar[str] = "INPUTS"
    left_out: frozenset[str] = frozenset()

    def forms(self, context: TaskRunContext, parameters: Parameters, /) -> Forms:
        return forms_of_parameters(self._counted(context.task.fn, parameters))

    def named(
        self, context: TaskRunContext, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return _named_arguments(self._counted(context.task.fn, parameters), forms)

    def _counted(
        self, function: Callable[..., object], parameters: Mapping[str, object]
    ) -> Mapping[str, object]:
        inputs = inputs_of(function, parameters)
        if not self.left_out:
            return inputs
        hidden = self.left_out
        if name_of_self(function) in hidden:
            hidden |= {"(self)"}
        return {name: value for name, value in inputs.items() if name not in hidden}

    def __repr__(self) -> str:
        return "INPUTS" + "".join(f" - {name!r}" for name in sorted(self.left_out))


def name_of_self(function: Callable[..., object]) -> str | None:
    """What a bound method calls its object; None: it is none."""
    code = getattr(getattr(function, "__func__", None), "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else None


def _named_arguments(inputs: Iterable[str], forms: Forms) -> Iterable[tuple[str, bytes]]:
    """The forms of arguments, each after that of its name, by what they are."""
    names = (_NAMES.get(name, f"argument {name}") for name in sorted(inputs))
    return zip(names, forms[1::2], strict=True)


_NAMES: Mapping[str, str] = {"(self)": "argument self", "(enclosed)": "enclosed values"}


def _reached_code(function: Callable[..., object]) -> ReachedCode:
    from penstock._caching.reached_code import (
        reached_code,  # a twentieth of what the whole import takes
    )

    return reached_code(function)


class _TaskSource(msgspec.Struct, frozen=True):
    tag: ClassVar[str] = "TASK_SOURCE"

    def forms(self, context: TaskRunContext, _parameters: Parameters, /) -> Forms:
        return (_reached_code(context.task.fn).digest,)

    def named(
        self, context: TaskRunContext, _parameters: Parameters, _forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return _reached_code(context.task.fn).parts.items()

    def __repr__(self) -> str:
        return self.tag


class _FlowParameters(msgspec.Struct, frozen=True):
    tag: ClassVar[str] = "FLOW_PARAMETERS"

    def forms(self, context: TaskRunContext, _parameters: Parameters, /) -> Forms | None:
        flow_run = context.task_run.flow_run
        return None if flow_run is None else forms_of_parameters(flow_run.parameters)

    def named(
        self, context: TaskRunContext, _parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        flow_run = context.task_run.flow_run
        names = () if flow_run is None else sorted(flow_run.parameters)
        return zip((f"flow parameter {name}" for name in names), forms[1::2], strict=True)

    def __repr__(self) -> str:
        return self.tag


class _RunId(msgspec.Struct, frozen=True):
    tag: ClassVar[str] = "RUN_ID"

    def forms(self, context: TaskRunContext, _parameters: Parameters, /) -> Forms:
        run = context.task_run
        return (run.run_id if run.flow_run is None else run.flow_run.run_id,)

    def named(
        self, context: TaskRunContext, _parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return [("task run" if context.task_run.flow_run is None else "flow run", forms[0])]

    def __repr__(self) -> str:
        return self.tag


class _KeyFunction(msgspec.Struct, frozen=True):
    tag: ClassVar[str] = "CacheKeyFnPolicy"
    function: CacheKeyFunction

    def forms(self, context: TaskRunContext, parameters: Parameters, /) -> Forms:
        if self.function is task_input_hash:
            return task_input_forms(context, parameters)
        key = self.function(context, dict(parameters))  # other parts see them as they are
        if key is None:
            raise _Uncached
        return (canonical_form(str(key)),)

    def named(
        self, context: TaskRunContext, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        if self.function is not task_input_hash:
            return [(f"what {self._name} returned", forms[0])]
        task = context.task
        arguments = _named_arguments(inputs_of(task.fn, parameters), forms[1:])
        return [(f"code of {task.task_key}", forms[0]), *arguments]

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)

    def __repr__(self) -> str:
        return f"CacheKeyFnPolicy({self._name})"


INPUTS: Final[CachePolicy] = CachePolicy([_Inputs()])
"""The task's arguments, defaults included; `INPUTS - "name"` leaves one out."""
TASK_SOURCE: Final[CachePolicy] = CachePolicy([_TaskSource()])
"""The code of the task's function and of all helpers that it reaches: see `reached_code`."""
FLOW_PARAMETERS: Final[CachePolicy] = CachePolicy([_FlowParameters()])
"""The arguments of the flow run that the task belongs to; outside of flows, nothing."""
RUN_ID: Final[CachePolicy] = CachePolicy([_RunId()])
"""The flow run: a result is taken within it only. Outside of flows each task run is on its own."""
NO_CACHE: Final[CachePolicy] = CachePolicy([])
"""Nothing: runs are not cached. Added to another policy, it changes nothing."""
