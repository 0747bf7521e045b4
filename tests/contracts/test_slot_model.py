"""Slots in one file and three processes against a model: whoever asks, gives back or dies."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock._stores.port import Limit, RequestKind, SlotRequest
from penstock._stores.sqlite import slots as sqlite_slots
from penstock._stores.sqlite.schema import prepare_file
from penstock._stores.sqlite.slots import SqliteSlots

NAMES = ["a", "b"]
PROCESSES = range(3)


class Process:
    """A process, and what it believes to have."""

    def __init__(self, path: Path) -> None:
        self.slots = SqliteSlots(path, lambda _sql, _values: [])
        self.held: list[SlotRequest] = []
        self.waiting: dict[RequestKind, list[SlotRequest]] = {}

    @property
    def queues(self) -> list[list[SlotRequest]]:
        return [queue for queue in self.waiting.values() if queue]

    def die(self) -> None:
        """As a kill does it."""
        if self.slots._process_lock is not None:
            self.slots._process_lock.leave_behind()
            self.slots._process_lock = None
        self.slots.close()


class SlotMachine(RuleBasedStateMachine):
    """Processes ask, look, give back, give up and die; limits change."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "penstock.db"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sqlite_slots, "LEASE_SECONDS", 0.0)
        self.limits: dict[str, int] = {}
        self.numbers = 0

    @initialize(a=st.integers(0, 3))
    def open(self, a: int) -> None:
        prepare_file(self.path, "normal")
        self.processes = [Process(self.path) for _ in PROCESSES]
        self.set_limit("a", a)

    def teardown(self) -> None:
        for process in self.processes:
            process.slots.close()
        self.patch.undo()
        self.folder.cleanup()

    def taken(self, name: str) -> int:
        held = [request for process in self.processes for request in process.held]
        return sum(request.slots for request in held if name in request.names)

    def exchange(self, process: Process, given_back: SlotRequest | None = None) -> None:
        """Nobody gets more than there is, and what can be had is had."""
        slots = {} if given_back is None else dict.fromkeys(given_back.names, given_back.slots)
        exchanged = process.slots.exchange(slots, process.queues, (), 0.0)
        for number in exchanged.granted:
            queue = next(
                queue for queue in process.queues for request in queue if request.number == number
            )
            request = next(request for request in queue if request.number == number)
            queue.remove(request)
            process.held.append(request)
            for name in request.names:
                assert self.taken(name) <= self.limits.get(name, 99)

    @rule(name=st.sampled_from(NAMES), slots=st.integers(0, 4))
    def set_limit(self, name: str, slots: int) -> None:
        self.processes[0].slots.set_limit(Limit(name, slots))
        self.limits[name] = slots

    @rule(name=st.sampled_from(NAMES))
    def delete_limit(self, name: str) -> None:
        deleted = self.processes[1].slots.delete_limit(name)
        assert deleted is (self.limits.pop(name, None) is not None)

    @rule(
        who=st.sampled_from(PROCESSES),
        names=st.sets(st.sampled_from(NAMES), min_size=1),
        slots=st.integers(1, 2),
    )
    def ask(self, who: int, names: set[str], slots: int) -> None:
        process = self.processes[who]
        self.numbers += 1
        request = SlotRequest(self.numbers, tuple(sorted(names)), slots)
        process.waiting.setdefault(request.kind, []).append(request)
        self.exchange(process)

    @rule(who=st.sampled_from(PROCESSES))
    def look(self, who: int) -> None:
        if self.processes[who].queues:
            self.exchange(self.processes[who])

    @rule(who=st.sampled_from(PROCESSES), data=st.data())
    def give_back(self, who: int, data: st.DataObject) -> None:
        process = self.processes[who]
        if process.held:
            request = process.held.pop(data.draw(st.integers(0, len(process.held) - 1)))
            self.exchange(process, request)

    @rule(who=st.sampled_from(PROCESSES), data=st.data())
    def give_up(self, who: int, data: st.DataObject) -> None:
        process = self.processes[who]
        if process.queues:
            queue = data.draw(st.sampled_from(process.queues))
            queue.pop(data.draw(st.integers(0, len(queue) - 1)))
            self.exchange(process)

    @rule(who=st.sampled_from(PROCESSES))
    def die(self, who: int) -> None:
        """Another one takes its entry, and knows nothing of it."""
        self.processes[who].die()
        self.processes[who] = Process(self.path)

    @precondition(lambda self: any(process.queues for process in self.processes))
    @rule()
    def all_look_until_nothing_changes(self) -> None:
        """Then whoever waits lacks something, or somebody before it does."""
        for _ in range(sum(len(queue) for p in self.processes for queue in p.queues) + 1):
            for process in self.processes:
                if process.queues:
                    self.exchange(process)
        heads = [queue[0] for process in self.processes for queue in process.queues]
        free = {name: self.limits[name] - self.taken(name) for name in self.limits}
        assert not any(
            all(free.get(name, 99) >= request.slots for name in request.names)
            and all(one is request or set(one.names).isdisjoint(request.names) for one in heads)
            for request in heads
        )
        if len(heads) == 1:
            assert any(free.get(name, 99) < heads[0].slots for name in heads[0].names)

    @invariant()
    def what_is_taken_agrees(self) -> None:
        shown = self.processes[2].slots.read_limits(0.0)
        assert {limit.name: limit.slots for limit in shown} == self.limits
        assert {limit.name: limit.taken for limit in shown} == {
            name: self.taken(name) for name in self.limits
        }


TestSlotModel = SlotMachine.TestCase
TestSlotModel.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
