"""Cache policies: what a task's results depend on, added up from parts.

The law: a policy is a set of parts, so neither the order of an addition nor a repetition matters,
and its key is one hash over the task's identity and the forms of these parts.

    from penstock.cache_policies import INPUTS, TASK_SOURCE

    @task(cache_policy=INPUTS - "verbose" + TASK_SOURCE)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from penstock.caching import (
    CacheKeyFunction,
    canonical_form,
    forms_of_parameters,
    hash_of_forms,
    inputs_of,
    task_input_forms,
    task_input_hash,
    text_form,
)
from penstock.exceptions import ConfigurationError
from penstock.reached_code import reached_code

if TYPE_CHECKING:
    from penstock.context import TaskRunContext

__all__ = [
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheKeyFnPolicy",
    "CachePolicy",
]


_POLICY: Final = b"policy"
"""So no key is one of `task_input_hash`."""


class _Uncached(Exception):
    """A key function wants this run uncached."""


Parameters: TypeAlias = "dict[str, Any]"
Forms: TypeAlias = "Sequence[bytes]"


class CacheKey(NamedTuple):
    """A key, and what it is made of.

    Attributes:
        text: the key.
        forms: those of each part of the policy; None: there is no such thing for this run. Without
            any, nothing is known of what the key is made of.
    """

    text: str
    forms: Sequence[Forms | None] = ()


class _Part(Protocol):
    """What a result may depend on; equal parts count once."""

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

    __slots__ = ("_forms", "_ordered", "_parts")

    def __init__(self, parts: Iterable[_Part] = ()) -> None:
        self._parts: frozenset[_Part] = frozenset(parts)
        self._ordered: tuple[_Part, ...] = tuple(sorted(self._parts, key=_order))
        self._forms = tuple(part.forms for part in self._ordered)

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """Count what either of them counts.

        Raises:
            ConfigurationError: the other one is no policy.
        """
        return _policy_of(_merged(self._parts | checked_policy(other, "A cache policy")._parts))

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
        return _policy_of((self._parts - {inputs}) | {fewer})

    @property
    def left_out(self) -> frozenset[str]:
        """The names of the arguments that do not count."""
        inputs = _inputs_in(self._parts)
        return frozenset() if inputs is None else inputs.left_out

    def compute_key(self, context: TaskRunContext, parameters: Parameters) -> object:
        """The key of a run with these arguments; None: it is not cached.

        Raises:
            UnhashableParameter: an argument that counts has no canonical form.
        """
        key = self.key(context, parameters)
        return key.text if isinstance(key, CacheKey) else key

    def key(self, context: TaskRunContext, parameters: Parameters) -> object:
        """The same, with what the key is made of where that is known."""
        try:
            forms = [part(context, parameters) for part in self._forms]
        except _Uncached:
            return None
        key = _POLICY + text_form(context.task.task_key)
        for of_part in forms:
            if of_part is None:
                key += b"-"
            else:
                key += b"%d|" % len(of_part) + b"".join(of_part)
        if forms.count(None) == len(forms):
            return None
        return CacheKey(hashlib.sha256(key).hexdigest(), forms)

    def named_parts(
        self, context: TaskRunContext, parameters: Parameters, key: CacheKey
    ) -> dict[str, bytes]:
        """What a key is made of, by name; empty where that is not known."""
        parts: dict[str, bytes] = {}
        for part, forms in zip(self._ordered, key.forms, strict=False):
            if forms is not None:
                parts.update(part.named(context, parameters, forms))
        return parts

    def __bool__(self) -> bool:
        return bool(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CachePolicy) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._ordered)) or "NO_CACHE"


class CacheKeyFnPolicy(CachePolicy):
    """Counts what a function of (context, parameters) returns.

    Alone, what it returns is the key itself, and tasks that return equal ones share results; added
    to others it is one part of the key. Where it returns None, the run is not cached.

    Args:
        cache_key_fn: the function.

    Raises:
        ConfigurationError: it is no function.
    """

    __slots__ = ("_function",)

    def __init__(self, cache_key_fn: CacheKeyFunction) -> None:
        if not callable(cache_key_fn):
            raise ConfigurationError(
                "CacheKeyFnPolicy: cache_key_fn must be a function of (context, parameters), "
                f"not {cache_key_fn!r}."
            )
        super().__init__([_KeyFunction(cache_key_fn)])
        self._function = cache_key_fn

    def key(self, context: TaskRunContext, parameters: Parameters) -> object:
        """See `CachePolicy`; whatever the function returns or raises."""
        if self._function is task_input_hash:
            forms = task_input_forms(context, parameters)
            return CacheKey(hash_of_forms(forms), [forms])
        return self._function(context, parameters)


def _order(part: _Part) -> tuple[str, bytes]:
    """The place of a part in the key, in every process the same."""
    code = getattr(getattr(part, "function", None), "__code__", None)
    return repr(part), canonical_form(code)  # there may be several lambdas


def _policy_of(parts: frozenset[_Part]) -> CachePolicy:
    if len(parts) == 1:
        (part,) = parts
        if isinstance(part, _KeyFunction):
            return CacheKeyFnPolicy(part.function)
    return CachePolicy(parts)


def _merged(parts: frozenset[_Part]) -> frozenset[_Part]:
    """The parts, with one for the inputs: an argument counts where any of them counts it."""
    inputs = [part for part in parts if isinstance(part, _Inputs)]
    if len(inputs) < 2:
        return parts
    left_out = frozenset[str].intersection(*(part.left_out for part in inputs))
    return parts.difference(inputs) | {_Inputs(left_out)}


def _inputs_in(parts: Iterable[_Part]) -> _Inputs | None:
    return next((part for part in parts if isinstance(part, _Inputs)), None)


def checked_policy(value: object, owner: str) -> CachePolicy:
    """The policy, if it is one.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, CachePolicy):
        raise ConfigurationError(
            f"{owner}: cache_policy must be made of INPUTS, TASK_SOURCE and others of "
            f"penstock.cache_policies, not {value!r}."
        )
    return value


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
        chosen = NO_CACHE if policy is None else checked_policy(policy, owner)
        _refuse_unknown(chosen.left_out.difference(parameters), chosen, owner)
        return chosen
    if policy is not None:
        raise ConfigurationError(
            f"{owner}: cache_key_fn is a cache policy of its own; give either that or "
            "cache_policy, or add CacheKeyFnPolicy(...) to the latter."
        )
    if not callable(cache_key_fn):
        raise ConfigurationError(
            f"{owner}: cache_key_fn must be a function of (context, parameters), "
            f"not {cache_key_fn!r}."
        )
    return CacheKeyFnPolicy(cache_key_fn)


