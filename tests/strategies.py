"""The values that properties are tried on."""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, timezone
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
from hypothesis import strategies as st


class Color(enum.Enum):
    """An enumeration."""

    RED = "red"
    BLUE = 2


class Access(enum.Flag):
    """Flags; none of them is a value as well."""

    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    """A dataclass that can change."""

    x: object
    y: object


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A dataclass that cannot, and that a set can hold."""

    at: object


class Pair(msgspec.Struct):
    """A Struct that can change."""

    left: object
    right: object


class Label(msgspec.Struct, frozen=True):
    """A Struct that cannot, and that a set can hold."""

    text: object


class Size(NamedTuple):
    """A named tuple."""

    width: object
    height: object


any_text = st.text(st.characters(categories=("L", "N", "P", "Z", "S", "Cs")), max_size=8)
"""Texts, lone surrogates among them, as file names can hold."""

hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    any_text,
    st.binary(max_size=8),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone.min])),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([*Color, *Access, Access(0), Access(3), int, Point, len, ...]),
    any_text.map(lambda text: PurePosixPath(text.replace("\0", ""))),
)
scalars = hashable_scalars | st.just(math.nan) | st.binary(max_size=8).map(bytearray)


def _hashable_containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(parts, max_size=3).map(tuple),
        st.frozensets(parts, max_size=3),
        st.builds(Mark, parts),
        st.builds(Label, parts),
        st.builds(Size, parts, parts),
    )


hashables = st.recursive(hashable_scalars, _hashable_containers, max_leaves=6)


def _containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(parts, max_size=4),
        st.lists(parts, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.dictionaries(hashables, parts, max_size=4),
        st.builds(Point, parts, parts),
        st.builds(Pair, parts, parts),
        st.builds(Mark, parts),
        st.builds(Size, parts, parts),
    )


nested_values = st.recursive(scalars, _containers, max_leaves=12)
"""Values of all kinds, in each other."""

small_values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 0.0, 1.0, "", "1", b"1", (), Color.RED]),
    _containers,
    max_leaves=4,
)
"""Values of which two are often almost the same."""


def form(value: object) -> object:
    """What a value is, its types included, and the order of dicts and sets left out.

    Two values have equal forms if, and only if, no code could tell one from the other but by
    identity or by that order.
    """
    kind = type(value)
    parts: object
    if isinstance(value, float):
        parts = struct.pack("<d", value)
    elif isinstance(value, complex):
        parts = (form(value.real), form(value.imag))
    elif isinstance(value, set | frozenset):
        parts = frozenset(map(form, cast("Iterable[object]", value)))
    elif isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        parts = frozenset((form(key), form(part)) for key, part in items)
    elif isinstance(value, list | tuple):
        parts = tuple(map(form, cast("Iterable[object]", value)))
    elif isinstance(value, msgspec.Struct):
        parts = tuple(form(getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = tuple(form(getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        parts = bytes(value) if isinstance(value, bytearray) else (repr(value), value)
    return kind, parts


# Templates: values with holes, which can be filled again and again.

Fill: TypeAlias = Callable[[], object]
Template: TypeAlias = Callable[[Fill], object]


class MyList(list[object]):
    """A list of the user's own."""


def _constant(value: object) -> Template:
    return lambda _fill: value


def _hole(fill: Fill) -> object:
    return fill()


def _made(make: Callable[[list[object]], object]) -> Callable[[list[Template]], Template]:
    """A template of the container that `make` makes of its parts."""

    def template_of(parts: list[Template]) -> Template:
        return lambda fill: make([part(fill) for part in parts])

    return template_of


def _dict_of(parts: list[object]) -> dict[object, object]:
    return {f"key {index}": part for index, part in enumerate(parts)}


_COLLECTIONS: list[Callable[[list[object]], object]] = [list, tuple, _dict_of]
_PAIRS: list[Callable[[list[object]], object]] = [
    lambda parts: Point(*parts),
    lambda parts: Pair(*parts),
    lambda parts: Size(*parts),
]
_SETS: list[Callable[[list[object]], object]] = [set, frozenset]
_SINGLES: list[Callable[[list[object]], object]] = [
    lambda parts: Mark(*parts),
    lambda parts: Label(*parts),
]

_leaves = st.one_of(
    st.just(_hole),
    st.sampled_from([None, 5, "text", b"bytes", 1.5, Color.RED]).map(_constant),
)
_hashable_templates = st.recursive(
    _leaves,
    lambda parts: st.one_of(
        st.builds(_made(tuple), st.lists(parts, max_size=2)),
        *(st.builds(_made(make), st.lists(parts, min_size=1, max_size=1)) for make in _SINGLES),
    ),
    max_leaves=3,
)


def _template_containers(parts: st.SearchStrategy[Template]) -> st.SearchStrategy[Template]:
    return st.one_of(
        *(st.builds(_made(make), st.lists(parts, max_size=3)) for make in _COLLECTIONS),
        *(st.builds(_made(make), st.lists(parts, min_size=2, max_size=2)) for make in _PAIRS),
        *(st.builds(_made(make), st.lists(parts, min_size=1, max_size=1)) for make in _SINGLES),
        *(st.builds(_made(make), st.lists(_hashable_templates, max_size=3)) for make in _SETS),
    )


templates = st.recursive(_leaves, _template_containers, max_leaves=8)
"""Containers in containers, with holes for futures anywhere in them."""


# Calls


def plain(a: object, b: object, c: object = 3) -> object:
    return a, b, c


def positional(a: object, /, b: object = 2, *rest: object) -> object:
    return a, b, rest


def by_name(a: object, *, b: object, c: object = 3, **others: object) -> object:
    return a, b, c, others


def everything(
    a: object,
    /,
    b: object,
    c: object = 3,
    *rest: object,
    d: object,
    e: object = 5,
    **others: object,
) -> object:
    return a, b, c, rest, d, e, others


def nothing() -> object:
    return ()


def numbers() -> Iterator[int]:
    """A generator: it can be neither hashed nor stored."""
    yield 1


FUNCTIONS = [plain, positional, by_name, everything, nothing]
arguments = st.tuples(
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(), max_size=5),
)
"""Arguments that some functions take."""
