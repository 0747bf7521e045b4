"""Classes: what of them the user has written, and what was generated from that."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator
from typing import Final, cast

import msgspec

from penstock._caching.reached_code.values import is_data


def forms_of_fields(kind: type) -> Iterator[bytes]:
    """What generated methods follow from: fields, their types, and options of decorators."""
    hints = cast("dict[str, object]", vars(kind).get("__annotations__", {}))
    yield from (f"{field}: {_shown(hint)}".encode() for field, hint in hints.items())
    yield from (_shown(vars(kind).get(table)).encode() for table in _TABLES_OF_FIELDS)
    options = vars(kind).get("__dataclass_params__")
    if options is not None:
        yield repr((options.init, options.eq, options.order, options.frozen)).encode()


_TABLES_OF_FIELDS: Final = ("__attrs_attrs__", "__pydantic_fields__")
"""Where libraries that are not imported here keep the fields of a class."""


def defaults_of_fields(kind: type[object]) -> Iterator[object]:
    """The defaults of fields that are not attributes of the class."""
    if issubclass(kind, msgspec.Struct):
        for default in kind.__struct_defaults__:
            yield default.factory if type(default).__name__ == "Factory" else default
    for field in vars(kind).get("__dataclass_fields__", {}).values():
        yield from (v for v in (field.default, field.default_factory) if v is not _NO_DEFAULT)


_NO_DEFAULT: Final = dataclasses.MISSING


def members_of_enumeration(kind: type[object]) -> dict[str, object] | None:
    """The values of an enumeration by name; None: the class is not one."""
    if not issubclass(kind, enum.Enum):
        return None
    return {name: member.value for name, member in kind.__members__.items()}


def is_generated(kind: type[object], name: str, value: object) -> bool:
    """Whether an attribute was generated from what the user has written.

    Such are the `__init__` of dataclasses, the fields of tuples, the tables of enumerations; the
    `__hash__` of attrs holds a number that no other process has.
    """
    members = members_of_enumeration(kind)
    if members is not None and (name in members or re.fullmatch("_[^_].*_", name)):
        return True
    if not (name.startswith("__") and name.endswith("__")):
        return False
    code = getattr(value, "__code__", None)
    if code is None:
        return is_data(value)
    if name.startswith("__annotate") or code.co_filename.startswith("<attrs generated"):
        return True
    is_record = "__dataclass_fields__" in vars(kind) or issubclass(kind, tuple)
    return is_record and code.co_filename == "<string>"


def _shown(hint: object) -> str:
    text = hint if isinstance(hint, str) else getattr(hint, "__qualname__", repr(hint))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(text))
