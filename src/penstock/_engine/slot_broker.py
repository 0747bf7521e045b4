"""Slots of the limits of concurrency, for the code of this process that asks for them.

The law: a grant is set when there are slots for its request, and they are given back once: by
whoever has asked, or when nobody refers to the grant any more. So an interrupt at any moment leaks
none.

All requests go through one inbox to one thread, which exchanges slots with the store: many at once,
and however many wait, it alone looks whether another process has given something back.

Why: docs/inside/limits.md, "Slots are an answer at once and a wait".
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from penstock._stores.port import RequestKind, SlotRequest, SlotStore
from penstock._waiting.latch import Latch, expected, watch
from penstock._waiting.thread_reserve import start_thread
from penstock.exceptions import StoreError

_SHORTEST_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.05
"""Between two looks at what other processes have given back."""
_REQUESTS_A_QUEUE: Final = 64
"""How many of the requests that wait in one queue are told to the store; the others come later."""
_TURN_SECONDS: Final = 1.0
"""How long another process, which may be stopped, can leave its turn unused."""
_ABSENCE_SECONDS: Final = 5.0
"""For how long it is passed over then."""
_GIVE_UP_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.2
_log = logging.getLogger("penstock.engine")


class SlotGrant(Latch):
    """The answer to a request for slots: set when they are granted, or never will be.

    Attributes:
        request: what was asked for.
        error: why they never will be.
    """

    __slots__ = ("_broker", "_is_given_back", "error", "request")

    def __init__(self, broker: SlotBroker, request: SlotRequest) -> None:
        super().__init__()
        self._broker = broker
        self._is_given_back = False
        self.request = request
        self.error: StoreError | None = None

    def refuse(self, error: StoreError) -> None:
        """Let everybody know that there never will be any."""
        self.error = error
        self.set()

    def give_back(self) -> None:
        """Give the slots back, or withdraw the request; the second time changes nothing."""
        if not self._is_given_back:
            self._broker.take_back(self)
            # After it: an interrupt may come between the two, and twice is better than never.
            self._is_given_back = True

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have left it half made
            self.give_back()


class SlotBroker:
    """Gets slots from a store for all requests of a process.

    Any code may ask and give back, and the garbage collector may give back in the middle of any of
    it; so `ask` and `take_back` take no lock. They append to the inbox and then put a wake-up, both
    of which are single steps. The thread takes all wake-ups first and empties the inbox after, so
    what was appended before a wake-up is found after it.

    Args:
        store: where the slots are.
        now: the time, in seconds since 1970, for slots that decay.
        call_later: calls something after so many seconds of that time.
    """

    def __init__(
        self,
        store: SlotStore,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], object]], object],
    ) -> None:
        self._store = store
        self._now = now
        self._call_later = call_later
        self._numbers = itertools.count()
        self._inbox: deque[SlotGrant | int] = deque()
        self._announced: deque[Latch] = deque()
        self._wakeups: SimpleQueue[None] = SimpleQueue()  # whose `put` may interrupt itself
        self._lock = threading.Lock()
        self._has_started = False
        self._closing = False
        self._ended = Latch()
        # What follows is the thread's own.
        self._queues: dict[RequestKind, dict[int, SlotGrant]] = {}
        self._kinds: dict[int, RequestKind] = {}
        self._held: dict[int, SlotRequest] = {}
        self._given_back: Counter[str] = Counter()
        self._turns: dict[int, float] = {}
        self._pause = 0.0
        self._look_at: float | None = None
        self._decays_at: float | None = None
        self._has_decayed = False
        self._failing_since: float | None = None

    # From any thread

    def start(self) -> None:
        """Start the thread, before the first request, as that may come when none can be started."""
        with self._lock:
            if not self._has_started:
                start_thread(self._run, "penstock-slots")
                self._has_started = True

    def ask(self, names: Iterable[str], slots: int = 1, *, decays: bool = False) -> SlotGrant:
        """Ask for so many slots of each of these limits; it returns before there are any."""
        request = SlotRequest(next(self._numbers), tuple(sorted(names)), slots, decays)
        grant = SlotGrant(self, request)
        if not self._has_started:
            self.start()
        self._send(grant)
        # At its end the thread sets the latch first and empties the inbox after. So it finds what
        # was sent before that, and who sends later finds the latch set.
        if self._ended.is_set():
            grant.refuse(_closed())
        return grant

    def take_back(self, grant: SlotGrant) -> None:
        """Take the slots of a grant back, or withdraw its request."""
        self._send(grant.request.number)

    def _send(self, item: SlotGrant | int) -> None:
        self._inbox.append(item)
        self._wake()

    def _note_decay(self) -> None:
        self._has_decayed = True
        self._wake()

    def _wake(self) -> None:
        if watch.observer is not None:  # who waits for a slot waits for this thread, for a moment
            self._announced.append(expected(Latch()))
        self._wakeups.put(None)

    def close(self) -> None:
        """End the thread; who still waits is told so."""
        with self._lock:
            has_started, self._has_started = self._has_started, True
        self._closing = True
        self._wakeups.put(None)
        if has_started:
            self._ended.wait()
        self._ended.set()

    # In its own thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._wait()
                # What is announced after this line has a wake-up of its own, still to come.
                announced = len(self._announced)
                matters = self._empty_inbox()
                if self._is_time_to_look() or matters:
                    self._exchange()
                self._note_done(announced)
        except Exception:
            _log.exception("The thread that gets slots has stopped")
        finally:
            self._ended.set()
            self._refuse_all(_closed())
            self._note_done(len(self._announced))

    def _note_done(self, announced: int) -> None:
        for _ in range(announced):
            self._announced.popleft().set()

    def _wait(self) -> None:
        """Until somebody wakes the thread, or it is time to look."""
        seconds = None if self._look_at is None else max(0.0, self._look_at - time.monotonic())
        with suppress(Empty):
            self._wakeups.get(timeout=seconds)
            while True:
                self._wakeups.get_nowait()

    def _is_time_to_look(self) -> bool:
        if self._has_decayed:
            # What decays between the two lines is seen, too: the exchange comes after this.
            self._has_decayed, self._decays_at = False, None
            return True
        return self._look_at is not None and time.monotonic() >= self._look_at

    def _empty_inbox(self) -> bool:
        """Take in what came; whether the store has to know of it."""
        matters = False
        while self._inbox:
            item = self._inbox.popleft()
            matters |= self._remove(item) if isinstance(item, int) else self._enqueue(item)
        return matters

    def _enqueue(self, grant: SlotGrant) -> bool:
        """Let a grant wait with those of its kind; whether it is the first one there."""
        number, kind = grant.request.number, grant.request.kind
        queue = self._queues.setdefault(kind, {})
        queue[number] = grant
        self._kinds[number] = kind
        return len(queue) == 1

    def _remove(self, number: int) -> bool:
        """Take back what was granted, or withdraw the request; whether that matters to others."""
        request = self._held.pop(number, None)
        if request is not None:
            for name in request.names:
                self._given_back[name] += request.slots
            return True
        if number in self._kinds:
            self._dequeue(number)
            return True
        return False

    def _dequeue(self, number: int) -> SlotGrant:
        kind = self._kinds.pop(number)
        return self._queues[kind].pop(number)

    def _exchange(self) -> None:
        """Give the store what was given back, and take what is free for the requests that wait."""
        queues = [
            [grant.request for grant in itertools.islice(queue.values(), _REQUESTS_A_QUEUE)]
            for queue in self._queues.values()
        ]
        try:
            exchanged = self._store.exchange(
                self._given_back, queues, self._passed_over(), self._now()
            )
        except StoreError as error:
            self._note_failure(error)
            return
        self._failing_since = None
        self._given_back = Counter()
        for number in exchanged.granted:
            self._grant(number)
        self._note_turns(exchanged.in_turn)
        self._queues = {kind: queue for kind, queue in self._queues.items() if queue}
        self._look_again(len(exchanged.granted), exchanged.decays_in)

    def _grant(self, number: int) -> None:
        grant = self._dequeue(number)
        if not grant.request.decays:
            self._held[number] = grant.request
        grant.set()

    def _passed_over(self) -> Collection[int]:
        """The positions of other processes that have left their turn unused."""
        before = time.monotonic() - _TURN_SECONDS
        return [position for position, began in self._turns.items() if began < before]

    def _note_turns(self, in_turn: Collection[int]) -> None:
        """Remember since when it is the turn of others, and which of them have missed it."""
        now = time.monotonic()
        missed = {at: began for at, began in self._turns.items() if _is_absent(now - began)}
        self._turns = {**{at: self._turns.get(at, now) for at in in_turn}, **missed}

    def _look_again(self, granted: int, decays_in: float | None) -> None:
        """Decide when to look what others have given back."""
        if not self._queues:
            self._look_at = None
            return
        if decays_in is not None:
            self._expect_decay(decays_in)
        if granted:
            self._pause = 0.0 if granted >= _REQUESTS_A_QUEUE else _SHORTEST_PAUSE_SECONDS
        else:
            doubled = max(2 * self._pause, _SHORTEST_PAUSE_SECONDS)
            self._pause = min(doubled, _LONGEST_PAUSE_SECONDS)
        self._look_at = time.monotonic() + self._pause

    def _expect_decay(self, seconds: float) -> None:
        """Be told when a slot has decayed, in the time in which it does."""
        at = self._now() + seconds
        if self._decays_at is None or at < self._decays_at:
            self._decays_at = at
            self._call_later(seconds, self._note_decay)

    def _note_failure(self, error: StoreError) -> None:
        """Try for a while where the disk or another process is in the way."""
        now = time.monotonic()
        self._look_at = now + _RETRY_SECONDS
        if self._failing_since is None:
            self._failing_since = now
            _log.warning("Slots could not be acquired; trying again: %s", error)
        elif now - self._failing_since > _GIVE_UP_SECONDS:
            self._failing_since = None
            self._refuse_all(error)

    def _refuse_all(self, error: StoreError) -> None:
        """Nobody may wait for slots that never come."""
        self._empty_inbox()
        while self._kinds:
            self._dequeue(next(iter(self._kinds))).refuse(error)
        self._queues = {}


def _is_absent(seconds: float) -> bool:
    return _TURN_SECONDS < seconds < _TURN_SECONDS + _ABSENCE_SECONDS


def _closed() -> StoreError:
    return StoreError("The engine was shut down before there was a slot.")
