"""Readers and processes: those that write, that fork, that end, and that may not write."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import history
from penstock.exceptions import StoreError
from tests.contracts.scripts import Script, hear, say

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills and forks as POSIX has them")

NOBODY = 65534


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Scripts on a fresh database."""
    made = Script(tmp_path / "home")
    yield made
    made.stop_all()


WRITER = """
    import sys, time
    from penstock import flow, history, task

    @task
    def step(index):
        return index

    @flow
    def steps(begin):
        for index in range(begin, begin + 20):
            step.submit(index)

    for begin in range(0, 1_000_000, 20):
        steps(begin)
        time.sleep(0.01)
        if begin == 0:
            history.flow_runs()
            print("begun", flush=True)
            sys.stdin.readline()
"""


def test_a_file_is_read_while_another_process_writes_it(script: Script) -> None:
    """Each page is of one moment: the history grows, and has no gaps."""
    writer = script.start(WRITER)
    hear(writer)
    say(writer)
    with history.open(script.database) as reader:
        last = 0
        for _ in range(20):
            runs = reader.task_runs(limit=1_000_000)
            found = {run.state.result() for run in runs if run.state.is_completed()}
            assert len(runs) >= last
            assert all(run.states[0].name == "Pending" for run in runs)
            assert found <= set(range(len(runs)))
            last = len(runs)
            graph = reader.graph(reader.flow_runs(limit=1)[0])
            assert graph is not None and len(graph.task_runs) <= 20
    assert last > 40
    assert writer.poll() is None


def test_a_file_of_a_killed_process_is_read_with_its_log(script: Script) -> None:
    writer = script.start(WRITER)
    hear(writer)
    writer.kill()
    writer.wait()
    content = script.database.read_bytes()
    with history.open(script.database) as reader:
        assert {run.state.result() for run in reader.task_runs()} == {*range(20)}
    assert script.database.read_bytes() == content


def test_a_copy_of_a_file_and_its_log_is_read(script: Script, tmp_path: Path) -> None:
    writer = script.start(WRITER)
    hear(writer)
    copy = tmp_path / "copy"
    copy.mkdir()
    for end in ("", "-wal"):
        shutil.copy(f"{script.database}{end}", copy)
    with history.open(copy / "penstock.db") as reader:
        assert len(reader.task_runs()) == 20


# Users who may not write


