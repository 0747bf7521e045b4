"""Records: what is written of a run can be read again, whatever the user put into it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._model.codecs import (
    decode_history,
    decode_parameters,
    encode_history,
    encode_parameters,
)
from penstock._model.ids import to_uuid
from penstock._model.records import states_of
from penstock._model.rows import CacheRow, FlowRow, TaskRow
from penstock._rules.effects import Error, Value
from penstock.states import TYPES, StateDetails, StateType, Transition
from tests.rules.play import (
    FLOW,
    START,
    WORK,
    Stage,
    flow_run,
    future,
    names,
    task_run,
    then,
    transition_named,
)
from tests.strategies import Label, Mark, any_text, hashables, nested_values

moments = st.datetimes(
    datetime(1980, 1, 1),  # noqa: DTZ001  # the strategy adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001  # as above
    timezones=st.just(UTC),
)
details = st.builds(
    StateDetails,
    scheduled_time=st.none() | moments,
    cache_key=st.none() | any_text,
    cache_expiration=st.none() | moments,
    cached_from=st.none() | st.uuids(),
    not_persisted=st.none() | any_text,
    traceback=st.none() | any_text,
)


def transition(
    name: str, message: str | None, moment: datetime, details: StateDetails
) -> Transition:
    return Transition(TYPES[name], name, message, moment.timestamp(), details)


transitions = st.builds(
    transition, st.sampled_from(sorted(TYPES)), st.none() | any_text, moments, details
)


def readable(text: str | None) -> str | None:
    """The text as it can be written: a lone surrogate by its escape."""
    return text if text is None else text.encode("utf-8", "backslashreplace").decode()


# Histories


@given(st.lists(transitions, min_size=1, max_size=4))
def test_a_history_can_be_read_as_it_was_written(history: list[Transition]) -> None:
    """Any exception may be in a message: texts with lone surrogates are written with escapes."""
    read = decode_history(encode_history(history))
    assert [(t.type, t.name, t.timestamp) for t in read] == [
        (state.type, state.name, state.timestamp) for state in history
    ]
    assert [t.message for t in read] == [readable(state.message) for state in history]
    for transition, state in zip(read, history, strict=True):
        for field in StateDetails.__struct_fields__:
            written = getattr(state.details, field)
            expected = readable(written) if isinstance(written, str) else written
            assert getattr(transition.details, field) == expected


def test_a_run_that_raised_an_odd_file_name_can_be_written() -> None:
    """`os.listdir` gives such names, and exceptions show them."""
    stage = Stage()
    run = task_run(WORK)
    stage.play(run, invoke=[Error(ValueError("no such file: \udce4.txt"))])
    row = run.row(len(run.history), None)
    assert "\\udce4.txt" in str(decode_history(row.history)[-1].details.traceback)


class Stored:
    """A result that is read when somebody asks for it."""

    def load(self) -> object:
        return 42


def test_only_the_last_state_of_a_history_gives_the_stored_result() -> None:
    made = [transition_named(name) for name in ("Pending", "Running", "Completed")]
    run_id, flow_run_id = b"1" * 16, b"2" * 16
    read = states_of(encode_history(made), Stored(), run_id, flow_run_id)
    assert [state.name for state in read] == ["Pending", "Running", "Completed"]
    assert read[-1].result() == 42
    assert [state._load is None for state in read] == [True, True, False]
    assert {(state.task_run_id, state.flow_run_id) for state in read} == {
        (UUID(bytes=run_id), UUID(bytes=flow_run_id))
    }


# Rows


def test_the_row_of_a_task_run_tells_all_of_it() -> None:
    stage = Stage()
    parent = flow_run(FLOW)
    upstream = future("Completed", stage, parent)
    run = task_run(WORK, upstream, parent=parent)
    stage.play(run, invoke=[Value(1)])
    row = run.row(len(run.history), run.payload)
    assert row == TaskRow(
        id=run.run_id,
        task_id=WORK.definition.id,
        flow_run_id=parent.run_id,
        parent_id=parent.run_id,
        number=run.number,
        ordinal=1,
        state_type="COMPLETED",
        state_name="Completed",
        run_count=1,
        upstreams=upstream._run.run_id,
        history=row.history,
        result=run.payload,
    )
    assert [t.name for t in decode_history(row.history)] == names(run)


def test_the_row_of_a_flow_run_tells_all_of_it() -> None:
    stage = Stage()
    run = flow_run(FLOW, 5, parent=task_run(WORK))
    stage.play(run, invoke=[Value(1)])
    row = run.row(len(run.history), run.payload)
    assert row == FlowRow(
        id=run.run_id,
        flow_id=FLOW.definition.id,
        parent_id=run.parent.run_id if run.parent else None,
        name=run.name,
        state_type="COMPLETED",
        state_name="Completed",
        run_count=1,
        parameters=encode_parameters({"args": (5,)}),
        history=row.history,
        result=run.payload,
    )


def test_a_row_is_of_the_run_as_it_was_after_so_many_states() -> None:
    """A run goes on while the writer is at work; the rest comes with the next row."""
    run = task_run(WORK)
    Stage().play(run)
    assert names(run) == ["Pending", "Running", "Completed"]
    rows = [run.row(length, None) for length in (1, 2, 3)]
    assert [(row.state_name, row.run_count) for row in rows] == [
        ("Pending", 0),
        ("Running", 1),
        ("Completed", 1),
    ]
    assert [len(decode_history(row.history)) for row in rows] == [1, 2, 3]
    assert [run.is_final(length) for length in (1, 2, 3)] == [False, False, True]


def test_a_run_that_was_never_ready_is_final() -> None:
    run = Stage().ended("NotReady")
    assert [run.is_final(length) for length in (1, 2)] == [False, True]


def test_the_cache_row_is_of_the_run_that_made_the_result() -> None:
    stage = Stage()
    made, found = stage.ended("Cached"), stage.cache["the key"][0]
    assert made.cache_row is None
    assert isinstance(found, CacheRow)
    assert made.state.details.cached_from == to_uuid(found.run_id)


# Parameters


@given(st.dictionaries(st.text(min_size=1, max_size=5), nested_values, max_size=3))
def test_parameters_of_any_kind_can_be_written_and_read(parameters: dict[str, object]) -> None:
    """They are for people to read: nothing that a caller passes may stop a run or its history."""
    read = decode_parameters(encode_parameters(parameters))
    assert list(read) == list(parameters)


@given(st.dictionaries(hashables, st.none(), max_size=3))
def test_keys_of_any_kind_can_be_written_and_read(value: dict[object, None]) -> None:
    assert list(decode_parameters(encode_parameters({"a": value}))) == ["a"]


@pytest.mark.parametrize(
    "value",
    [None, True, 5, 1.5, "text", b"bytes", [1, [2]], {"a": {"b": 1}}, 2**64 - 1, -(2**63)],
    ids=repr,
)
def test_what_msgpack_can_say_reads_as_it_was(value: object) -> None:
    assert decode_parameters(encode_parameters({"a": value})) == {"a": value}


class Odd:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Plain:
    """An object that only its repr tells of."""

    def __repr__(self) -> str:
        return "<plain>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Plain(), "<plain>"),
        ([1, Plain()], [1, "<plain>"]),
        (2**70, repr(2**70)),
        ("\udc80", repr("\udc80")),
        ({Label(1): 2}, repr({Label(1): 2})),
        ({Mark(1): 2}, repr({Mark(1): 2})),
        (Odd(), "<Odd: its repr raised RuntimeError>"),
        (print, repr(print)),
    ],
    ids=["object", "in a list", "big", "surrogate", "struct key", "dataclass key", "odd", "code"],
)
def test_anything_else_reads_as_its_repr(value: object, shown: object) -> None:
    assert decode_parameters(encode_parameters({"a": value})) == {"a": shown}


def test_a_large_parameter_is_shortened_and_says_so() -> None:
    read = decode_parameters(encode_parameters({"big": list(range(100_000)), "small": 1}))
    assert read["small"] == 1
    assert len(str(read["big"])) < 1100
    assert "characters)" in str(read["big"])


def test_a_parameter_that_holds_itself_can_be_written() -> None:
    value: list[object] = []
    value.append(value)
    assert decode_parameters(encode_parameters({"a": value})) == {"a": "[[...]]"}


def test_no_parameters_read_as_none() -> None:
    assert decode_parameters(None) == {}
    assert decode_parameters(encode_parameters({})) == {}


def test_parameters_are_written_as_they_were_when_the_run_was_made() -> None:
    """The flow may change its list; the history says what it was called with."""
    given_list = [1, 2]
    run = flow_run(FLOW, given_list)
    Stage().play(run, invoke=[then(given_list.clear, Value(1))])
    row = run.row(len(run.history), None)
    assert decode_parameters(row.parameters) == {"args": [[1, 2]]}


def test_a_history_of_the_first_format_can_be_read() -> None:
    """It wrote the times as timestamps of msgpack."""
    written = msgspec.msgpack.encode([(StateType.PENDING, "Pending", None, START, StateDetails())])
    assert decode_history(written) == [transition_named("Pending")]


def test_times_keep_their_microseconds() -> None:
    moment = START.timestamp() + 0.000_001
    (read,) = decode_history(
        encode_history([Transition(StateType.PENDING, "Pending", None, moment)])
    )
    assert read.timestamp == moment
