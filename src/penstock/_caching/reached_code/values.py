"""Values: which are data and which are code, and which data cannot change."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import inspect
import numbers
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import msgspec

from penstock._model.modules import name_of_module

_IMMUTABLE: Final = (
    *(type(None), type(...), numbers.Number, str, bytes, range, enum.Enum, re.Pattern),
    *(uuid.UUID, pathlib.PurePath, dt.date, dt.time, dt.timedelta, dt.tzinfo),
)
_CODE: Final = (
    *(type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType),
    *(
        functools.partial,
        functools.partialmethod,
        staticmethod,
        classmethod,
        property,
        functools.cached_property,
    ),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType),
)


def is_data(value: object) -> bool:
    """Whether it is anything but code, or a wrapper around code."""
    return not isinstance(value, _CODE) and static_attribute(value, "__wrapped__") is None


def is_constant(value: object) -> bool:
    """Whether it cannot change."""
    if isinstance(value, tuple | frozenset):
        return all(
            is_constant(item) or not is_data(item) for item in cast("Iterable[object]", value)
        )
    return isinstance(value, _IMMUTABLE) or _is_frozen(value)


def _is_frozen(value: object) -> bool:
    if isinstance(value, msgspec.Struct):
        return value.__struct_config__.frozen
    options = getattr(type(value), "__dataclass_params__", None)
    return options is not None and bool(options.frozen)


def static_attribute(value: object, name: str) -> object:
    """An attribute, without running any code of the value's."""
    return inspect.getattr_static(value, name, None)


def attributes_of(value: object) -> dict[str, Any]:
    """The attributes that an object holds itself."""
    try:
        return vars(value)
    except Exception:  # it has none, or is a proxy of an object that is not there yet
        return {}


def name_of(value: object) -> bytes:
    """The form of what is found by its name."""
    module = name_of_module(getattr(value, "__module__", None) or "")
    return f"{module}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}".encode()


def getter_of_cell(cell: types.CellType) -> Callable[[str, object], object]:
    """What looks up the value in a cell, under any name."""

    def get(_name: str, default: object) -> object:
        try:
            return cast("object", cell.cell_contents)
        except ValueError:  # it is still empty
            return default

    return get
