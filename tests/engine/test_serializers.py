"""`result_serializer`, end to end: the history, the cache, other processes, and what goes wrong."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, history, shutdown, task
from penstock._engine.process import get_engine
from penstock._model.payloads import INLINE_LIMIT
from penstock.exceptions import ResultUnavailable
from penstock.serializers import CompressedSerializer, JSONSerializer
from penstock.states import Completed, State
from tests.conftest import RunLoop

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Reading:
    city: str
    values: tuple[float, ...]


class Fails(JSONSerializer):
    """Raises, either way."""

    broken = "dumps"

    def dumps(self, value: Any, /) -> bytes:
        if self.broken == "dumps":
            raise ValueError("no ink")
        return super().dumps(value)

    def loads(self, blob: bytes, /) -> Any:
        raise ValueError(f"no glasses for {len(blob)} bytes")


def stored(name: str) -> tuple[bytes, object]:
    """The newest payload of the task, and its value as the history gives it."""
    run = history.task_runs(task=name, limit=1)[0]
    payload = get_engine().store.payload_of(run.id.bytes)
    assert payload is not None
    return payload, run.state.result()


def test_the_result_of_the_call_is_the_value_and_the_history_has_what_was_stored() -> None:
    @task(result_serializer="json")
    def read(city: str) -> Reading:
        return Reading(city, (1.5, 2.0))

    assert read("Oslo") == Reading("Oslo", (1.5, 2.0))
    payload, value = stored("read")
    assert payload.endswith(b'{"city":"Oslo","values":[1.5,2.0]}')
    assert value == {"city": "Oslo", "values": [1.5, 2.0]}


@pytest.mark.needs_file("an engine made later finds the entries")
@pytest.mark.parametrize("name", ["json", "msgpack", "compressed/json", "lzma/msgpack", "pickle"])
def test_a_cached_result_has_the_type_that_the_function_says(name: str, run_loop: RunLoop) -> None:
    """In the same process from memory, after a restart from the file."""

    @task(result_serializer=name, cache_key_fn=lambda _context, _parameters: "key")
    async def read(city: str) -> list[Reading]:
        return [Reading(city, (1.5,) * (INLINE_LIMIT if city == "large" else 1))]

    @flow
    async def reads(city: str) -> tuple[list[Reading], str]:
        state = await read.call_state(city)
        return state.result(), state.name

    for city in ("Oslo", "large"):
        first = run_loop(reads, city)
        assert first == ([Reading(city, first[0][0].values)], "Completed")
        assert run_loop(reads, city) == (first[0], "Cached")
        shutdown()
        assert run_loop(reads, city) == (first[0], "Cached")
        history.clear_cache()


def test_a_cached_state_made_by_hand_has_the_type_of_its_value() -> None:
    @task(result_serializer="json", cache_key_fn=lambda _context, _parameters: "key")
    def read() -> State[tuple[int, int]]:
        return Completed(data=(1, 2))

    @task(result_serializer="json", cache_key_fn=lambda _context, _parameters: "other key")
    def read_any() -> State:
        return Completed(data=(1, 2))

    assert [read(), read()] == [(1, 2), (1, 2)]
    assert read.call_state().name == "Cached"
    assert [read_any(), read_any()] == [(1, 2), [1, 2]]


def test_tasks_and_subflows_that_do_not_say_do_as_the_flow_around_them() -> None:
    @task
    def plain() -> tuple[int, int]:
        return (1, 2)

    @task(result_serializer="pickle")
    def exact() -> tuple[int, int]:
        return (1, 2)

    @flow
    def inner() -> tuple[int, int]:
        return plain.with_options(name="innermost")()

    @flow(result_serializer=CompressedSerializer("json", "bz2"))
    def outer() -> None:
        plain.submit()
        exact()
        inner()

    outer()
    assert stored("plain")[1] == stored("innermost")[1] == [1, 2]
    assert stored("exact")[1] == (1, 2)
    assert history.flow_runs(flow="inner")[0].state.result() == [1, 2]
    assert b"bz2/json" in stored("plain")[0]
    plain()
    assert stored("plain")[1] == (1, 2)


def test_with_options_changes_the_serializer_and_keeps_it() -> None:
    @task(result_serializer="json")
    def number() -> tuple[int]:
        return (5,)

    number.with_options(retries=1, name="same")()
    number.with_options(result_serializer=None, name="other")()
    assert (stored("same")[1], stored("other")[1]) == ([5], (5,))


@pytest.mark.needs_file("the record of another process")
def test_another_process_finds_what_it_needs_by_the_name(tmp_path: Path) -> None:
    """The class of the user's as well, where it can import it; else the error says which."""
    (tmp_path / "own_serializers.py").write_text(
        "class Repr:\n"
        "    def dumps(self, value): return repr(value).encode()\n"
        "    def loads(self, blob): return 'read ' + blob.decode()\n"
    )
    (tmp_path / "writes.py").write_text(
        "from penstock import task\n"
        "from own_serializers import Repr\n"
        "task(lambda: 1, name='repr', result_serializer=Repr())()\n"
        "task(lambda: (1, 2), name='json', result_serializer='compressed/json')()\n"
    )
    (tmp_path / "reads.py").write_text(
        "from penstock import history\n"
        "for name in ('json', 'repr'):\n"
        "    print(history.task_runs(task=name)[0].state.result())\n"
    )

    def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(tmp_path / script)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert run("writes.py", tmp_path).returncode == 0
    assert run("reads.py", tmp_path).stdout == "[1, 2]\nread 1\n"
    (tmp_path / "own_serializers.py").unlink()
    gone = run("reads.py", tmp_path)
    assert gone.stdout == "[1, 2]\n"
    assert "'own_serializers:Repr', which cannot be had here: ModuleNotFound" in gone.stderr


