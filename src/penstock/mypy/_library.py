"""What the plugin knows of the library: names of classes, verbs, and substitutes for types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mypy.maptype import map_instance_to_supertype
from mypy.nodes import TypeInfo
from mypy.plugin import Plugin
from mypy.subtypes import is_subtype
from mypy.typeops import make_simplified_union, tuple_fallback
from mypy.types import (
    AnyType,
    Instance,
    ParamSpecType,
    TupleType,
    Type,
    TypeAliasType,
    TypedDictType,
    TypeOfAny,
    UnionType,
    UnpackType,
    get_proper_type,
)

DEFINED_IN = ("penstock.tasks", "penstock.flows")


class Kinds(NamedTuple):
    """The classes that a decorator makes.

    Attributes:
        sync: of a sync function.
        asynchronous: of an async one.
    """

    sync: str
    asynchronous: str


TASKS = Kinds("penstock.tasks.Task", "penstock.tasks.AsyncTask")
FLOWS = Kinds("penstock.flows.Flow", "penstock.flows.AsyncFlow")
DECORATORS = {
    "penstock.tasks.task": TASKS,
    "penstock.tasks.TaskDecorator": TASKS,
    "penstock.flows.flow": FLOWS,
    "penstock.flows.FlowDecorator": FLOWS,
}
STREAMING = ("imap", "imap_unordered")
MAPPING = ("map", *STREAMING)
SUBMITTING = ("submit", *MAPPING)
STATES = ("call_state", "run_async_state", "run_sync_state")
VALUES = ("__call__", "run_async", "run_sync")
VERBS_OF: Mapping[str, Iterable[str]] = {
    **dict.fromkeys(TASKS, (*VALUES, *STATES, *SUBMITTING)),
    **dict.fromkeys(FLOWS, (*VALUES, *STATES, *SUBMITTING)),
}
"""The methods that take the arguments of the function, by their class."""

FUTURE = "penstock._calls.futures.TaskFuture"
FAILURE_ALLOWED = "penstock._calls.futures.FailureAllowed"
STATE = "penstock.states.State"
UNMAPPED = "penstock._rules.futures_in_arguments.unmapped"
CONTAINERS = "penstock._calls.plugin_types"

READ_AS = {"builtins.list": "ListOf", "builtins.set": "SetOf", "builtins.dict": "DictOf"}
"""The protocols that stand for the containers which are not covariant."""

COVARIANT = frozenset(
    {
        "builtins.frozenset",
        "builtins.tuple",
        "typing.AbstractSet",
        "typing.Collection",
        "typing.Container",
        "typing.Iterable",
        "typing.Mapping",
        "typing.Reversible",
        "typing.Sequence",
    }
)
"""The containers that are covariant."""

WHOLE = ("builtins.str", "builtins.bytes", "builtins.bytearray", "builtins.dict", "io.IOBase")
"""What `map` gives to every run as it is although it is iterable, as `_calls/mapping.py` says."""


class Library:
    """The types that may stand for a type.

    Args:
        plugin: the plugin, which knows all modules that mypy has read.
    """

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._open: list[TypeAliasType] = []

    def instance(self, name: str, *arguments: Type) -> Instance:
        """A class by its full name, with its arguments."""
        symbol = self._plugin.lookup_fully_qualified(name)
        assert symbol is not None, name
        assert isinstance(symbol.node, TypeInfo), name
        return Instance(symbol.node, list(arguments))

    # Arguments that are resolved

    def resolvable(self, type_: Type) -> Type:
        """What an argument of this type may be: itself, a future or a state; at any depth."""
        if isinstance(get_proper_type(type_), AnyType | ParamSpecType | UnpackType):
            return type_
        return make_simplified_union([self._inside(type_), *self._pending(type_)])

    def _pending(self, type_: Type) -> list[Type]:
        names = [FUTURE, STATE]
        if is_subtype(self.instance("builtins.Exception"), type_):
            names.append(FAILURE_ALLOWED)
        return [self.instance(name, type_) for name in names]

    def _inside(self, type_: Type) -> Type:
        """The type, with futures allowed inside it."""
        if isinstance(type_, TypeAliasType) and type_.is_recursive:
            return self._inside_recursive(type_)
        proper = get_proper_type(type_)
        if isinstance(proper, UnionType):
            return make_simplified_union([self._inside(item) for item in proper.items])
        if isinstance(proper, TupleType):
            return proper.copy_modified(items=[self.resolvable(item) for item in proper.items])
        if isinstance(proper, TypedDictType):
            return make_simplified_union([proper, self._with_items(proper)])
        if isinstance(proper, Instance) and proper.args:
            return self._inside_container(proper)
        return type_

    def _with_items(self, keys: TypedDictType) -> Type:
        items = {name: self.resolvable(item) for name, item in keys.items.items()}
        nameless = keys.create_anonymous_fallback()
        return TypedDictType(items, keys.required_keys, keys.readonly_keys, nameless)

    def _inside_recursive(self, alias: TypeAliasType) -> Type:
        """One level is looked into; deeper ones take any type."""
        if alias in self._open:
            return AnyType(TypeOfAny.special_form)
        self._open.append(alias)
        try:
            return self._inside(get_proper_type(alias))
        finally:
            self._open.remove(alias)

    def _inside_container(self, container: Instance) -> Type:
        name = container.type.fullname
        if name in READ_AS:
            parts = map(self.resolvable, container.args)
            return self.instance(f"{CONTAINERS}.{READ_AS[name]}", *parts)
        if name in COVARIANT:
            return Instance(container.type, list(map(self.resolvable, container.args)))
        if "dataclass" in container.type.metadata:  # of a Struct as well
            return make_simplified_union([container, *self._with_fields(container)])
        return container

    def _with_fields(self, record: Instance) -> Iterator[Type]:
        """A generic dataclass or Struct whose fields hold futures, states, or either."""
        for name in (FUTURE, STATE):
            yield Instance(record.type, [self.instance(name, a) for a in record.args])
        yield Instance(record.type, list(map(self.resolvable, record.args)))

    # Arguments that are taken apart

    def streamable(self, type_: Type) -> Type:
        """What an argument of `imap` may be: that of `map`, or an async iterable of items."""
        if isinstance(get_proper_type(type_), AnyType | ParamSpecType | UnpackType):
            return type_
        items = self.instance("typing.AsyncIterable", self.resolvable(type_))
        return make_simplified_union([self.mappable(type_), items])

    def mappable(self, type_: Type) -> Type:
        """What an argument of `map` may be: the items of the runs, or the same for all of them."""
        if isinstance(get_proper_type(type_), AnyType | ParamSpecType | UnpackType):
            return type_
        item = self.resolvable(type_)
        given = make_simplified_union(
            [self.instance("typing.Iterable", item), *self._taken_whole(type_)]
        )
        return make_simplified_union([given, self.instance(UNMAPPED, item), *self._pending(given)])

    def _taken_whole(self, type_: Type) -> Iterator[Type]:
        """The members of a parameter's type that every run gets as they are."""
        proper = get_proper_type(type_)
        if isinstance(proper, UnionType):
            for item in proper.items:
                yield from self._taken_whole(item)
        elif not is_taken_apart(proper):
            yield self._inside(type_)

    # Arguments of generic functions, as mypy cannot solve `T | TaskFuture[T]`

    def resolvable_like(self, type_: Type, actual: Type) -> Type:
        """The one of the `resolvable` types that has the shape of an argument."""
        given, wanted = _as_instance(actual), get_proper_type(type_)
        if given is None:
            return type_
        if given.type.fullname in {FUTURE, STATE}:
            return Instance(given.type, [type_])
        if not isinstance(wanted, Instance) or not given.type.has_base(wanted.type.fullname):
            return type_
        items = map_instance_to_supertype(given, wanted.type).args
        return Instance(wanted.type, list(map(self.resolvable_like, wanted.args, items)))

    def mappable_like(self, type_: Type, actual: Type) -> Type:
        """The one of the `mappable` types that has the shape of an argument."""
        given = _as_instance(actual)
        if given is None:
            return type_
        if given.type.fullname in {FUTURE, STATE}:
            return Instance(given.type, [self.mappable_like(type_, given.args[0])])
        if given.type.fullname == UNMAPPED:
            return Instance(given.type, [self.resolvable_like(type_, given.args[0])])
        if not is_taken_apart(given):
            return self.resolvable_like(type_, given)
        lazily = given.type.has_base("typing.AsyncIterable")
        iterable = self.instance("typing.AsyncIterable" if lazily else "typing.Iterable").type
        item = map_instance_to_supertype(given, iterable).args[0]
        return Instance(iterable, [self.resolvable_like(type_, item)])


