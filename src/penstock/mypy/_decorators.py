"""What decorators make of functions whose results mypy cannot tell from coroutines."""

from __future__ import annotations

from mypy.plugin import FunctionContext, MethodContext
from mypy.types import (
    AnyType,
    CallableType,
    Instance,
    Parameters,
    Type,
    TypeVarType,
    get_proper_type,
)

from penstock.mypy._library import DECORATORS, Library


def decorated(library: Library, decorator: str, context: FunctionContext | MethodContext) -> Type:
    """The flow or task of a function that returns `Any` or a bare type variable.

    By itself, mypy gives up, or solves the variable as the first overload asks for.
    """
    function = _function(context)
    if function is None:
        return context.default_return_type
    value, kind = get_proper_type(function.ret_type), DECORATORS[decorator].sync
    if isinstance(value, Instance) and value.type.fullname == "typing.Coroutine":
        value, kind = get_proper_type(value.args[-1]), DECORATORS[decorator].asynchronous
    if not isinstance(value, AnyType | TypeVarType):
        return context.default_return_type
    return library.instance(kind, _parameters_of(function), value)


def _function(context: FunctionContext | MethodContext) -> CallableType | None:
    """The decorated function, which is given by position; options are given by name."""
    for types, names in zip(context.arg_types, context.arg_names, strict=True):
        given = get_proper_type(types[0]) if names == [None] else None
        if isinstance(given, CallableType):
            return given
    return None


def _parameters_of(function: CallableType) -> Parameters:
    return Parameters(
        function.arg_types,
        function.arg_kinds,
        function.arg_names,
        variables=function.variables,
    )
