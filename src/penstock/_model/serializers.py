"""Serializers: how results become bytes; the name of one says, in any process, how to read them.

The built-in ones are named `pickle`, `json` and `msgpack`, and with a compression in front
`zlib/json`. One of the user's own is named after its class, `module:Class`, and a process that
reads its results imports that module. This takes no more trust than a pickle, which calls what it
names.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
from collections.abc import Callable
from functools import reduce
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import msgspec
from typing_extensions import override

from penstock._model import checks
from penstock.exceptions import ConfigurationError

CompressionLibrary: TypeAlias = Literal["zlib", "gzip", "bz2", "lzma"]
_LIBRARIES: Final[tuple[str, ...]] = get_args(CompressionLibrary)
_LONGEST_NAME: Final = 255


@runtime_checkable
class Serializer(Protocol):
    """Turns results into bytes and back.

    A class of your own must be importable, and callable without arguments: a process that reads
    its results finds it by its name.
    """

    def dumps(self, value: Any, /) -> bytes:
        """The value as bytes; where this raises, the result is not stored."""
        ...

    def loads(self, blob: bytes, /) -> Any:
        """The value that `dumps` made these bytes of."""
        ...


class PickleSerializer(Serializer):
    """Keeps the exact type of nearly everything; the default."""

    @override
    def dumps(self, value: Any, /) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    @override
    def loads(self, blob: bytes, /) -> Any:
        return pickle.loads(blob)


class JSONSerializer(Serializer):
    """Writes text that other programs can read; tuples become lists, and dataclasses dicts."""

    @override
    def dumps(self, value: Any, /) -> bytes:
        return msgspec.json.encode(value)

    @override
    def loads(self, blob: bytes, /) -> Any:
        return msgspec.json.decode(blob)


class MsgpackSerializer(Serializer):
    """Like JSON, but smaller; bytes and times keep their types."""

    @override
    def dumps(self, value: Any, /) -> bytes:
        return msgspec.msgpack.encode(value)

    @override
    def loads(self, blob: bytes, /) -> Any:
        return msgspec.msgpack.decode(blob)


class CompressedSerializer(Serializer):
    """Compresses the bytes of another serializer.

    Args:
        serializer: the other one, or its name.
        compressionlib: the module of the standard library that compresses them.

    Raises:
        ConfigurationError: there is no such serializer, or this Python lacks the module.
    """

    def __init__(
        self, serializer: Serializer | str, compressionlib: CompressionLibrary = "zlib"
    ) -> None:
        self.serializer: Serializer = _checked(serializer, "serializer", "CompressedSerializer")
        self.compressionlib: CompressionLibrary = compressionlib
        self._library = _library(compressionlib)

    @override
    def dumps(self, value: Any, /) -> bytes:
        compressed: bytes = self._library.compress(_dumped(self.serializer, value))
        return compressed

    @override
    def loads(self, blob: bytes, /) -> Any:
        return self.serializer.loads(self._library.decompress(blob))


_NAMED: Final[dict[str, Callable[[], Serializer]]] = {
    "pickle": PickleSerializer,
    "json": JSONSerializer,
    "msgpack": MsgpackSerializer,
}
_NAMES: Final = {kind: name for name, kind in _NAMED.items()}
_DECODERS: Final[dict[type, Callable[..., Any]]] = {
    JSONSerializer: msgspec.json.decode,
    MsgpackSerializer: msgspec.msgpack.decode,
}


def serializer_or_none(given: object, owner: str) -> Serializer | None:
    """The serializer that a decorator's argument asks for; None where it asks for none.

    Raises:
        ConfigurationError: it is not a serializer, or other processes could not find it.
    """
    return None if given is None else _checked(given, "result_serializer", owner)


def name_of(serializer: Serializer) -> str:
    """The name under which a serializer is found again."""
    kind = type(serializer)
    if isinstance(serializer, CompressedSerializer) and kind is CompressedSerializer:
        return f"{serializer.compressionlib}/{name_of(serializer.serializer)}"
    return _NAMES.get(kind) or f"{kind.__module__}:{kind.__qualname__}"


def serializer_named(name: str) -> Serializer:
    """The serializer with this name.

    Raises:
        Exception: there is none, or its class raises when it is called.
    """
    first, _, rest = name.partition("/")
    if rest:
        library: Any = "zlib" if first == "compressed" else first
        return CompressedSerializer(serializer_named(rest), library)
    module, _, path = name.partition(":")
    if path:
        own: Serializer = _found(module, path)()
        return own
    if name not in _NAMED:
        raise ConfigurationError(f"There is no serializer {name!r}.")
    return _NAMED[name]()


def dump_named(serializer: Serializer, value: object) -> bytes:
    """The name of the serializer, preceded by its length, and the value as bytes.

    Raises:
        Exception: what the serializer raised.
    """
    name = name_of(serializer).encode()
    return bytes([len(name)]) + name + _dumped(serializer, value)


def split_named(data: bytes) -> tuple[str, bytes]:
    """The name of the serializer, and the bytes for it."""
    end = data[0] + 1
    return data[1:end].decode(), data[end:]


def load_as(serializer: Serializer, blob: bytes, returned: Any) -> object:
    """The value; of the type `returned` where the serializer keeps no types itself."""
    kind = type(serializer)
    if isinstance(serializer, CompressedSerializer) and kind is CompressedSerializer:
        return load_as(serializer.serializer, serializer._library.decompress(blob), returned)
    if kind in _DECODERS:
        with contextlib.suppress(TypeError):  # msgspec refuses some types, as unions of dataclasses
            return _DECODERS[kind](blob, type=returned)
    return serializer.loads(blob)


def _dumped(serializer: Serializer, value: object) -> bytes:
    blob: Any = serializer.dumps(value)
    if not isinstance(blob, bytes):
        raise TypeError(f"dumps() gave {type(blob).__name__}, not bytes")
    return blob


def _found(module: str, path: str) -> Any:
    return reduce(getattr, path.split("."), importlib.import_module(module))


def _library(name: str) -> Any:
    checks.one_of(name, _LIBRARIES, "compressionlib", "CompressedSerializer")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"CompressedSerializer: this Python was built without {name!r} ({error})."
        ) from error


def _checked(given: object, argument: str, owner: str) -> Serializer:
    if isinstance(given, str):
        try:
            return serializer_named(given)
        except Exception as error:
            requirement = (
                f"one of {', '.join(map(repr, _NAMED))}, or one of them with a compression in "
                "front, such as 'compressed/json'"
            )
            raise checks.refusal(given, argument, owner, requirement, str(error)) from error
    if isinstance(given, type) or not isinstance(given, Serializer):
        requirement = (
            "the name of a serializer, such as 'json', or an object with the methods dumps() and "
            "loads()"
        )
        raise checks.refusal(given, argument, owner, requirement)
    _check_that_it_is_found(given, f"{owner}: {argument}")
    return given


def _check_that_it_is_found(serializer: Serializer, what: str) -> None:
    name = name_of(serializer)
    try:
        is_found = type(serializer_named(name)) is type(serializer)
    except Exception as error:
        raise ConfigurationError(
            f"{what}: a process that reads a result must be able to import {name!r} and to call "
            f"it without arguments, which fails here: {error!r}. Define the class at the top "
            "level of a module."
        ) from error
    if not is_found or len(name.encode()) > _LONGEST_NAME:
        raise ConfigurationError(
            f"{what}: {name!r} leads to something else, or is longer than {_LONGEST_NAME} bytes."
        )