def _as_instance(type_: Type) -> Instance | None:
    proper = get_proper_type(type_)
    if isinstance(proper, TupleType):
        return tuple_fallback(proper)
    return proper if isinstance(proper, Instance) else None


def is_taken_apart(type_: Type) -> bool:
    """Whether `map` takes all values of the type apart."""
    proper = get_proper_type(type_)
    if isinstance(proper, TupleType):
        return True
    if not isinstance(proper, Instance) or is_text_or_dict(proper):
        return False
    return any(map(proper.type.has_base, ("typing.Iterable", "typing.AsyncIterable")))


def is_whole(type_: Type) -> bool:
    """Whether `map` gives all values of the type to every run as they are."""
    proper = get_proper_type(type_)
    if isinstance(proper, UnionType):
        return all(map(is_whole, proper.items))
    if isinstance(proper, TypedDictType):
        return True
    if not isinstance(proper, Instance):
        return False
    if proper.type.fullname in {FUTURE, STATE}:
        return all(map(is_whole, proper.args))
    return is_text_or_dict(proper) or _has_no_items(proper.type)


def is_text_or_dict(type_: Type) -> bool:
    """Whether it is one of the iterables that `map` does not take apart."""
    proper = get_proper_type(type_)
    return isinstance(proper, Instance) and any(map(proper.type.has_base, WHOLE))


def is_unmapped(type_: Type) -> bool:
    """Whether it is what `unmapped` makes."""
    proper = get_proper_type(type_)
    return isinstance(proper, Instance) and proper.type.fullname == UNMAPPED


def _has_no_items(info: TypeInfo) -> bool:
    is_open = info.is_protocol or info.fullname == "builtins.object" or info.fallback_to_any
    return not is_open and info.get("__iter__") is None
