"""Explanations of cache misses: which parts of a key differ from those of the nearest entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock._caching.explanations import (
    CacheDifference,
    CacheExplanation,
    decode_parts,
    encode_parts,
    number_of_task,
)
from penstock._model.ids import new_id, to_uuid
from penstock._model.rows import CacheRow

names = st.text(max_size=5) | st.sampled_from(["argument a", "code of f", "\udce4"])
parts = st.dictionaries(names, st.binary(min_size=1, max_size=3), max_size=6)


def row(created_at: float, of: dict[str, bytes]) -> CacheRow:
    return CacheRow(f"key{created_at}", new_id(), created_at, None, 1, encode_parts(of))


def explained(of: dict[str, bytes], *rows: CacheRow) -> CacheExplanation:
    return CacheExplanation.miss("f", "key", of, rows)


@given(parts, parts)
def test_what_is_not_said_to_differ_is_equal(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    said = {d.part: d.how for d in explained(one, row(1.0, other)).differences} if one else {}
    shown = {name.encode("utf-8", "backslashreplace").decode(): name for name in {**one, **other}}
    for text, name in shown.items() if one else ():
        if name not in other:
            assert said.get(text) == "is new"
        elif name not in one:
            assert said.get(text) == "is gone"
        else:
            assert said.get(text) == (None if one[name] == other[name] else "differs")


def test_the_entry_with_the_most_equal_parts_is_the_nearest_and_of_several_the_newest() -> None:
    mine = {"a": b"1", "b": b"2", "c": b"3"}
    rows = [
        row(4.0, {"a": b"x", "b": b"x", "c": b"x"}),
        row(3.0, {"a": b"1", "b": b"2", "c": b"y"}),
        row(2.0, {"a": b"1", "b": b"z", "c": b"3"}),
    ]
    found = explained(mine, *rows)
    assert found.run_id == to_uuid(rows[1].run_id)
    assert found.differences == (CacheDifference("c", "differs"),)


def test_it_says_so_where_no_part_differs_and_where_there_is_nothing_to_compare_with() -> None:
    assert "expired" in str(explained({"a": b"1"}, row(1.0, {"a": b"1"})))
    assert str(explained({"a": b"1"})) == "Task 'f': miss; the task has no entries yet"
    assert "made by a function" in str(explained({}))
    assert str(CacheExplanation.uncached("f", "why")) == "Task 'f': uncached; why"


def test_it_reads_as_a_sentence() -> None:
    entry = row(0.0, {"a": b"2", "c": b"1"})
    text = "Task 'f': miss; a differs, b is new, c is gone; "
    text += f"compared with task run {to_uuid(entry.run_id)} of 1970-01-01 00:00:00 UTC"
    assert str(explained({"a": b"1", "b": b"1"}, entry)) == text
    assert repr(explained({"a": b"1", "b": b"1"}, entry)) == f"<CacheExplanation {text}>"


def test_what_is_stored_is_bounded_and_arguments_come_first() -> None:
    many = {f"code of helpers.function{number}": b"1" for number in range(1000)}
    encoded = encode_parts({**many, "argument a": b"1"})
    assert len(encoded) < 2200
    kept = decode_parts(encoded)
    assert next(iter(kept)) == "argument a"
    changed = encode_parts({**many, "argument a": b"1", "code of helpers.function999": b"2"})
    differing = {name for name, part in decode_parts(changed).items() if part != kept[name]}
    assert differing == {"the rest of the code"}


@given(st.text(), st.text())
def test_tasks_have_numbers_of_their_own(one: str, other: str) -> None:
    assert (number_of_task(one) == number_of_task(other)) is (one == other)
    assert 0 <= number_of_task(one) < 2**63
