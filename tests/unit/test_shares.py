"""Who gets free slots: in order, all or nothing, never more than there are, and none lies idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from penstock._stores.port import Limit, SlotRequest
from penstock._stores.slot_shares import (
    Decaying,
    Ledger,
    QueueEntry,
    Shares,
    decaying_left,
    share_out,
    taken_of,
)

ME, OTHER = b"me", b"other"
NOW = 1000.0


def ledger(
    slots: Mapping[str, int],
    taken: Mapping[str, int] | None = None,
    entries: Sequence[QueueEntry] = (),
    decaying: Mapping[str, Decaying] | None = None,
) -> Ledger:
    limits = {name: Limit(name, count, 2.0) for name, count in slots.items()}
    held = {(name, OTHER): count for name, count in (taken or {}).items()}
    return Ledger(limits, decaying or {}, held, entries)


def queue(
    *numbers: int, names: str = "a", slots: int = 1, decays: bool = False
) -> list[SlotRequest]:
    return [SlotRequest(number, tuple(names), slots, decays) for number in numbers]


def shares(book: Ledger, *queues: list[SlotRequest], passed_over: Sequence[int] = ()) -> Shares:
    return share_out(book, ME, queues, passed_over, NOW)


def numbers(given: Shares) -> list[int]:
    return [request.number for request in given.granted]


def test_free_slots_go_to_those_who_asked_first() -> None:
    given = shares(ledger({"a": 3}, {"a": 1}), queue(1, 4, 5, names="a"), queue(2, names="ab"))
    assert numbers(given) == [1, 2]
    assert [request.number for request in given.unqueued] == [4]


def test_all_limits_of_a_claim_or_none() -> None:
    given = shares(ledger({"a": 2, "b": 1}, {"b": 1}), queue(1, names="ab"), queue(2))
    assert numbers(given) == [2], "what waits for b alone keeps nobody from a"


def test_a_claim_for_many_slots_is_not_overtaken_by_smaller_ones() -> None:
    book = ledger({"a": 3}, {"a": 1}, [QueueEntry(7, ME, queue(1, slots=3)[0])])
    given = shares(book, [*queue(1, slots=3), *queue(2)])
    assert given.changes_nothing


def test_a_claim_that_no_number_of_free_slots_would_do_for_keeps_nobody_waiting() -> None:
    """There were more slots once, or there are none for now."""
    book = ledger({"a": 2, "b": 0, "c": 1}, {"c": 1})
    given = shares(book, [*queue(1, slots=3), *queue(2)], queue(3, names="bc"), queue(4, names="c"))
    assert numbers(given) == [2]
    assert numbers(shares(ledger({"a": 0}), queue(1))) == []


def test_a_limit_that_was_deleted_limits_nobody() -> None:
    assert numbers(shares(ledger({}), queue(1, 2))) == [1, 2]


def test_places_before_that_of_a_line_come_first() -> None:
    """They are given nothing here, but what is theirs is left."""
    entries = [QueueEntry(5, OTHER, queue(0)[0]), QueueEntry(6, ME, queue(1)[0])]
    given = shares(ledger({"a": 2}, entries=entries), queue(1, 2))
    assert numbers(given) == [1]
    assert given.in_turn == {5}
    assert given.used_up == [6]
    assert [request.number for request in given.unqueued] == [2], (
        "the queue stands behind all others now"
    )


def test_places_behind_that_of_a_line_come_before_the_rest_of_it() -> None:
    entries = [QueueEntry(5, ME, queue(1)[0]), QueueEntry(6, OTHER, queue(0)[0])]
    assert numbers(shares(ledger({"a": 1}, entries=entries), queue(1, 2))) == [1]
    assert numbers(shares(ledger({"a": 2}, entries=entries), queue(1, 2))) == [1]
    assert numbers(shares(ledger({"a": 3}, entries=entries), queue(1, 2))) == [1, 2]


def test_who_has_missed_the_turn_is_passed_over() -> None:
    entries = [QueueEntry(5, OTHER, queue(0)[0]), QueueEntry(6, ME, queue(1)[0])]
    book = ledger({"a": 1}, entries=entries)
    assert numbers(shares(book, queue(1))) == []
    assert numbers(shares(book, queue(1), passed_over=[5])) == [1]


def test_a_place_goes_with_its_line_and_stays_for_the_next_of_it() -> None:
    entry = QueueEntry(5, ME, queue(1, slots=2)[0])
    book = ledger({"a": 2}, {"a": 2}, [entry])
    assert shares(book).used_up == [5]
    assert shares(book, queue(2, slots=2)).changes_nothing
    assert [(p.position, p.request.slots) for p in shares(book, queue(2)).moved] == [(5, 1)]


def test_slots_that_decay_are_taken_until_they_have() -> None:
    book = ledger({"a": 4}, {"a": 1}, decaying={"a": Decaying(5.0, NOW - 1)})
    assert decaying_left(book, NOW) == {"a": 3.0}
    given = shares(book, queue(1, decays=True), queue(2))
    assert numbers(given) == []
    assert given.decays_in == 0.5
    later = share_out(book, ME, [queue(1, decays=True)], (), NOW + 0.5)
    assert [request.number for request in later.granted] == [1]


def test_it_is_not_known_when_others_give_back_what_does_not_decay() -> None:
    book = ledger({"a": 4}, {"a": 4}, decaying={"a": Decaying(0.5, NOW)})
    assert shares(book, queue(1)).decays_in is None


# Whatever is asked for

names = st.sets(st.sampled_from("abc"), min_size=1).map(lambda given: tuple(sorted(given)))
requests = st.tuples(names, st.integers(1, 3), st.booleans())
counts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 4))


@st.composite
def markets(draw: st.DrawFn) -> tuple[Ledger, list[list[SlotRequest]]]:
    queues: dict[object, list[SlotRequest]] = {}
    for number, (of, slots, decays) in enumerate(draw(st.lists(requests, max_size=8))):
        request = SlotRequest(number, of, slots, decays)
        queues.setdefault(request.kind, []).append(request)
    entries: list[QueueEntry] = []
    for position, (of, slots, decays) in enumerate(draw(st.lists(requests, max_size=4))):
        entries.append(QueueEntry(2 * position, OTHER, SlotRequest(0, of, slots, decays)))
    for index, own in enumerate(queues.values()):
        if draw(st.booleans()):
            entries.append(QueueEntry(2 * index + 1, ME, own[0]))
    entries.sort()
    return ledger(draw(counts), draw(counts), entries), list(queues.values())


def could_ever_be(request: SlotRequest, book: Ledger) -> bool:
    """Whether so many slots of each of its limits exist."""
    limits = [book.limits[name] for name in request.names if name in book.limits]
    return all(limit.slots >= request.slots for limit in limits)


@given(markets())
def test_whatever_is_asked_for_no_limit_is_exceeded_and_nothing_lies_idle(
    market: tuple[Ledger, list[list[SlotRequest]]],
) -> None:
    book, queues = market
    given = shares(book, *queues)
    taken = taken_of(book)
    before = {name: limit.slots - taken[name] for name, limit in book.limits.items()}
    free = dict(before)
    reserved = [entry.request for entry in book.entries if entry.position in given.in_turn]
    for request in [*given.granted, *reserved]:
        for name in request.names:
            if name in free:
                free[name] -= request.slots
    for name, left in free.items():
        assert left >= 0 or left == before[name], "no more than there are"
    for own in queues:
        possible = [c for c in own if c not in given.granted and could_ever_be(c, book)]
        granted_here = [request.number for request in own if request in given.granted]
        if possible:
            assert all(number < possible[0].number for number in granted_here), "in order"
    waiting = [request for own in queues for request in own if request not in given.granted]
    foreign = [p.request for p in book.entries if p.process == OTHER and p.request not in reserved]
    for request in waiting:
        fits = all(free.get(name, 9) >= request.slots for name in request.names)
        others = [c for c in [*waiting, *foreign] if c is not request]
        shared = [c for c in others if set(c.names) & set(request.names)]
        assert not fits or shared, "only for somebody else is anything left free"


@given(markets())
def test_each_line_that_waits_has_one_place(market: tuple[Ledger, list[list[SlotRequest]]]) -> None:
    book, queues = market
    given = shares(book, *queues)
    kept = [p for p in book.entries if p.process == ME and p.position not in given.used_up]
    moved = {entry.position: entry for entry in given.moved}
    standing = [moved.get(entry.position, entry).request for entry in kept] + list(given.unqueued)
    waiting = [[c for c in own if c not in given.granted] for own in queues]
    heads = [own[0] for own in waiting if own]
    assert sorted((c.kind, c.slots) for c in standing) == sorted((c.kind, c.slots) for c in heads)