READ_AS_NOBODY = """
    import os, sys
    import anyio
    from penstock import history
    from penstock.exceptions import StoreError

    async def read(path):
        async with history.open_async(path) as reader:
            return len(await reader.task_runs())

    def read_all(path):
        with history.open(path) as reader:
            print(len(reader.task_runs()), end=" ")
        print(anyio.run(read, path), anyio.run(read, path, backend="trio"))

    read_all(sys.argv[1])  # all that it takes is imported
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        read_all(sys.argv[2])
    except StoreError as error:
        print(error)
"""


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may get at; the test has nobody write there."""
    folder = tmp_path / "shown"
    folder.mkdir()
    made_open = [folder, *folder.parents]
    modes = {one: stat.S_IMODE(one.stat().st_mode) for one in made_open}
    for one in made_open:
        if one.owner() == tmp_path.owner() and one.is_relative_to(tmp_path.parents[1]):
            one.chmod(modes[one] | 0o055)
    yield folder
    for one in made_open:
        if one.is_relative_to(tmp_path.parents[1]):
            one.chmod(modes[one])


def close_to_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a matter of POSIX")
def test_a_folder_that_cannot_be_written_is_read_or_says_why_not(
    script: Script, shown: Path
) -> None:
    writer = script.start(WRITER)
    hear(writer)
    log_alone = shown / "log-alone"
    log_alone.mkdir()
    for end in ("", "-wal"):
        shutil.copy(f"{script.database}{end}", log_alone)
    with_all = shown / "with-all"
    shutil.copytree(script.folder, with_all, ignore=shutil.ignore_patterns("*.py"))
    writer.kill()
    writer.wait()
    script.run("from penstock import history; history.flow_runs()").check()
    finished = shown / "finished"
    shutil.copytree(script.folder, finished, ignore=shutil.ignore_patterns("*.py"))
    outputs = {}
    for folder in (log_alone, with_all, finished):
        files = sorted(file.name for file in folder.iterdir())
        close_to_all(folder)
        ended = read_as_nobody(script, folder)
        outputs[folder.name] = ended
        folder.chmod(0o755)
        assert sorted(file.name for file in folder.iterdir()) == files
    assert outputs["finished"] == outputs["with-all"] == "20 20 20"
    assert "penstock.db-wal) has to be read with it" in outputs["log-alone"]
    assert "Copy both files to another folder" in outputs["log-alone"]


def read_as_nobody(script: Script, folder: Path) -> str:
    ended = script.run(READ_AS_NOBODY, str(script.database), str(folder / "penstock.db"))
    ended.check()
    first, second = ended.output.splitlines()
    assert first == "20 20 20"
    return second


# Forks


def test_a_fork_in_the_middle_of_reading_leaves_both_processes_fit_for_use(script: Script) -> None:
    """Sync and async readers of the parent are used in the child, too, which also writes."""
    text = """
        import os, threading
        import anyio
        from penstock import flow, history, shutdown, task

        @task
        def step(index):
            return index

        for index in range(10):
            step(index)
        history.flow_runs()

        reader, other = history.open(), history.open_async()
        is_over = threading.Event()

        def read_on():
            while not is_over.is_set():
                assert len(reader.task_runs()) >= 10

        async def read_async():
            return len(await other.task_runs())

        async def read_and_close():
            found = len(await other.task_runs())
            await other.close()
            return found

        assert anyio.run(read_async, backend="trio") == 10
        threads = [threading.Thread(target=read_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            child = os.fork()
            if not child:
                step(10)
                assert len(history.task_runs()) > 10
                assert len(reader.task_runs()) > 10
                for backend in ("asyncio", "trio"):
                    assert anyio.run(read_async, backend=backend) > 10
                anyio.run(other.close, backend="trio")
                shutdown()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
        is_over.set()
        for thread in threads:
            thread.join()
        assert len(reader.task_runs()) == 15
        assert anyio.run(read_and_close, backend="trio") == 15
    """
    script.run(text).check()
    script.check_integrity()


def test_an_event_loop_that_reads_may_fork(script: Script) -> None:
    """Its thread waits for the looks of all tasks, none of which needs it to be over."""
    text = """
        import os
        import anyio
        from penstock import history, task

        @task
        def step(index):
            return index

        step(1)
        history.flow_runs()

        async def read(reader):
            for _ in range(20):
                assert len(await reader.task_runs()) == 1

        async def fork():
            for _ in range(10):
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
                await anyio.sleep(0.001)

        async def main():
            async with history.open_async() as reader, anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(read, reader)
                group.start_soon(fork)

        for backend in ("asyncio", "trio"):
            anyio.run(main, backend=backend)
    """
    script.run(text).check()


# Ends of processes


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_script_that_closes_no_reader_ends_with_its_last_line(
    script: Script, backend: str
) -> None:
    script.run("from penstock import task\ntask(print)('made')").check()
    text = f"""
        import anyio
        from penstock import history

        reader = history.open_async()
        assert len(anyio.run(reader.task_runs, backend={backend!r})) == 1
        print("read")
    """
    ended = script.run(text)
    ended.check()
    assert ended.output == "read\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_error_beside_a_reader_ends_a_script_with_that_error(
    script: Script, backend: str
) -> None:
    script.run("from penstock import task\ntask(print)('made')").check()
    text = f"""
        import anyio
        from penstock import history

        async def read(reader):
            while True:
                await reader.task_runs()

        async def main():
            reader = history.open_async()
            async with anyio.create_task_group() as group:
                group.start_soon(read, reader)
                await reader.task_runs()
                raise SystemExit(7)

        try:
            anyio.run(main, backend={backend!r})
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0]
    """
    ended = script.run(text)
    assert (ended.status, ended.errors) == (7, "")


def test_a_missing_file_is_said_on_a_line_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no file .*nothing\.db\. Name the file"):
        history.open(tmp_path / "nothing.db")
    assert not list(tmp_path.iterdir())
