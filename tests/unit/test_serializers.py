"""Serializers: what they make of a value says by itself how to read it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Flow, Task
from penstock._model.payloads import (
    INLINE_LIMIT,
    any_type,
    decode_result,
    encode_result,
)
from penstock._model.serializers import name_of, serializer_named
from penstock._stores.large_results import FolderOfResults
from penstock.exceptions import ConfigurationError, ResultUnavailable
from penstock.serializers import (
    CompressedSerializer,
    CompressionLibrary,
    JSONSerializer,
    MsgpackSerializer,
    PickleSerializer,
    Serializer,
)
from tests.strategies import form, nested_values

LIBRARIES: tuple[CompressionLibrary, ...] = get_args(CompressionLibrary)
BUILT_IN: tuple[Serializer, ...] = (PickleSerializer(), JSONSerializer(), MsgpackSerializer())

plain_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
plain_values = st.recursive(
    plain_scalars,
    lambda parts: (
        st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=4), parts, max_size=4)
    ),
    max_leaves=12,
)
"""What JSON has a type for."""


class Shouting:
    """A serializer of the user's own."""

    def dumps(self, value: Any, /) -> bytes:
        return repr(value).upper().encode()

    def loads(self, blob: bytes, /) -> str:
        return blob.decode()


class Lines(JSONSerializer):
    """One that goes on from a built-in one."""

    def dumps(self, value: Any, /) -> bytes:
        return super().dumps(value) + b"\n"


class Outer:
    """Holds one."""

    class Inner(Shouting):
        """Is found by its full name."""


def read(payload: bytes, returned: Any = Any) -> object:
    return decode_result(payload, None, lambda: returned)


def round_trip(value: object, serializer: Serializer, returned: Any = Any) -> object:
    return read(encode_result(value, serializer), returned)


# What comes back


@given(nested_values)
def test_pickle_is_what_there_is_without_a_serializer(value: object) -> None:
    assert encode_result(value, PickleSerializer()) == encode_result(value)


@given(plain_values, st.sampled_from(BUILT_IN))
def test_plain_values_come_back_as_they_went_in(value: object, serializer: Serializer) -> None:
    assert form(round_trip(value, serializer)) == form(value)


@given(st.recursive(plain_scalars | st.binary(max_size=8), st.lists, max_leaves=8))
def test_msgpack_keeps_bytes_apart_from_texts(value: object) -> None:
    assert form(round_trip(value, MsgpackSerializer())) == form(value)


@given(nested_values, st.sampled_from(LIBRARIES))
def test_a_compressed_pickle_keeps_the_types_of_all_values(
    value: object, library: CompressionLibrary
) -> None:
    assert form(round_trip(value, CompressedSerializer("pickle", library))) == form(value)


@given(plain_values, st.sampled_from(BUILT_IN), st.sampled_from(LIBRARIES))
def test_compression_changes_nothing_that_comes_back(
    value: object, serializer: Serializer, library: CompressionLibrary
) -> None:
    compressed = CompressedSerializer(CompressedSerializer(serializer, library))
    assert compressed.loads(compressed.dumps(value)) == serializer.loads(serializer.dumps(value))
    assert round_trip(value, compressed) == round_trip(value, serializer)


def test_compression_compresses() -> None:
    text = "again and again " * 10_000
    for library in LIBRARIES:
        assert len(CompressedSerializer("json", library).dumps(text)) < len(text) / 50


# With the type that the function is annotated to return


@dataclasses.dataclass
class Place:
    name: str
    at: tuple[float, float]
    tags: set[str]
    seen: dt.datetime | None = None


class Tree(msgspec.Struct):
    value: int
    branches: tuple[Tree, ...] = ()


moments = st.datetimes(timezones=st.sampled_from([None, dt.UTC])).map(lambda t: t.replace(fold=0))
finite = st.floats(allow_nan=False, allow_infinity=False)
TYPED: Mapping[Any, st.SearchStrategy[Any]] = {
    tuple[int, str]: st.tuples(st.integers(-(2**63), 2**63), st.text()),
    list[tuple[int, ...]]: st.lists(st.lists(st.integers(-9, 9)).map(tuple)),
    dict[int, str]: st.dictionaries(st.integers(-9, 9), st.text()),
    set[int]: st.sets(st.integers(-9, 9)),
    frozenset[str]: st.frozensets(st.text()),
    bytes: st.binary(),
    dt.datetime: moments,
    dt.date: st.dates(),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    uuid.UUID: st.uuids(),
    int | None: st.none() | st.integers(-9, 9),
    Place: st.builds(
        Place, st.text(), st.tuples(finite, finite), st.sets(st.text()), st.none() | moments
    ),
    Tree: st.builds(Tree, st.integers(-9, 9), st.just((Tree(1, (Tree(2),)),))),
}


@given(
    st.sampled_from(list(TYPED)).flatmap(lambda kind: st.tuples(st.just(kind), TYPED[kind])),
    st.sampled_from(["json", "msgpack", "compressed/json", "bz2/msgpack"]),
)
def test_values_of_an_annotated_type_come_back_with_it(
    typed: tuple[Any, object], name: str
) -> None:
    returned, value = typed
    assert form(round_trip(value, serializer_named(name), returned)) == form(value)


def test_without_the_annotation_json_knows_fewer_types() -> None:
    place = Place("here", (1.0, 2.0), {"x"})
    plain = {"name": "here", "at": [1.0, 2.0], "tags": ["x"], "seen": None}
    assert round_trip(place, JSONSerializer()) == plain
    assert round_trip(place, JSONSerializer(), object) == plain
    assert round_trip(place, JSONSerializer(), Place | int) == place
    assert round_trip((1, float("nan")), JSONSerializer()) == [1, None]


