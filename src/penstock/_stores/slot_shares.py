"""Who gets the slots that are free: the one decision behind all limits, as a plain function.

The law: requests have their turn by their positions in the queue, and nobody gets a slot that a
request before it waits for. A request for several limits takes all of them or none, so no two
requests can wait for each other. One that waits for another limit lets those behind it pass, as
what it could not use is used by nobody else either.

Why: docs/inside/limits.md, "One function says who gets the free slots".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import merge
from typing import Final, NamedTuple

from penstock._stores.port import Limit, RequestKind, SlotRequest

_ROUNDING: Final = 1e-9


class QueueEntry(NamedTuple):
    """Where the queue of a process stands among those of all.

    Attributes:
        position: a lesser one came first.
        process: the process.
        request: the first of the queue; its number means nothing in other processes.
    """

    position: int
    process: bytes
    request: SlotRequest


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
        entries: by their positions.
    """

    limits: Mapping[str, Limit]
    decaying: Mapping[str, Decaying]
    taken: Mapping[tuple[str, bytes], int]
    entries: Sequence[QueueEntry]


class Shares(NamedTuple):
    """What one process is to have of the free slots.

    Attributes:
        granted: its requests that get theirs.
        in_turn: see `Exchanged`.
        decays_in: see `Exchanged`.
        used_up: the positions of its entries that are used up.
        moved: its entries that stay, where their queues begin with another request now.
        unqueued: the first requests of its queues that have no entry yet.
    """

    granted: Sequence[SlotRequest]
    in_turn: frozenset[int]
    decays_in: float | None
    used_up: Sequence[int]
    moved: Sequence[QueueEntry]
    unqueued: Sequence[SlotRequest]

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to write down."""
        return not (self.granted or self.used_up or self.moved or self.unqueued)


class FreeSlots:
    """What is free of each limit, while requests take it one after another."""

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

    def take(self, request: SlotRequest) -> bool:
        """Let a request have its slots; False: it has to wait."""
        names = [name for name in request.names if name in self._free]
        lacking = [name for name in names if self._lacks(name, request)]
        if not lacking and self._awaited.isdisjoint(names):
            for name in names:
                self._free[name] -= request.slots
            return True
        if all(self._limits[name].slots >= request.slots for name in lacking):
            self._awaited.update(lacking)  # the others are not for it to wait for
        return False

    def _lacks(self, name: str, request: SlotRequest) -> bool:
        return self._free[name] < request.slots - _ROUNDING

    def note_decay(self, request: SlotRequest) -> None:
        """Take account of when a request that waits will have what it lacks."""
        known = [name for name in request.names if name in self._free]
        lacking = [name for name in known if self._lacks(name, request)]
        seconds = max((self._seconds_until(name, request) for name in lacking), default=math.inf)
        if seconds < math.inf:
            self.decays_in = min(seconds, self.decays_in or math.inf)

    def _seconds_until(self, name: str, request: SlotRequest) -> float:
        lacks = request.slots - self._free[name]
        if lacks > self._decaying.get(name, 0.0) + _ROUNDING:
            return math.inf
        return lacks / self._limits[name].slot_decay_per_second


def taken_of(ledger: Ledger) -> Counter[str]:
    """How many slots of each limit are taken, by any process."""
    taken: Counter[str] = Counter()
    for (name, _process), slots in ledger.taken.items():
        taken[name] += slots
    return taken


def decaying_left(ledger: Ledger, now: float) -> dict[str, float]:
    """How many slots of each limit have not decayed yet."""
    return {
        name: decaying.left(ledger.limits[name].slot_decay_per_second, now)
        for name, decaying in ledger.decaying.items()
        if name in ledger.limits
    }


def share_out(
    ledger: Ledger,
    process: bytes,
    queues: Sequence[Sequence[SlotRequest]],
    passed_over: Collection[int],
    now: float,
) -> Shares:
    """What a process gets for its queues; see `SlotStore.exchange`."""
    free = FreeSlots(ledger, now)
    waiting = {queue[0].kind: list(queue) for queue in queues if queue}
    own = {entry.request.kind: entry for entry in ledger.entries if entry.process == process}
    granted: list[SlotRequest] = []
    used_up: list[int] = []
    in_turn: set[int] = set()
    for entry in ledger.entries:
        queue = waiting.get(entry.request.kind, [])
        if entry.process != process:
            if entry.position not in passed_over and free.take(entry.request):
                in_turn.add(entry.position)
        elif not queue:  # all that waited there have left
            used_up.append(entry.position)
        elif free.take(queue[0]):
            granted.append(queue.pop(0))
            used_up.append(entry.position)
            del own[entry.request.kind]
    for request in list(_behind(waiting, own)):
        if free.take(request):
            granted.append(request)
            waiting[request.kind].remove(request)
    heads = [queue[0] for queue in waiting.values() if queue]
    for head in heads:
        free.note_decay(head)
    return Shares(
        granted,
        frozenset(in_turn),
        free.decays_in,
        used_up,
        list(_moved(heads, own)),
        [head for head in heads if head.kind not in own],
    )


def _behind(
    waiting: Mapping[RequestKind, list[SlotRequest]], own: Mapping[RequestKind, QueueEntry]
) -> Iterator[SlotRequest]:
    """The requests that come after all entries, as they came."""
    rests = (queue[1:] if kind in own else queue for kind, queue in waiting.items())
    return merge(*rests)


def _moved(
    heads: Sequence[SlotRequest], own: Mapping[RequestKind, QueueEntry]
) -> Iterator[QueueEntry]:
    for head in heads:
        entry = own.get(head.kind)
        if entry is not None and entry.request.slots != head.slots:
            yield entry._replace(request=head)
