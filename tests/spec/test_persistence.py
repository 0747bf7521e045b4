"""The page's section "The persistence of state", and where it says that results are kept."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from tests.spec.transcripts import Machine, Output, code_of

STATES = "[run.state.name for run in reversed(history.task_runs())]"
MARVIN = "hello_flow('Marvin')"
# The results of 64 KiB and more are files.
LARGE = "hello_flow('M' * 100_000)"


def _ran(output: Output) -> bool:
    """Whether the page's task ran, rather than being served from the cache."""
    return "Saying hello M" in output.text


def _tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}


# The metadata store


def test_the_default_database_is_in_the_users_home(machine: Machine) -> None:
    """ "A SQLite database located at the default database location"."""
    del machine.environ["PENSTOCK_HOME"]
    home = machine.folder / "someone"
    home.mkdir()
    environ = {"HOME": str(home), "USERPROFILE": str(home)}

    machine.run("hello_flow.py", MARVIN, environ=environ)

    database = home / ".penstock" / "penstock.db"
    assert {"flow_run", "task_run"} <= _tables(database)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert machine.ask(STATES, environ=environ) == ["Completed"]


def test_the_home_may_be_elsewhere(machine: Machine) -> None:
    machine.run("hello_flow.py", MARVIN)

    assert {"flow_run", "task_run"} <= _tables(machine.home / "penstock.db")


def test_the_database_can_be_configured(machine: Machine) -> None:
    elsewhere = machine.folder / "data" / "metadata.sqlite"
    environ = {"PENSTOCK_DATABASE_URL": f"sqlite:///{elsewhere}"}

    machine.run("hello_flow.py", MARVIN, environ=environ)

    assert {"flow_run", "task_run"} <= _tables(elsewhere)
    assert not (machine.home / "penstock.db").exists()
    assert machine.ask(STATES, environ=environ) == ["Completed"]


def test_cache_keys_are_persisted_until_the_database_is_deleted(machine: Machine) -> None:
    assert _ran(machine.run("hello_flow.py", MARVIN))
    assert not _ran(machine.run("hello_flow.py", MARVIN))
    (machine.home / "penstock.db").unlink()

    assert _ran(machine.run("hello_flow.py", MARVIN))
    assert machine.ask(STATES) == ["Completed"]


def test_cache_keys_are_persisted_until_the_history_is_cleared(machine: Machine) -> None:
    machine.run("hello_flow.py", MARVIN)
    assert machine.ask("[list(history.clear()), history.flow_runs()]") == [[1, 1, 1], []]

    assert _ran(machine.run("hello_flow.py", MARVIN))
    assert machine.ask(STATES) == ["Completed"]


def test_cache_keys_are_persisted_until_the_cache_is_cleared(machine: Machine) -> None:
    """The runs stay."""
    machine.run("hello_flow.py", MARVIN)
    assert machine.ask("history.clear_cache()") == 1

    assert _ran(machine.run("hello_flow.py", MARVIN))
    assert machine.ask(STATES) == ["Completed", "Completed"]


def test_one_cache_key_can_be_cleared(machine: Machine) -> None:
    cheaper = {"time.sleep(3)": "time.sleep(0.001)"}
    machine.run("sum_key.py", "test_caching([2, 2])", "test_caching([2, 3])", replace=cheaper)
    assert machine.ask('history.clear_cache("4")') == 1

    again = machine.run("sum_key.py", "test_caching([1, 3])", "test_caching([5])", replace=cheaper)
    assert again.count("running an expensive operation") == 1
    assert machine.ask(STATES) == ["Completed", "Completed", "Completed", "Cached"]


def test_what_is_run_in_an_interpreter_is_kept(machine: Machine) -> None:
    """ "We have run all of our workflows interactively. This means our metadata store is …"."""
    machine.type_in(code_of("hello_flow.py"), "", MARVIN)

    assert machine.ask("[(r.flow, r.state.name) for r in history.flow_runs()]") == [
        ["hello-flow", "Completed"]
    ]
    assert machine.ask("[(r.task, r.state.result()) for r in history.task_runs()]") == [
        ["hello_task", "hello Marvin"]
    ]


# The local storage path


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_large_results_are_persisted_in_the_local_storage(machine: Machine) -> None:
    storage = machine.folder / "results"
    environ = {"PENSTOCK_LOCAL_STORAGE_PATH": str(storage)}

    assert _ran(machine.run("hello_flow.py", LARGE, environ=environ))

    (file,) = _files(storage)
    assert file.stat().st_size >= 100_000
    with closing(sqlite3.connect(machine.home / "penstock.db")) as connection:
        (longest,) = connection.execute("SELECT max(length(result)) FROM task_run").fetchone()
    assert 0 < longest < 1_000
    assert not _ran(machine.run("hello_flow.py", LARGE, environ=environ))
    result = "history.task_runs()[0].state.result() == 'hello ' + 'M' * 100_000"
    assert machine.ask(result, environ=environ) is True


def test_small_results_are_persisted_with_their_states(machine: Machine) -> None:
    """They need no local storage."""
    machine.run("hello_flow.py", MARVIN)

    assert _files(machine.home / "storage") == []
    elsewhere = {"PENSTOCK_LOCAL_STORAGE_PATH": str(machine.folder / "elsewhere")}
    assert not _ran(machine.run("hello_flow.py", MARVIN, environ=elsewhere))


def test_the_default_local_storage_is_beside_the_database(machine: Machine) -> None:
    machine.run("hello_flow.py", LARGE)

    (file,) = _files(machine.home / "storage")
    assert file.stat().st_size >= 100_000


def test_without_access_to_the_local_storage_a_task_runs_again(machine: Machine) -> None:
    """ "Limited to flow runs with access to that local storage path"."""
    one = {"PENSTOCK_LOCAL_STORAGE_PATH": str(machine.folder / "one")}
    other = {"PENSTOCK_LOCAL_STORAGE_PATH": str(machine.folder / "other")}
    machine.run("hello_flow.py", LARGE, environ=one)

    assert _ran(machine.run("hello_flow.py", LARGE, environ=other))
    assert not _ran(machine.run("hello_flow.py", LARGE, environ=other))
    assert machine.ask(STATES, environ=other) == ["Completed", "Completed", "Cached"]


def test_results_of_several_flow_runs_are_kept_apart(machine: Machine) -> None:
    machine.run("hello_flow.py", LARGE, "hello_flow('N' * 100_000)")

    assert len(_files(machine.home / "storage")) == 2
    assert machine.ask("[run.state.result()[6] for run in history.task_runs()]") == ["N", "M"]


def test_clearing_the_history_deletes_the_stored_results(machine: Machine) -> None:
    machine.run("hello_flow.py", LARGE)
    assert machine.ask("list(history.clear())") == [1, 1, 1]

    assert _files(machine.home / "storage") == []
    assert _ran(machine.run("hello_flow.py", LARGE))
