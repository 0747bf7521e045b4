"""How histories and parameters are encoded for the columns of a row, and decoded again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec

from penstock.states import StateDetails, StateType, Transition


def encode_history(history: Sequence[Transition]) -> bytes:
    """The transitions as the database keeps them."""
    try:
        return _encode(history)
    except UnicodeEncodeError:
        return _encode(_storable(history))


def storable_text(text: str) -> str:
    """The text as valid Unicode: lone surrogates, as in odd file names, become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _storable(value: Any) -> Any:
    """The value as plain data, in which all strings are storable."""
    plain: Any = msgspec.to_builtins(value, builtin_types=(bytes, datetime, UUID))
    if isinstance(plain, str):
        return storable_text(plain)
    if isinstance(plain, dict):
        return {key: _storable(item) for key, item in cast("dict[str, Any]", plain).items()}
    if isinstance(plain, list | tuple):
        return [_storable(item) for item in cast("Sequence[Any]", plain)]
    return plain


class _StoredTransition(msgspec.Struct, array_like=True):
    """A transition in a database; early versions wrote the time as a msgpack timestamp."""

    type: StateType
    name: str
    message: str | None
    timestamp: float | datetime
    details: StateDetails


def decode_history(history: bytes) -> list[Transition]:
    """The inverse of `encode_history`."""
    return [
        Transition(t.type, t.name, t.message, _seconds(t.timestamp), t.details)
        for t in _decode(history)
    ]


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_StoredTransition]).decode


def encode_parameters(parameters: dict[str, object]) -> bytes:
    """Parameters for people to read: what msgpack cannot encode is written as its `repr`."""
    encoded = {name: _readable(value) for name, value in parameters.items()}
    return _encode(encoded)


def decode_parameters(parameters: bytes | None) -> dict[str, object]:
    """The inverse of `encode_parameters`, as far as there is one."""
    return _decode_parameters(parameters) if parameters else {}


_PARAMETER_LIMIT = 16 * 1024
_decode_any = msgspec.msgpack.Decoder().decode
_decode_parameters = msgspec.msgpack.Decoder(dict[str, object]).decode


def _readable(value: object) -> msgspec.Raw:
    try:
        raw = msgspec.msgpack.encode(value, enc_hook=_shortened)
    except Exception:
        raw = msgspec.msgpack.encode(_shortened(value))
    if len(raw) > _PARAMETER_LIMIT or not _can_be_read(raw):
        raw = msgspec.msgpack.encode(_shortened(value))
    return msgspec.Raw(raw)


def _can_be_read(raw: bytes) -> bool:
    """False where the key of a dict is encoded as a map, as a dataclass would be."""
    try:
        _decode_any(raw)
    except (msgspec.DecodeError, TypeError):  # the latter up to msgspec 0.19
        return False
    return True


def _shortened(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    clean = storable_text(text)
    return clean if len(clean) <= 1000 else f"{clean[:1000]}… ({len(clean)} characters)"
