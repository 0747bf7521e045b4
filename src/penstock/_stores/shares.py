"""Who gets the slots that are free: the one decision behind all limits, as a plain function.

The law: claims have their turn by their tickets, and nobody gets a slot that a claim before it
waits for. A claim for several limits takes all of them or none, so no two claims can wait for each
other. One that waits for another limit lets those behind it pass, as what it could not use is used
by nobody else either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import merge
from typing import Final, NamedTuple, TypeAlias

from penstock._stores.port import Claim, Limit

_ROUNDING: Final = 1e-9

Kind: TypeAlias = tuple[tuple[str, ...], bool]
"""What the claims of a line have in common."""


class Place(NamedTuple):
    """Where the line of a process stands among those of all.

    Attributes:
        ticket: a lesser one came first.
        holder: the process.
        claim: the first of the line; its number means nothing in other processes.
    """

    ticket: int
    holder: bytes
    claim: Claim


class Decaying(NamedTuple):
    """Slots that become free by themselves.

    Attributes:
        slots: how many were left of them.
        since: when that was, in seconds since 1970.
    """

    slots: float
    since: float

    def left(self, per_second: float, now: float) -> float:
        """How many are left now."""
        return max(0.0, self.slots - per_second * max(0.0, now - self.since))


class Ledger(NamedTuple):
    """All that is known of the slots.

    Attributes:
        limits: by name.
        decaying: of those of them that rate limiting has used.
        taken: slots by name and process.
        places: by their tickets.
    """

    limits: Mapping[str, Limit]
    decaying: Mapping[str, Decaying]
    taken: Mapping[tuple[str, bytes], int]
    places: Sequence[Place]


class Shares(NamedTuple):
    """What one process is to have of the free slots.

    Attributes:
        granted: its claims that get theirs.
        in_turn: see `Traded`.
        decays_in: see `Traded`.
        served: the tickets of its places that are used up.
        moved: its places that stay, where their lines begin with another claim now.
        queued: the first claims of its lines that have no place yet.
    """

    granted: Sequence[Claim]
    in_turn: frozenset[int]
    decays_in: float | None
    served: Sequence[int]
    moved: Sequence[Place]
    queued: Sequence[Claim]

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to write down."""
        return not (self.granted or self.served or self.moved or self.queued)


class FreeSlots:
    """What is free of each limit, while claims take it one after another."""

    def __init__(self, ledger: Ledger, now: float) -> None:
        self._limits = ledger.limits
        self._decaying = decaying_left(ledger, now)
        taken = taken_of(ledger)
        self._free = {
            name: limit.slots - taken[name] - self._decaying.get(name, 0.0)
            for name, limit in ledger.limits.items()
        }
        self._awaited: set[str] = set()
        self.decays_in: float | None = None

    def take(self, claim: Claim) -> bool:
        """Let a claim have its slots; False: it has to wait."""
        names = [name for name in claim.names if name in self._free]
        lacking = [name for name in names if self._lacks(name, claim)]
        if not lacking and self._awaited.isdisjoint(names):
            for name in names:
                self._free[name] -= claim.slots
            return True
        if all(self._limits[name].slots >= claim.slots for name in lacking):
            self._awaited.update(lacking)  # the others are not for it to wait for
        return False

    def _lacks(self, name: str, claim: Claim) -> bool:
        return self._free[name] < claim.slots - _ROUNDING

    def note_decay(self, claim: Claim) -> None:
        """Take account of when a claim that waits will have what it lacks."""
        lacking = [name for name in claim.names if name in self._free and self._lacks(name, claim)]
        seconds = max((self._seconds_until(name, claim) for name in lacking), default=math.inf)
        if seconds < math.inf:
            self.decays_in = min(seconds, self.decays_in or math.inf)

    def _seconds_until(self, name: str, claim: Claim) -> float:
        lacks = claim.slots - self._free[name]
        if lacks > self._decaying.get(name, 0.0) + _ROUNDING:
            return math.inf
        return lacks / self._limits[name].slot_decay_per_second


def taken_of(ledger: Ledger) -> Counter[str]:
    """How many slots of each limit are taken, by any process."""
    taken: Counter[str] = Counter()
    for (name, _holder), slots in ledger.taken.items():
        taken[name] += slots
    return taken


def decaying_left(ledger: Ledger, now: float) -> dict[str, float]:
    """How many slots of each limit have not decayed yet."""
    return {
        name: decaying.left(ledger.limits[name].slot_decay_per_second, now)
        for name, decaying in ledger.decaying.items()
        if name in ledger.limits
    }


def kind_of(claim: Claim) -> Kind:
    """The line that a claim belongs into."""
    return claim.names, claim.decays


def share_out(
    ledger: Ledger,
    holder: bytes,
    lines: Sequence[Sequence[Claim]],
    passed_over: Collection[int],
    now: float,
) -> Shares:
    """What the process `holder` gets for its lines; see `SlotStore.trade`."""
    free = FreeSlots(ledger, now)
    waiting = {kind_of(line[0]): list(line) for line in lines if line}
    own = {kind_of(place.claim): place for place in ledger.places if place.holder == holder}
    granted: list[Claim] = []
    served: list[int] = []
    in_turn: set[int] = set()
    for place in ledger.places:
        line = waiting.get(kind_of(place.claim), [])
        if place.holder != holder:
            if place.ticket not in passed_over and free.take(place.claim):
                in_turn.add(place.ticket)
        elif not line:  # all that stood there have left
            served.append(place.ticket)
        elif free.take(line[0]):
            granted.append(line.pop(0))
            served.append(place.ticket)
            del own[kind_of(place.claim)]
    for claim in list(_behind(waiting, own)):
        if free.take(claim):
            granted.append(claim)
            waiting[kind_of(claim)].remove(claim)
    heads = [line[0] for line in waiting.values() if line]
    for head in heads:
        free.note_decay(head)
    return Shares(
        granted,
        frozenset(in_turn),
        free.decays_in,
        served,
        list(_moved(heads, own)),
        [head for head in heads if kind_of(head) not in own],
    )


def _behind(waiting: Mapping[Kind, list[Claim]], own: Mapping[Kind, Place]) -> Iterator[Claim]:
    """The claims that come after all places, as they came."""
    rests = (line[1:] if kind in own else line for kind, line in waiting.items())
    return merge(*rests)


def _moved(heads: Sequence[Claim], own: Mapping[Kind, Place]) -> Iterator[Place]:
    for head in heads:
        place = own.get(kind_of(head))
        if place is not None and place.claim.slots != head.slots:
            yield place._replace(claim=head)
