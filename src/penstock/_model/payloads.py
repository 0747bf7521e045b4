"""Results as bytes: what comes back has exactly the type that went in.

A payload is one byte that names the form, then the value in it: msgpack for the scalars that it
keeps apart, pickle for everything else. Where the user has chosen a serializer, it is the name of
that and what it has made of the value, which may know less of its type. Only what this user's own
runs wrote is ever read; the database and the result files are readable by their owner alone.

Why: docs/inside/store.md, "Results are pickled but for scalars".
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from penstock._model.serializers import (
    PickleSerializer,
    Serializer,
    dump_named,
    load_as,
    serializer_named,
    split_named,
)
from penstock.exceptions import ResultUnavailable

INLINE_LIMIT: Final = 64 * 1024
"""Payloads of this many bytes and more are not kept in rows."""

_MSGPACK: Final = b"m"
_PICKLE: Final = b"p"
_FILE: Final = b"f"
_RUN: Final = b"r"
_LOST: Final = b"x"
_SERIALIZED: Final = b"s"

_SCALARS: Final = frozenset({type(None), bool, float, str, bytes})
_NONE: Final = _MSGPACK + b"\xc0"
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class FileReference(msgspec.Struct, frozen=True, array_like=True):
    """What a row holds in the place of a large payload.

    Attributes:
        name: what it is kept under.
        sha256: its checksum.
        size: how many bytes it has.
    """

    name: str
    sha256: bytes
    size: int


LoadFile: TypeAlias = Callable[[FileReference], bytes]
"""Gives a large payload."""
_unpack_file = msgspec.msgpack.Decoder(FileReference).decode


def any_type() -> Any:
    """What is said of the type of a value of which nothing is known."""
    return Any


def encode_result(value: object, serializer: Serializer | None = None) -> bytes:
    """The payload of `value`; without a serializer it is pickled, unless it is a scalar.

    Raises:
        Exception: whatever pickling it, or the serializer, raises; the value cannot be stored.
    """
    if serializer is not None and type(serializer) is not PickleSerializer:
        return _SERIALIZED + dump_named(serializer, value)
    if value is None:
        return _NONE
    kind = type(value)
    if kind in _SCALARS or (kind is int and -(2**63) <= value < 2**63):  # type: ignore[operator]  # an int by the check before
        try:
            return _MSGPACK + _pack(value)
        except UnicodeEncodeError:  # a str with lone surrogates, as os.listdir gives
            pass
    return _PICKLE + pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def decode_result(
    payload: bytes, load: LoadFile | None, returned: Callable[[], Any] = any_type
) -> object:
    """The value in a payload.

    Args:
        payload: made by `encode_result` or `file_payload`.
        load: gives large ones; None: there are none.
        returned: gives the type that the value had, for serializers that keep no types.

    Raises:
        ResultUnavailable: it was never written, its file is gone or damaged, or a class of it
            cannot be found any more.
    """
    form = payload[:1]
    if form == _LOST:
        raise ResultUnavailable(f"The result was not stored: {payload[1:].decode()}.")
    try:
        if form == _FILE:
            return decode_result(_loaded(_unpack_file(payload[1:]), load), None, returned)
        if form == _SERIALIZED:
            return _decode_serialized(payload[1:], returned)
        return _unpack(payload[1:]) if form == _MSGPACK else pickle.loads(payload[1:])
    except ResultUnavailable:
        raise
    except Exception as error:
        raise ResultUnavailable(f"The stored result cannot be read back: {error!r}.") from error


def _decode_serialized(data: bytes, returned: Callable[[], Any]) -> object:
    name, blob = split_named(data)
    try:
        serializer = serializer_named(name)
    except Exception as error:
        raise ResultUnavailable(
            f"The result was stored by the serializer {name!r}, which cannot be had here: "
            f"{error!r}."
        ) from error
    try:
        return load_as(serializer, blob, returned())
    except Exception as error:
        raise ResultUnavailable(
            f"The stored result cannot be read back by the serializer {name!r}: {error!r}."
        ) from error


def lost_payload(reason: str) -> bytes:
    """The payload that says why there is none."""
    return _LOST + reason.encode("utf-8", "backslashreplace")


def reference_to_run(run_id: bytes) -> bytes:
    """The payload that says: the same as the result of this run."""
    return _RUN + run_id


def referenced_run(payload: bytes) -> bytes | None:
    """The run that the payload refers to; None: it is itself the value."""
    return payload[1:] if payload[:1] == _RUN else None


def referenced_file(payload: bytes) -> FileReference | None:
    """The file that the payload refers to; None: it is itself the value."""
    return _unpack_file(payload[1:]) if payload[:1] == _FILE else None


def file_payload(reference: FileReference) -> bytes:
    """The payload that says: what is kept under this name."""
    return _FILE + _pack(reference)


def _loaded(reference: FileReference, load: LoadFile | None) -> bytes:
    if load is None:
        raise ResultUnavailable("The stored result refers to a file within a file.")
    return load(reference)
