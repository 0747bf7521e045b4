"""Results as bytes: what comes back is what went in, to the type of its last part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._model.payloads import (
    INLINE_LIMIT,
    decode_result,
    encode_result,
    reference_to_run,
    referenced_file,
    referenced_run,
)
from penstock._stores.large_results import FolderOfResults
from penstock.exceptions import ResultUnavailable
from tests.strategies import (
    Color,
    Label,
    Mark,
    Pair,
    Point,
    Size,
    form,
    nested_values,
    numbers,
)


def round_trip(value: object) -> object:
    return decode_result(encode_result(value), None)


@given(nested_values)
def test_a_result_comes_back_with_exactly_its_type(value: object) -> None:
    assert form(round_trip(value)) == form(value)


@given(st.integers(-(2**70), 2**70) | st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1]))
def test_integers_of_any_size_come_back(number: int) -> None:
    result = round_trip(number)
    assert type(result) is int
    assert result == number


class MyInt(int):
    """An int of the user's own."""


class MyText(str):
    """A str of the user's own."""

    __slots__ = ()


RESULTS: list[Any] = [
        None, True, False, 0, -1, 2**63, 1.5, float("nan"), float("-inf"), -0.0, 1j, "", "text",
        "\udc80", "\N{GRINNING FACE}", b"", b"\x00\xff", bytearray(b"x"), (), (1,), [], [(1, 2)],
        {}, {1: 2}, {(1, 2): {3}}, {"a": 1}, set(), {1, 2.5}, frozenset({1}), MyInt(5), MyText("x"),
        Color.RED, Point(1, [2]), Pair(1, {2}), Mark(1), Label("x"), Size(1, 2), Path("/a"), ...,
        ValueError("returned"), int, len, Point, range(3),
]  # fmt: skip


@pytest.mark.parametrize("value", RESULTS, ids=repr)
def test_these_come_back_with_their_types(value: Any) -> None:
    result = round_trip(value)
    assert type(result) is type(value)
    assert repr(result) == repr(value)


def test_a_value_that_holds_itself_comes_back_so() -> None:
    value: list[object] = []
    value.append(value)
    result: Any = round_trip(value)
    assert result[0] is result


def test_parts_that_are_one_object_come_back_as_one() -> None:
    part = [1]
    result: Any = round_trip([part, part])
    assert result[0] is result[1]


@pytest.mark.parametrize(
    "value",
    [lambda: None, numbers(), {"deep": [lambda: None]}],
    ids=["function", "generator", "deep"],
)
def test_what_cannot_be_stored_raises(value: object) -> None:
    with pytest.raises(Exception, match=r"pickle|local"):
        encode_result(value)


# What refers to something else


def test_a_payload_that_refers_to_a_run_says_which() -> None:
    payload = reference_to_run(b"0123456789abcdef")
    assert referenced_run(payload) == b"0123456789abcdef"
    assert referenced_file(payload) is None


@given(nested_values)
def test_a_value_refers_to_nothing(value: object) -> None:
    payload = encode_result(value)
    assert (referenced_run(payload), referenced_file(payload)) == (None, None)


LARGE = ("x" * INLINE_LIMIT, [1, (2,)])


def test_a_large_payload_is_a_file_of_its_run(tmp_path: Path) -> None:
    stored = FolderOfResults(tmp_path / "storage").store(encode_result(LARGE), b"\x01" * 16)
    assert len(stored) < 200
    assert decode_result(stored, FolderOfResults(tmp_path / "storage").load) == LARGE
    (file,) = (tmp_path / "storage").iterdir()
    assert file.name.startswith("01" * 16)
    reference = referenced_file(stored)
    assert reference is not None
    assert (reference.name, reference.size) == (file.name, file.stat().st_size)


def test_the_files_of_large_payloads_are_for_their_owner_alone(tmp_path: Path) -> None:
    FolderOfResults(tmp_path / "storage").store(encode_result(LARGE), b"\x01" * 16)
    (file,) = (tmp_path / "storage").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "storage").stat().st_mode & 0o077 == 0


def test_two_attempts_of_a_run_with_different_results_have_two_files(tmp_path: Path) -> None:
    first = FolderOfResults(tmp_path).store(encode_result(LARGE), b"\x01" * 16)
    second = FolderOfResults(tmp_path).store(encode_result((*LARGE, 2)), b"\x01" * 16)
    assert decode_result(first, FolderOfResults(tmp_path).load) == LARGE
    assert decode_result(second, FolderOfResults(tmp_path).load) == (*LARGE, 2)


def damaged(payload: bytes, storage: Path, content: bytes | None) -> Path:
    """The file of the payload, changed, or gone."""
    reference = referenced_file(payload)
    assert reference is not None
    file = storage / reference.name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read"), (b"", "damaged"), (b"pother", "damaged")]
)
def test_a_result_file_that_is_gone_or_damaged_is_named(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    payload = FolderOfResults(tmp_path).store(encode_result(LARGE), b"\x01" * 16)
    file = damaged(payload, tmp_path, content)
    with pytest.raises(ResultUnavailable, match=why) as raised:
        decode_result(payload, FolderOfResults(tmp_path).load)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    "payload", [b"", b"m", b"m\xc1", b"p", b"pnonsense", b"x", b"f", b"f\x00", b"fnonsense"]
)
def test_a_payload_that_makes_no_sense_is_unavailable(payload: bytes, tmp_path: Path) -> None:
    with pytest.raises(ResultUnavailable):
        decode_result(payload, FolderOfResults(tmp_path).load)


def test_a_result_of_a_class_that_is_gone_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encode_result(Point(1, 2))
    monkeypatch.delattr("tests.strategies.Point")
    with pytest.raises(ResultUnavailable, match="Point"):
        decode_result(payload, None)


def test_a_file_within_a_file_is_refused(tmp_path: Path) -> None:
    inner = FolderOfResults(tmp_path).store(encode_result(LARGE), b"\x01" * 16)
    outer = FolderOfResults(tmp_path).store(inner, b"\x02" * 16)
    with pytest.raises(ResultUnavailable, match="within a file"):
        decode_result(outer, FolderOfResults(tmp_path).load)


def test_a_failed_write_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("penstock._stores.large_results.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        FolderOfResults(tmp_path / "storage").store(encode_result(LARGE), b"\x01" * 16)
    assert list((tmp_path / "storage").iterdir()) == []


def test_unset_is_no_result() -> None:
    """The mark of a missing value must never be stored as one."""
    assert round_trip(msgspec.UNSET) is msgspec.UNSET