def test_a_type_that_msgspec_cannot_make_leaves_what_json_knows() -> None:
    @dataclasses.dataclass
    class Other:
        name: str

    assert round_trip(Other("x"), JSONSerializer(), Place | Other) == {"name": "x"}


def test_a_value_that_does_not_fit_the_annotation_cannot_be_read() -> None:
    with pytest.raises(ResultUnavailable, match=r"by the serializer 'json'.*Expected `int`"):
        round_trip("text", JSONSerializer(), int)


# Names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("json", "json"),
        ("compressed/pickle", "zlib/pickle"),
        ("lzma/msgpack", "lzma/msgpack"),
        (CompressedSerializer("json", "bz2"), "bz2/json"),
        (CompressedSerializer(CompressedSerializer(Shouting()), "gzip"),
         "gzip/zlib/tests.unit.test_serializers:Shouting"),
        (Lines(), "tests.unit.test_serializers:Lines"),
        (Outer.Inner(), "tests.unit.test_serializers:Outer.Inner"),
    ],
)  # fmt: skip
def test_a_payload_says_by_its_name_how_to_read_it(given: Serializer | str, name: str) -> None:
    serializer = Task[..., Any](len, result_serializer=given).result_serializer
    assert serializer is not None
    assert name_of(serializer) == name
    assert name.encode() in encode_result([1], serializer)
    found = serializer_named(name)
    assert (type(found), name_of(found)) == (type(serializer), name)


def test_a_serializer_of_the_users_own_reads_what_it_has_written() -> None:
    assert round_trip(["a"], Shouting()) == "['A']"
    assert round_trip(["a"], CompressedSerializer(Shouting()), list[int]) == "['A']"
    assert round_trip(["a"], Lines(), tuple[str]) == ["a"]


def test_a_large_result_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    value = ("x" * INLINE_LIMIT,)
    stored = FolderOfResults(tmp_path).store(encode_result(value, JSONSerializer()), b"\x01" * 16)
    assert len(stored) < 200
    assert decode_result(stored, FolderOfResults(tmp_path).load) == list(value)
    assert decode_result(stored, FolderOfResults(tmp_path).load, lambda: tuple[str]) == value


# What goes wrong


class NoBytes(Shouting):
    def dumps(self, value: Any, /) -> Any:
        return repr(value)


class TakesArguments(Shouting):
    def __init__(self, key: bytes) -> None:
        self.key = key


def test_what_a_serializer_cannot_serialize_raises() -> None:
    with pytest.raises(TypeError, match="unsupported"):
        encode_result({1: object()}, JSONSerializer())
    with pytest.raises(OverflowError):
        encode_result(2**70, MsgpackSerializer())
    with pytest.raises(TypeError, match=r"dumps\(\) gave str, not bytes"):
        encode_result(1, NoBytes())
    with pytest.raises(TypeError, match=r"dumps\(\) gave str, not bytes"):
        encode_result(1, CompressedSerializer(NoBytes()))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"s\x04jsonnonsense", "by the serializer 'json'"),
        (b"s\x09zlib/jsonnonsense", "by the serializer 'zlib/json'"),
        (b"s\x04yaml1", "the serializer 'yaml', which cannot be had here"),
        (b"s\x09zstd/json1", "the serializer 'zstd/json', which cannot be had here"),
        (b"s\x0dno_such_mod:X1", "the serializer 'no_such_mod:X', which.*ModuleNotFoundError"),
        (b"s\x06json:X1", "the serializer 'json:X', which.*AttributeError"),
        (b"s\x08json:len1", "the serializer 'json:len'"),
        (b"s", "cannot be read back"),
        (b"s\xff", "cannot be had here"),
    ],
)
def test_what_cannot_be_read_names_the_serializer(payload: bytes, why: str) -> None:
    with pytest.raises(ResultUnavailable, match=why):
        decode_result(payload, None, any_type)


@pytest.mark.parametrize("kind", [Task, Flow])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("yaml", r"result_serializer must be one of 'pickle', 'json', 'msgpack', .*, not 'yaml'"),
        ("", r"result_serializer must be one of .*, not ''"),
        ("zstd/json", r"not 'zstd/json'\. .* compressionlib must be one of 'zlib', 'gzip'"),
        ("compressed/yaml", r"There is no serializer 'yaml'"),
        (
            5,
            r"must be the name of a serializer, such as 'json', or an object with the meth",
        ),
        (Shouting, r"with the methods dumps\(\) and loads\(\), not <class"),
        (TakesArguments(b"key"), r"TakesArguments' and to call it without arguments"),
        (msgspec.json, r"find 'builtins:module'|must be the name"),
    ],
)
def test_what_is_no_serializer_is_refused_by_the_decorator(kind: Any, given: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        kind(len, result_serializer=given)
    assert str(raised.value).startswith(f"{kind.__name__.lower()} 'len': result_serializer")


def test_a_class_that_others_cannot_find_is_refused() -> None:
    class Local(Shouting):
        """Is in no module."""

    with pytest.raises(ConfigurationError, match="Define the class at the top level of a module"):
        Task[..., Any](len, result_serializer=Local())
    with pytest.raises(
        ConfigurationError, match="CompressedSerializer: serializer: a process that reads"
    ):
        CompressedSerializer(Local())


def test_a_class_whose_name_leads_to_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("odd_module")
    exec("class Odd:\n def dumps(self, v): ...\n def loads(self, b): ...", vars(module))
    monkeypatch.setitem(sys.modules, "odd_module", module)
    first: Any = module.Odd()
    module.__dict__["Odd"] = Shouting
    with pytest.raises(ConfigurationError, match="'odd_module:Odd' leads to something else"):
        Task[..., Any](len, result_serializer=first)