def _refuse_unknown(names: Iterable[str], policy: CachePolicy, owner: str) -> None:
    for name in sorted(names):
        raise ConfigurationError(
            f"{owner}: cache_policy={policy!r} leaves out {name!r}, but there is no such parameter."
        )


# The parts; `repr` names each as it is written


class _Inputs(NamedTuple):
    left_out: frozenset[str]

    def forms(self, context: TaskRunContext, parameters: Parameters, /) -> Forms:
        return forms_of_parameters(self.inputs(context.task.fn, parameters))

    def named(
        self, context: TaskRunContext, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return _named_arguments(self.inputs(context.task.fn, parameters), forms)

    def inputs(
        self, function: Callable[..., object], parameters: Mapping[str, object]
    ) -> Mapping[str, object]:
        """What counts, by name."""
        inputs = inputs_of(function, parameters)
        if not self.left_out:
            return inputs
        hidden = self.left_out
        if _name_of_self(function) in hidden:
            hidden |= {"(self)"}
        return {name: value for name, value in inputs.items() if name not in hidden}

    def __repr__(self) -> str:
        return "INPUTS" + "".join(f" - {name!r}" for name in sorted(self.left_out))


def _name_of_self(function: Callable[..., object]) -> str | None:
    """What a bound method calls its object."""
    code = getattr(getattr(function, "__func__", None), "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else None


def _named_arguments(inputs: Iterable[str], forms: Forms) -> Iterable[tuple[str, bytes]]:
    """The forms of arguments, each after that of its name, by what they are."""
    names = (_NAMES.get(name, f"argument {name}") for name in sorted(inputs))
    return zip(names, forms[1::2], strict=False)


_NAMES: Mapping[str, str] = {"(self)": "argument self", "(enclosed)": "enclosed values"}


class _TaskSource(NamedTuple):
    tag: str = "TASK_SOURCE"

    def forms(self, context: TaskRunContext, _parameters: Parameters, /) -> Forms:
        return (reached_code(context.task.fn).digest,)

    def named(
        self, context: TaskRunContext, _parameters: Parameters, _forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return reached_code(context.task.fn).parts.items()

    def __repr__(self) -> str:
        return self.tag


class _FlowParameters(NamedTuple):
    tag: str = "FLOW_PARAMETERS"

    def forms(self, context: TaskRunContext, _parameters: Parameters, /) -> Forms | None:
        flow_run = context.task_run.flow_run
        return None if flow_run is None else forms_of_parameters(flow_run.parameters)

    def named(
        self, context: TaskRunContext, _parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        flow_run = context.task_run.flow_run
        names = [] if flow_run is None else sorted(flow_run.parameters)
        return zip((f"flow parameter {name}" for name in names), forms[1::2], strict=False)

    def __repr__(self) -> str:
        return self.tag


class _RunId(NamedTuple):
    tag: str = "RUN_ID"

    def forms(self, context: TaskRunContext, _parameters: Parameters, /) -> Forms:
        run = context.task_run
        return (run.run_id if run.flow_run is None else run.flow_run.run_id,)

    def named(
        self, context: TaskRunContext, _parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        run = context.task_run
        return [("task run" if run.flow_run is None else "flow run", forms[0])]

    def __repr__(self) -> str:
        return self.tag


class _KeyFunction(NamedTuple):
    function: CacheKeyFunction

    def forms(self, context: TaskRunContext, parameters: Parameters, /) -> Forms:
        if self.function is task_input_hash:
            return task_input_forms(context, parameters)
        key = self.function(context, parameters)
        if key is None:
            raise _Uncached
        return (canonical_form(str(key)),)

    def named(
        self, context: TaskRunContext, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        if self.function is not task_input_hash:
            return [(f"what {self.name} returned", forms[0])]
        task = context.task
        arguments = _named_arguments(inputs_of(task.fn, parameters), forms[1:])
        return [(f"code of {task.task_key}", forms[0]), *arguments]

    @property
    def name(self) -> str:
        """Such as `key_of_city`."""
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)

    def __repr__(self) -> str:
        return f"CacheKeyFnPolicy({self.name})"


INPUTS: Final[CachePolicy] = CachePolicy([_Inputs(frozenset())])
"""The task's arguments, defaults included; `INPUTS - "name"` leaves one out."""
TASK_SOURCE: Final[CachePolicy] = CachePolicy([_TaskSource()])
"""The code of the task's function and of all helpers that it reaches: `penstock.reached_code`."""
FLOW_PARAMETERS: Final[CachePolicy] = CachePolicy([_FlowParameters()])
"""The arguments of the flow run that the task belongs to; outside of flows, nothing."""
RUN_ID: Final[CachePolicy] = CachePolicy([_RunId()])
"""The flow run: a result is taken within it only. Outside of flows each task run is on its own."""
NO_CACHE: Final[CachePolicy] = CachePolicy([])
"""Nothing: runs are not cached. Added to another policy, it changes nothing."""