# What goes wrong


@pytest.mark.parametrize("is_async", [False, True])
def test_a_serializer_that_raises_leaves_the_run_completed_and_unstored(
    is_async: bool, run_loop: RunLoop, caplog: pytest.LogCaptureFixture
) -> None:
    cached = task(
        name="unstored",
        result_serializer=Fails(),
        cache_key_fn=lambda _context, _parameters: "key",
    )
    with caplog.at_level(logging.WARNING, "penstock"):
        if is_async:

            @cached
            async def works_async() -> int:
                return 5

            state = run_loop(works_async.call_state)
        else:
            state = cached(lambda: 5).call_state()
    assert (state.name, state.result()) == ("Completed", 5)
    name = "tests.engine.test_serializers:Fails"
    why = f"it cannot be serialized by '{name}' (ValueError: no ink)"
    assert state.details.not_persisted == why
    logged, *_ = [r.getMessage() for r in caplog.records]
    assert logged.startswith(f"The result cannot be serialized by '{name}'; it is not stored:\n")
    assert "ValueError: no ink" in logged
    with pytest.raises(ResultUnavailable, match="no ink"):
        history.task_runs(task="unstored")[0].state.result()


def test_a_result_that_json_has_no_form_for_is_not_stored() -> None:
    @flow(result_serializer="json")
    def gives_an_object() -> object:
        return object()

    reason = gives_an_object.call_state().details.not_persisted
    assert reason is not None
    assert "serialized by 'json' (TypeError: Encoding objects of type object" in reason


def test_a_cached_result_that_cannot_be_read_back_is_computed_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Fails, "broken", "loads")
    computed: list[int] = []

    @task(result_serializer=Fails(), cache_key_fn=lambda _context, _parameters: "key")
    def works() -> int:
        computed.append(1)
        return 5

    with caplog.at_level(logging.WARNING, "penstock"):
        assert [works(), works()] == [5, 5]
    assert len(computed) == 2
    assert "computed again" in caplog.text
    assert "by the serializer 'tests.engine.test_serializers:Fails'" in caplog.text
    with pytest.raises(ResultUnavailable, match="no glasses"):
        history.task_runs(task="works")[0].state.result()
