"""The verbs of flows and tasks: each takes the parameters of the function and its own options.

Why: docs/inside/typing.md, "map and submit take Any and a plugin knows better".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from mypy.argmap import map_actuals_to_formals
from mypy.erasetype import erase_typevars
from mypy.errorcodes import ARG_TYPE, CALL_ARG
from mypy.messages import format_type
from mypy.nodes import (
    ARG_NAMED_OPT,
    ARG_STAR2,
    ArgKind,
    CallExpr,
    Context,
    Expression,
    NameExpr,
)
from mypy.plugin import MethodContext, MethodSigContext
from mypy.subtypes import is_subtype
from mypy.typeops import get_type_vars, make_simplified_union
from mypy.types import (
    AnyType,
    CallableType,
    FunctionLike,
    Instance,
    NoneType,
    Parameters,
    ParamSpecType,
    Type,
    TypeOfAny,
    get_proper_type,
)

from penstock.mypy._library import (
    FAILURE_ALLOWED,
    FUTURE,
    MAPPING,
    STATE,
    STREAMING,
    VALUES,
    Library,
    is_unmapped,
    is_whole,
)


class Formal(NamedTuple):
    """A parameter of a rewritten verb.

    Attributes:
        type: the type in the function, or that of the verb's option.
        kind: by position or by name, with a default or without.
        name: None: it has none.
        is_option: whether it is an option of the verb.
    """

    type: Type
    kind: ArgKind
    name: str | None
    is_option: bool = False


def rewritten(library: Library, verb: str, context: MethodSigContext) -> FunctionLike:
    """The signature of a verb, with the parameters of the function, widened."""
    signature, owner = context.default_signature, get_proper_type(context.type)
    parameters = _parameters(owner)
    returned = _returned(library, verb, context)
    if parameters is None or not isinstance(owner, Instance):
        return _modified(signature, ret_type=returned)
    formals = _formals(library, verb, parameters, context.context)
    variables = {v.id: v for v in (*signature.variables, *parameters.variables)}
    return _modified(
        signature,
        arg_types=list(_widened(library, verb, formals, context)),
        arg_kinds=[f.kind for f in formals],
        arg_names=[f.name for f in formals],
        ret_type=returned,
        name=f"{verb} of {owner.type.name}",
        variables=list(variables.values()),
    )


def _modified(signature: CallableType, **changes: Any) -> CallableType:
    untyped = cast("Any", signature)  # mypy leaves the types of `copy_modified` out
    return cast("CallableType", untyped.copy_modified(**changes))


def _parameters(owner: Type) -> CallableType | None:
    """The parameters of the function; None where they are not known here."""
    owner = get_proper_type(owner)
    if not isinstance(owner, Instance) or not owner.args:
        return None
    given = get_proper_type(owner.args[0])
    if not isinstance(given, Parameters) or given.is_ellipsis_args:
        return None
    if any(isinstance(get_proper_type(type_), ParamSpecType) for type_ in given.arg_types):
        return None
    return CallableType(
        given.arg_types,
        given.arg_kinds,
        given.arg_names,
        AnyType(TypeOfAny.special_form),
        Instance(owner.type, []),
        variables=given.variables,
    ).with_unpacked_kwargs()


def _formals(library: Library, verb: str, parameters: CallableType, call: Context) -> list[Formal]:
    """The parameters of the function, and the options of the verb that the call names."""
    formals = list(map(Formal, parameters.arg_types, parameters.arg_kinds, parameters.arg_names))
    ends_open = bool(formals) and formals[-1].kind == ARG_STAR2
    position = len(formals) - ends_open
    options = [
        Formal(type_, ARG_NAMED_OPT, name, is_option=True)
        for name, type_ in _options(library, verb)
        if _argument(call, name) is not None
    ]
    return [*formals[:position], *options, *formals[position:]]


_DEPTH_AWAITED: Final = 2
"""As in the annotation of the verb `wait_for`; a type of any depth would accept strings."""


def _options(library: Library, verb: str) -> Iterator[tuple[str, Type]]:
    """The options of a verb: `return_state` where it takes that, and `wait_for`."""
    if verb in VALUES:
        yield "return_state", library.instance("builtins.bool")
    anything = AnyType(TypeOfAny.explicit)
    handles = [library.instance(name, anything) for name in (FUTURE, FAILURE_ALLOWED, STATE)]
    awaited = one = make_simplified_union([*handles, NoneType()])
    for _ in range(_DEPTH_AWAITED):
        awaited = make_simplified_union([one, library.instance("typing.Iterable", awaited)])
    yield "wait_for", awaited


def _argument(call: Context, name: str) -> Expression | None:
    """The argument that a call gives for a keyword."""
    if isinstance(call, CallExpr) and name in call.arg_names:
        return call.args[call.arg_names.index(name)]
    return None


# How parameters are widened


def _widened(
    library: Library, verb: str, formals: Sequence[Formal], context: MethodSigContext
) -> Iterator[Type]:
    """The types of the parameters; where they have type variables, by the arguments of the call."""
    widen = library.resolvable if verb not in MAPPING else library.mappable
    widen = library.streamable if verb in STREAMING else widen
    like = library.mappable_like if verb in MAPPING else library.resolvable_like
    for position, formal in enumerate(formals):
        if formal.is_option:
            yield formal.type
        elif not get_type_vars(formal.type):
            yield widen(formal.type)
        else:
            shapes = [like(formal.type, given) for given in _given(context, formals, position)]
            yield shapes[0] if shapes and all(s == shapes[0] for s in shapes) else formal.type


def _given(context: MethodSigContext, formals: Sequence[Formal], position: int) -> list[Type]:
    """The types of the arguments that a call gives for a parameter."""
    call = context.context
    if not isinstance(call, CallExpr):
        return []

    def type_of(actual: int) -> Type:
        return context.api.get_expression_type(call.args[actual])

    kinds, names = [f.kind for f in formals], [f.name for f in formals]
    actuals = map_actuals_to_formals(call.arg_kinds, call.arg_names, kinds, names, type_of)
    if any(call.arg_kinds[actual].is_star() for actual in actuals[position]):
        return []
    return list(map(type_of, actuals[position]))


# What `return_state` makes of the value


def _returned(library: Library, verb: str, context: MethodSigContext) -> Type:
    """The type of the call: that of the value, or of the state where `return_state` asks for it."""
    plain = context.default_signature.ret_type
    flag = _argument(context.context, "return_state")
    chosen = flag.fullname if isinstance(flag, NameExpr) else ""
    if flag is None or verb not in VALUES or chosen == "builtins.False":
        return plain
    state = _as_state(library, verb, context.type, plain)
    return state if chosen == "builtins.True" else make_simplified_union([plain, state])


def _as_state(library: Library, verb: str, owner: Type, value: Type) -> Type:
    """The state of a value; for a coroutine of a value, a coroutine of the state."""
    is_async = isinstance(owner, Instance) and owner.type.name.startswith("Async")
    coroutine = get_proper_type(value)
    if not (isinstance(coroutine, Instance) and (verb == "run_async" or is_async)):
        return library.instance(STATE, value)
    if verb == "run_sync":
        return library.instance(STATE, value)
    *others, inner = coroutine.args
    return Instance(coroutine.type, [*others, library.instance(STATE, inner)])


# What `map` refuses, whatever the types of the parameters


def checked_by_rules_of_map(library: Library, verb: str, context: MethodContext) -> Type:
    """Refuse arguments that every run gets as they are and cannot take, and a map over nothing."""
    parameters = _parameters(context.type)
    if parameters is None or any(kind.is_star() for kinds in context.arg_kinds for kind in kinds):
        return context.default_return_type
    formals = _formals(library, verb, parameters, context.context)
    given = list(_arguments(context, formals))
    wholes = [argument for argument in given if is_whole(argument.type)]
    fitting = [argument for argument in wholes if _fits(library, verb, argument, context)]
    if given and len(fitting) == len(given):
        _refuse_nothing(verb, context)
    return context.default_return_type


class Argument(NamedTuple):
    """An argument of a call, for a parameter of the function.

    Attributes:
        wanted: the type of the parameter.
        type: the type of the argument.
        expression: the argument in the source.
    """

    wanted: Type
    type: Type
    expression: Expression


def _arguments(context: MethodContext, formals: Sequence[Formal]) -> Iterator[Argument]:
    for formal, types, expressions in zip(formals, context.arg_types, context.args, strict=True):
        if not formal.is_option:
            yield from (
                Argument(formal.type, t, e) for t, e in zip(types, expressions, strict=True)
            )


def _fits(library: Library, verb: str, argument: Argument, context: MethodContext) -> bool:
    """Whether each run could take the argument as it is; mypy itself refuses most others."""
    wanted = erase_typevars(argument.wanted)
    if not is_subtype(argument.type, library.mappable(wanted)):
        return False
    if is_unmapped(argument.type) or is_subtype(argument.type, library.resolvable(wanted)):
        return True
    _refuse_whole(verb, argument, context)
    return False


def _refuse_whole(verb: str, argument: Argument, context: MethodContext) -> None:
    given = format_type(argument.type, context.api.options)
    wanted = format_type(argument.wanted, context.api.options)
    context.api.fail(
        f"{verb}() does not take {given} apart; each run would get it for {wanted}",
        argument.expression,
        code=ARG_TYPE,
    )


def _refuse_nothing(verb: str, context: MethodContext) -> None:
    context.api.fail(
        f"{verb}() got no iterable argument; use submit() for a single run",
        context.context,
        code=CALL_ARG,
    )
