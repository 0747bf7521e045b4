"""Who gets free slots: in order, all or nothing, never more than there are, and none lies idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from penstock._stores.port import Claim, Limit
from penstock._stores.shares import (
    Decaying,
    Ledger,
    Place,
    Shares,
    decaying_left,
    kind_of,
    share_out,
    taken_of,
)

ME, OTHER = b"me", b"other"
NOW = 1000.0


def ledger(
    slots: Mapping[str, int],
    taken: Mapping[str, int] | None = None,
    places: Sequence[Place] = (),
    decaying: Mapping[str, Decaying] | None = None,
) -> Ledger:
    limits = {name: Limit(name, count, 2.0) for name, count in slots.items()}
    held = {(name, OTHER): count for name, count in (taken or {}).items()}
    return Ledger(limits, decaying or {}, held, places)


def line(*numbers: int, names: str = "a", slots: int = 1, decays: bool = False) -> list[Claim]:
    return [Claim(number, tuple(names), slots, decays) for number in numbers]


def shares(book: Ledger, *lines: list[Claim], passed_over: Sequence[int] = ()) -> Shares:
    return share_out(book, ME, lines, passed_over, NOW)


def numbers(given: Shares) -> list[int]:
    return [claim.number for claim in given.granted]


def test_free_slots_go_to_those_who_asked_first() -> None:
    given = shares(ledger({"a": 3}, {"a": 1}), line(1, 4, 5, names="a"), line(2, names="ab"))
    assert numbers(given) == [1, 2]
    assert [claim.number for claim in given.queued] == [4]


def test_all_limits_of_a_claim_or_none() -> None:
    given = shares(ledger({"a": 2, "b": 1}, {"b": 1}), line(1, names="ab"), line(2))
    assert numbers(given) == [2], "what waits for b alone keeps nobody from a"


def test_a_claim_for_many_slots_is_not_overtaken_by_smaller_ones() -> None:
    book = ledger({"a": 3}, {"a": 1}, [Place(7, ME, line(1, slots=3)[0])])
    given = shares(book, [*line(1, slots=3), *line(2)])
    assert given.changes_nothing


def test_a_claim_that_no_number_of_free_slots_would_do_for_keeps_nobody_waiting() -> None:
    """There were more slots once, or there are none for now."""
    book = ledger({"a": 2, "b": 0, "c": 1}, {"c": 1})
    given = shares(book, [*line(1, slots=3), *line(2)], line(3, names="bc"), line(4, names="c"))
    assert numbers(given) == [2]
    assert numbers(shares(ledger({"a": 0}), line(1))) == []


def test_a_limit_that_was_deleted_limits_nobody() -> None:
    assert numbers(shares(ledger({}), line(1, 2))) == [1, 2]


def test_places_before_that_of_a_line_come_first() -> None:
    """They are given nothing here, but what is theirs is left."""
    places = [Place(5, OTHER, line(0)[0]), Place(6, ME, line(1)[0])]
    given = shares(ledger({"a": 2}, places=places), line(1, 2))
    assert numbers(given) == [1]
    assert given.in_turn == {5}
    assert given.served == [6]
    assert [claim.number for claim in given.queued] == [2], "the line stands behind all others now"


def test_places_behind_that_of_a_line_come_before_the_rest_of_it() -> None:
    places = [Place(5, ME, line(1)[0]), Place(6, OTHER, line(0)[0])]
    assert numbers(shares(ledger({"a": 1}, places=places), line(1, 2))) == [1]
    assert numbers(shares(ledger({"a": 2}, places=places), line(1, 2))) == [1]
    assert numbers(shares(ledger({"a": 3}, places=places), line(1, 2))) == [1, 2]


def test_who_has_missed_the_turn_is_passed_over() -> None:
    places = [Place(5, OTHER, line(0)[0]), Place(6, ME, line(1)[0])]
    book = ledger({"a": 1}, places=places)
    assert numbers(shares(book, line(1))) == []
    assert numbers(shares(book, line(1), passed_over=[5])) == [1]


def test_a_place_goes_with_its_line_and_stays_for_the_next_of_it() -> None:
    place = Place(5, ME, line(1, slots=2)[0])
    book = ledger({"a": 2}, {"a": 2}, [place])
    assert shares(book).served == [5]
    assert shares(book, line(2, slots=2)).changes_nothing
    assert [(p.ticket, p.claim.slots) for p in shares(book, line(2)).moved] == [(5, 1)]


def test_slots_that_decay_are_taken_until_they_have() -> None:
    book = ledger({"a": 4}, {"a": 1}, decaying={"a": Decaying(5.0, NOW - 1)})
    assert decaying_left(book, NOW) == {"a": 3.0}
    given = shares(book, line(1, decays=True), line(2))
    assert numbers(given) == []
    assert given.decays_in == 0.5
    later = share_out(book, ME, [line(1, decays=True)], (), NOW + 0.5)
    assert [claim.number for claim in later.granted] == [1]


def test_it_is_not_known_when_others_give_back_what_does_not_decay() -> None:
    book = ledger({"a": 4}, {"a": 4}, decaying={"a": Decaying(0.5, NOW)})
    assert shares(book, line(1)).decays_in is None


# Whatever is asked for

names = st.sets(st.sampled_from("abc"), min_size=1).map(lambda given: tuple(sorted(given)))
claims = st.tuples(names, st.integers(1, 3), st.booleans())
counts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 4))


@st.composite
def markets(draw: st.DrawFn) -> tuple[Ledger, list[list[Claim]]]:
    lines: dict[object, list[Claim]] = {}
    for number, (of, slots, decays) in enumerate(draw(st.lists(claims, max_size=8))):
        claim = Claim(number, of, slots, decays)
        lines.setdefault(kind_of(claim), []).append(claim)
    places: list[Place] = []
    for ticket, (of, slots, decays) in enumerate(draw(st.lists(claims, max_size=4))):
        places.append(Place(2 * ticket, OTHER, Claim(0, of, slots, decays)))
    for index, own in enumerate(lines.values()):
        if draw(st.booleans()):
            places.append(Place(2 * index + 1, ME, own[0]))
    places.sort()
    return ledger(draw(counts), draw(counts), places), list(lines.values())


def could_ever_be(claim: Claim, book: Ledger) -> bool:
    """Whether so many slots of each of its limits exist."""
    limits = [book.limits[name] for name in claim.names if name in book.limits]
    return all(limit.slots >= claim.slots for limit in limits)


@given(markets())
def test_whatever_is_asked_for_no_limit_is_exceeded_and_nothing_lies_idle(
    market: tuple[Ledger, list[list[Claim]]],
) -> None:
    book, lines = market
    given = shares(book, *lines)
    taken = taken_of(book)
    before = {name: limit.slots - taken[name] for name, limit in book.limits.items()}
    free = dict(before)
    reserved = [place.claim for place in book.places if place.ticket in given.in_turn]
    for claim in [*given.granted, *reserved]:
        for name in claim.names:
            if name in free:
                free[name] -= claim.slots
    for name, left in free.items():
        assert left >= 0 or left == before[name], "no more than there are"
    for own in lines:
        possible = [c for c in own if c not in given.granted and could_ever_be(c, book)]
        granted_here = [claim.number for claim in own if claim in given.granted]
        if possible:
            assert all(number < possible[0].number for number in granted_here), "in order"
    waiting = [claim for own in lines for claim in own if claim not in given.granted]
    foreign = [p.claim for p in book.places if p.holder == OTHER and p.claim not in reserved]
    for claim in waiting:
        fits = all(free.get(name, 9) >= claim.slots for name in claim.names)
        others = [c for c in [*waiting, *foreign] if c is not claim]
        shared = [c for c in others if set(c.names) & set(claim.names)]
        assert not fits or shared, "only for somebody else is anything left free"


@given(markets())
def test_each_line_that_waits_has_one_place(market: tuple[Ledger, list[list[Claim]]]) -> None:
    book, lines = market
    given = shares(book, *lines)
    kept = [p for p in book.places if p.holder == ME and p.ticket not in given.served]
    moved = {place.ticket: place for place in given.moved}
    standing = [moved.get(place.ticket, place).claim for place in kept] + list(given.queued)
    waiting = [[c for c in own if c not in given.granted] for own in lines]
    heads = [own[0] for own in waiting if own]
    assert sorted((kind_of(c), c.slots) for c in standing) == sorted(
        (kind_of(c), c.slots) for c in heads
    )
