"""Signatures: arguments by name, and values checked against their annotations."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import typing
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal, TypeVar, Union, cast

import msgspec
from typing_extensions import TypeAliasType

from penstock._logs.run_log import flow_runs
from penstock._model.hints import hint
from penstock.exceptions import ConfigurationError, ParameterError
from penstock.states import State

RESERVED = frozenset({"return_state", "wait_for"})
"""Keyword arguments that belong to the call, not to the function."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature:
    """The parameters of a function.

    Args:
        function: the user's function.
        owner: what it is in messages, such as `task 'double'`.

    Raises:
        ConfigurationError: a parameter has a reserved name.
    """

    def __init__(self, function: Callable[..., Any], owner: str) -> None:
        self._function = function
        self._owner = owner
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        reserved = RESERVED.intersection(self._signature.parameters)
        if reserved:
            raise ConfigurationError(
                f"{owner}: a parameter cannot be named {' or '.join(sorted(reserved))}, as the "
                "call itself takes that argument; choose another name."
            )
        self._positional = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._required = sum(p.kind in _POSITIONAL and p.default is p.empty for p in parameters)
        self._variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._is_plain = len(self._positional) == len(self._signature.parameters)
        lengths = range(self._required, len(self._positional) + 1)
        self._plain_lengths = frozenset(lengths if self._is_plain else ())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return tuple(self._signature.parameters)

    def check(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Check that the function takes such arguments.

        Raises:
            ParameterError: naming what is missing or unexpected.
        """
        if not kwargs and len(args) in self._plain_lengths:
            return
        self._bound(args, kwargs)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, defaults included.

        Raises:
            ParameterError: the function does not take them.
        """
        if self._is_plain and not kwargs and len(args) == len(self._positional):
            return dict(zip(self._positional, args, strict=True))
        bound = self._bound(args, kwargs)
        bound.apply_defaults()
        return bound.arguments

    def given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name, without defaults; the items of `*args` one by one.

        The arguments given by position come first, in order.

        Raises:
            ParameterError: the function does not take them.
        """
        self.check(args, kwargs)
        names = [f"{n} (by position)" if n in kwargs else n for n in self._positional]
        names += [f"{self._variadic}[{i}]" for i in range(len(args) - len(names))]
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def _bound(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            why = self._unexpected(kwargs) or f"{error}."
            raise ParameterError(f"{self._owner}: {why}") from None

    def _unexpected(self, names: Iterable[str]) -> str | None:
        """What an error says about the first name that no parameter has; None: all are known."""
        parameters = self._signature.parameters
        unknown = next((name for name in names if name not in parameters), None)
        if unknown is None or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return None
        known = [name for name, p in parameters.items() if p.kind in _BY_NAME]
        what = hint(unknown, known) if known else "it takes none"
        return f"got an unexpected keyword argument {unknown!r}; {what}."

    def spread(self, parameters: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The inverse of `bind`."""
        if self._is_plain:
            return [parameters[name] for name in self._positional], {}
        bound = inspect.BoundArguments(self._signature, OrderedDict(parameters))
        return list(bound.args), dict(bound.kwargs)

    def validated(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, converted as their annotations say: `"5"` for an `int` is 5.

        A parameter whose annotation cannot be evaluated here stays as it is, with a warning.

        Raises:
            ParameterError: naming each parameter that cannot be converted.
        """
        if self._unknown:
            _warn_of_unknown(self._owner, self._unknown)
        errors: list[str] = []
        converted = {
            name: self._converted(name, value, errors) for name, value in parameters.items()
        }
        if errors:
            raise ParameterError(
                f"Validation of the parameters of {self._owner} failed: " + " ".join(errors)
            )
        return converted

    def _converted(self, name: str, value: Any, errors: list[str]) -> Any:
        annotation = self._hints.get(name, Any)
        parameter = self._signature.parameters[name]
        if annotation is Any or value is parameter.default:
            return value
        kind = parameter.kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            annotation = types.GenericAlias(tuple, (annotation, ...))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            annotation = types.GenericAlias(dict, (str, annotation))
        try:
            return convert(value, annotation)
        except msgspec.ValidationError as error:
            errors.append(f"Parameter {name!r}: {error} (the value is {_short(value)}).")
            return value

    @cached_property
    def returned_type(self) -> Any:
        """The annotated type of the result, or of the value of a state; Any where there is none."""
        annotation = self._hints.get("return", Any)
        if annotation is State or typing.get_origin(annotation) is State:
            return (*typing.get_args(annotation), Any)[0]
        return annotation

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._unwrapped)
        except Exception:  # such as a type that is imported under TYPE_CHECKING
            return _hints_one_by_one(self._unwrapped)

    @cached_property
    def _unknown(self) -> tuple[str, ...]:
        """The parameters whose annotations cannot be evaluated."""
        parameters = self._signature.parameters.values()
        annotated = (p.name for p in parameters if p.annotation is not p.empty)
        return tuple(name for name in annotated if name not in self._hints)

    @property
    def _unwrapped(self) -> Callable[..., Any]:
        function = inspect.unwrap(self._function)
        return cast("Callable[..., Any]", getattr(function, "__func__", function))


def _hints_one_by_one(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be evaluated."""
    found: dict[str, Any] = {}
    alone: Any = types.SimpleNamespace(
        __globals__=getattr(function, "__globals__", {}),
        __type_params__=getattr(function, "__type_params__", ()),
    )
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone.__annotations__ = {name: annotation}
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(alone)
    return found


@functools.lru_cache(maxsize=1024)
def _warn_of_unknown(owner: str, names: tuple[str, ...]) -> None:
    """Warn once for each flow, as a method has a signature for each instance."""
    flow_runs.warning(
        "Parameters of %s are not validated, as their annotations cannot be evaluated at run time "
        "(is a type imported under TYPE_CHECKING?): %s.",
        owner,
        ", ".join(map(repr, names)),
    )


_BINARY = (bytes, bytearray, memoryview)


def convert(value: object, annotation: Any) -> object:
    """The value, converted as the annotation says; the same object where it fits already.

    Raises:
        msgspec.ValidationError: it cannot be converted.
    """
    annotation = _resolved(annotation)
    if _fits(value, annotation):
        return value
    try:
        return _converted_by_msgspec(value, annotation)
    except TypeError:  # an annotation that msgspec refuses, such as a union of classes
        return value


def _converted_by_msgspec(value: object, annotation: Any) -> object:
    converted = functools.partial(
        msgspec.convert, value, annotation, builtin_types=_BINARY, dec_hook=_custom
    )
    try:
        return cast("object", converted())
    except msgspec.ValidationError:
        if _takes_bytes(annotation):  # not strict, msgspec would read any string as base64
            raise
        return cast("object", converted(strict=False))


def _takes_bytes(annotation: Any) -> bool:
    return annotation in _BINARY or any(map(_takes_bytes, typing.get_args(annotation)))


def _custom(kind: Any, value: Any) -> Any:
    """Conversions into types that msgspec does not know."""
    if _fits(value, kind):
        return value
    if typing.get_origin(kind) is Iterable:
        return convert(value, types.GenericAlias(Collection, typing.get_args(kind)))
    if isinstance(value, str) and _is_path(kind):
        return kind(value)
    validate = getattr(kind, "model_validate", None)  # a Pydantic model
    if validate is not None and isinstance(value, dict):
        try:
            return validate(value)
        except Exception as error:
            raise msgspec.ValidationError(str(error)) from error
    shown = kind.__name__ if isinstance(kind, type) else kind
    raise msgspec.ValidationError(f"Expected `{shown}`, got `{type(value).__name__}`")


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, PurePath)


# Whether a value fits without a conversion


def _fits(value: object, annotation: Any) -> bool:
    """Whether a type checker would accept the value; False also where that cannot be told."""
    annotation = _resolved(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is not None:
        rule = _RULES.get(origin)
        if rule is not None:
            return rule(value, arguments)
        return _is_instance(value, origin) and _items_fit(value, origin, arguments)
    if typing.is_typeddict(annotation):
        return _keys_fit(value, annotation)
    return annotation is Any or isinstance(annotation, TypeVar) or _is_instance(value, annotation)


def _resolved(annotation: Any) -> Any:
    """The type that a name for a type stands for."""
    if annotation is None:
        return type(None)
    if isinstance(annotation, typing.NewType):
        return _resolved(annotation.__supertype__)
    if isinstance(annotation, TypeAliasType):
        return _resolved(annotation.__value__)
    return annotation


def _is_instance(value: object, kind: Any) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be checked at run time
        return isinstance(kind, type)


def _is_one_of(value: object, choices: tuple[Any, ...]) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _fits_one_of(value: object, members: tuple[Any, ...]) -> bool:
    return any(_fits(value, member) for member in members)


def _is_class(value: object, bases: tuple[Any, ...]) -> bool:
    if not isinstance(value, type):
        return False
    return all(_is_subclass(value, base) for base in bases)


def _is_subclass(kind: type[Any], base: Any) -> bool:
    try:
        return issubclass(kind, base)
    except TypeError:  # not a class, such as a type variable
        return True


def _fits_tuple(value: object, members: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    items = cast("tuple[object, ...]", value)
    if len(members) == 2 and members[1] is ...:
        return _all_fit(items, members[0])
    return not members or (len(items) == len(members) and all(map(_fits, items, members)))


_RULES: Mapping[Any, Callable[[object, tuple[Any, ...]], bool]] = {
    Literal: _is_one_of,
    Union: _fits_one_of,
    types.UnionType: _fits_one_of,
    type: _is_class,
    tuple: _fits_tuple,
}
_CONTAINERS = frozenset({"builtins", "collections", "collections.abc"})


def _items_fit(value: object, origin: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether the items of a container fit; those of an iterator cannot be known."""
    if origin.__module__ not in _CONTAINERS or not issubclass(origin, Iterable) or not arguments:
        return True
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        values_fit = len(arguments) == 1 or _all_fit(mapping.values(), arguments[1])
        return values_fit and _all_fit(mapping.keys(), arguments[0])
    if isinstance(value, Sequence | AbstractSet) and len(arguments) == 1:
        return _all_fit(cast("Collection[object]", value), arguments[0])
    return True


def _all_fit(values: Collection[object], annotation: Any) -> bool:
    if _depends_on_type_alone(annotation):  # one value of each type says it for all
        values = dict(zip(map(type, values), values, strict=True)).values()
    return all(_fits(value, annotation) for value in values)


def _depends_on_type_alone(annotation: Any) -> bool:
    """Whether the type of a value decides alone whether it fits."""
    if typing.get_origin(annotation) in {Union, types.UnionType}:
        return all(map(_depends_on_type_alone, typing.get_args(annotation)))
    return isinstance(annotation, type) and not typing.is_typeddict(annotation)


def _keys_fit(value: object, annotation: Any) -> bool:
    if not isinstance(value, dict):
        return False
    mapping = cast("dict[str, object]", value)
    hints = typing.get_type_hints(annotation)
    return annotation.__required_keys__ <= mapping.keys() and all(
        _fits(mapping[name], hint) for name, hint in hints.items() if name in mapping
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
