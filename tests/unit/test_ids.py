"""Run ids: they sort by time, and no two are the same, across threads and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._model import ids
from penstock._model.ids import id_bound, id_time, new_id, to_uuid
from penstock._model.names import name_of_flow_run

MILLISECOND = 1_000_000
moments = st.datetimes(
    datetime(1980, 1, 1),  # noqa: DTZ001  # the strategy adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001  # as above
    timezones=st.just(UTC),
)


class Time:
    """A clock of the ids that shows what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.milliseconds = 1_700_000_000_000
        monkeypatch.setattr("penstock._model.ids.time.time_ns", self._nanoseconds)

    def _nanoseconds(self) -> int:
        return self.milliseconds * MILLISECOND + 999_999


@pytest.fixture
def time_of_ids(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(100):
        shown = to_uuid(new_id())
        assert (shown.version, shown.variant) == (7, uuid.RFC_4122)
        assert len(shown.bytes) == 16


def test_ids_of_later_milliseconds_sort_later(time_of_ids: Time) -> None:
    made: list[bytes] = []
    for _ in range(1000):
        made.append(new_id())
        time_of_ids.milliseconds += 1
    assert made == sorted(made)


def test_ids_of_one_millisecond_sort_by_the_order_in_which_they_were_made(
    time_of_ids: Time,
) -> None:
    made = [new_id() for _ in range(1000)]
    assert {run_id[:6] for run_id in made} == {time_of_ids.milliseconds.to_bytes(6, "big")}
    assert made == sorted(set(made))


def test_ids_stay_different_when_the_clock_goes_back(time_of_ids: Time) -> None:
    made: set[bytes] = set()
    for _ in range(1000):
        made.add(new_id())
        time_of_ids.milliseconds -= 1
    time_of_ids.milliseconds += 1000
    made |= {new_id() for _ in range(1000)}
    assert len(made) == 2000


def test_an_id_says_when_it_was_made(time_of_ids: Time) -> None:
    moment = datetime.fromtimestamp(time_of_ids.milliseconds / 1000, UTC)
    assert id_time(new_id()) == moment
    before = datetime.now(UTC)
    time_of_ids.milliseconds = int(before.timestamp() * 1000)
    assert abs(id_time(new_id()) - before) < timedelta(milliseconds=1.001)


@given(st.integers(946_684_800_000, 2**42))
def test_the_bound_of_the_time_of_an_id_is_the_first_id_of_its_millisecond(
    milliseconds: int,
) -> None:
    """Filters by time would miss a run, or find one too many, at any error of rounding."""
    run_id = milliseconds.to_bytes(6, "big") + b"\x7f" * 10
    assert id_bound(id_time(run_id)) == milliseconds.to_bytes(6, "big") + bytes(10)


@given(moments, moments)
def test_bounds_sort_as_their_moments(one: datetime, other: datetime) -> None:
    early, late = sorted([one, other])
    assert id_bound(early) <= id_bound(late)
    assert id_time(id_bound(early)) <= early
    assert early - id_time(id_bound(early)) < timedelta(milliseconds=1)


def test_a_bound_is_the_same_in_every_time_zone() -> None:
    from datetime import timezone

    moment = datetime(2024, 2, 29, 12, 0, 0, 123_000, UTC)
    assert id_bound(moment) == id_bound(moment.astimezone(timezone(timedelta(hours=5.5))))


def test_ids_made_by_several_threads_at_once_are_all_different(time_of_ids: Time) -> None:
    """In one and the same millisecond, with the threads taking turns as often as they can."""
    made: list[list[bytes]] = [[] for _ in range(4)]
    ready = threading.Barrier(4)

    def work(mine: list[bytes]) -> None:
        ready.wait()
        mine.extend(new_id() for _ in range(5000))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len({run_id for mine in made for run_id in mine}) == 20_000


FORK = """
import os, sys, time
time.time_ns = lambda: 1_700_000_000_000_000_000
from penstock._model.ids import new_id
first = new_id()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, b"".join(new_id() for _ in range(1000)))
    os._exit(0)
os.close(writer)
mine = {new_id() for _ in range(1000)} | {first}
with os.fdopen(reader, "rb") as pipe:
    data = pipe.read()
os.wait()
theirs = {data[i : i + 16] for i in range(0, len(data), 16)}
print(len(mine), len(theirs), len(mine | theirs))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_ids_of_a_forked_child_are_not_those_of_its_parent() -> None:
    """Both go on from one sequence in the same millisecond, unless the child starts anew."""
    ran = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1001", "1000", "2001"]


def test_two_processes_do_not_make_the_same_ids() -> None:
    script = (
        "import time; time.time_ns = lambda: 1_700_000_000_000_000_000\n"
        "from penstock._model.ids import new_id\n"
        "print(new_id().hex())"
    )
    made = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(made) == 2


def test_the_sequence_of_a_process_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started at the greatest random number, it counts on for years within the layout."""

    def greatest(size: int) -> bytes:
        return b"\xff" * size

    monkeypatch.setattr("penstock._model.ids.os.urandom", greatest)
    sequence = ids._Sequence()
    first, second = sequence.next_tail(), sequence.next_tail()
    assert second == first + 1
    assert (second + 2**60) >> 62 == first >> 62
    assert uuid.UUID(bytes=second.to_bytes(16, "big")).version == 7
    assert second >> 64 & 0xFFF == 0xFFF, "the upper 12 bits are random as well"


# Names


def test_a_flow_run_has_one_name_and_its_neighbours_have_others() -> None:
    made = [new_id() for _ in range(100)]
    names = [name_of_flow_run(run_id) for run_id in made]
    assert names == [name_of_flow_run(run_id) for run_id in made]
    assert len(set(names)) > 90
    assert all(name.count("-") == 1 and name == name.lower() for name in names)
