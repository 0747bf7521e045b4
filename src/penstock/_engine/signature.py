"""Signatures: arguments by name, and values held against their annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any, cast

import msgspec

from penstock.exceptions import ConfigurationError, ParameterError

RESERVED = frozenset({"return_state", "wait_for"})
"""Keyword arguments that belong to the call, not to the function."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Signature:
    """What a function takes.

    Args:
        function: the user's function.
        owner: how errors call it, such as `task 'double'`.

    Raises:
        ConfigurationError: it takes a parameter with a reserved name.
    """

    def __init__(self, function: Callable[..., Any], owner: str) -> None:
        self._function = function
        self._owner = owner
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        reserved = RESERVED.intersection(self._signature.parameters)
        if reserved:
            raise ConfigurationError(
                f"{owner}: a parameter cannot be called {' or '.join(sorted(reserved))}, as the "
                "call itself takes that argument; choose another name."
            )
        self._positional = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._required = sum(p.kind in _POSITIONAL and p.default is p.empty for p in parameters)
        self._is_plain = len(self._positional) == len(self._signature.parameters)

    def check(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Raise where the function does not take such arguments.

        Raises:
            ParameterError: naming what is missing or too much.
        """
        if self._is_plain and not kwargs and self._required <= len(args) <= len(self._positional):
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

    def _bound(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ParameterError(f"{self._owner}: {error}.") from None

    def spread(self, parameters: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The inverse of `bind`."""
        bound = inspect.BoundArguments(self._signature, OrderedDict(parameters))
        return list(bound.args), dict(bound.kwargs)

    def validated(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as their annotations want them; lax: `"5"` for an `int` is 5.

        Raises:
            ParameterError: naming each parameter that cannot be converted.
        """
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
        if annotation is Any:
            return value
        kind = self._signature.parameters[name].kind
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
    def _hints(self) -> dict[str, Any]:
        function = inspect.unwrap(self._function)
        try:
            return typing.get_type_hints(getattr(function, "__func__", function))
        except Exception:  # an annotation that cannot be evaluated here, as under TYPE_CHECKING
            return {}


def convert(value: object, annotation: Any) -> object:
    """`value` as the annotation wants it; the very same object where it fits already.

    Raises:
        msgspec.ValidationError: it cannot be converted.
    """
    if isinstance(annotation, type) and isinstance(value, annotation):
        return value  # pyright: ignore[reportUnknownVariableType]  # narrowed to an unknown type
    try:
        strictly = cast("object", msgspec.convert(value, annotation, dec_hook=_custom))
    except msgspec.ValidationError:
        return cast("object", msgspec.convert(value, annotation, strict=False, dec_hook=_custom))
    except TypeError:  # an annotation that msgspec does not know, such as a union of own classes
        return value
    return value if type(strictly) is type(value) else strictly


def _custom(kind: type[Any], value: Any) -> Any:
    """Conversions into types that msgspec does not know."""
    if isinstance(value, kind):
        return value
    if issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    validate = getattr(kind, "model_validate", None)  # a Pydantic model
    if validate is not None and isinstance(value, dict):
        try:
            return validate(value)
        except Exception as error:
            raise msgspec.ValidationError(str(error)) from error
    raise msgspec.ValidationError(
        f"Expected `{getattr(kind, '__name__', kind)}`, got `{type(value).__name__}`"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
