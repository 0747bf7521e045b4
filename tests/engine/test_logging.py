"""What the runs log, and where it goes."""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import queue
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, get_run_logger, task
from penstock._engine.process import use_settings
from penstock.exceptions import MissingContextError
from penstock.settings import load_settings

pytestmark = pytest.mark.usefixtures("engine")


@task
def notes(x: int) -> int:
    get_run_logger().info("x is %s", x)
    return x


@task(log_prints=True)
def prints() -> None:
    print("hello", 5, sep="-")
    print("plain", file=sys.stderr)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_logger_of_a_run_names_it(caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def f() -> None:
        get_run_logger().warning("in the flow", extra={"mine": 1})
        notes.submit(1).wait()

    with caplog.at_level(logging.INFO, "penstock"):
        f()
    own = next(r for r in caplog.records if r.getMessage() == "in the flow")
    assert own.name == "penstock.flow_runs"
    assert own.__dict__["flow_name"] == "f"
    assert own.__dict__["mine"] == 1
    other = next(r for r in caplog.records if r.getMessage() == "x is 1")
    assert other.name == "penstock.task_runs"
    assert other.__dict__["task_run_name"].startswith("notes-")
    assert other.__dict__["flow_run_name"] == own.__dict__["flow_run_name"]


def test_outside_of_runs_there_is_no_run_logger() -> None:
    with pytest.raises(MissingContextError, match=r"logging\.getLogger"):
        get_run_logger()


def test_prints_go_to_the_log_where_asked_for(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @task
    def silent() -> None:
        print("from the task")

    @task(log_prints=False)
    def printing() -> None:
        print("printed")

    @flow(log_prints=True)
    def f() -> None:
        print("from the flow")
        silent()
        printing()

    with caplog.at_level(logging.INFO, "penstock"):
        prints()
        f()
        print("outside")
    assert [m for m in messages(caplog) if "from" in m or m == "hello-5"] == [
        "hello-5",
        "from the flow",
        "from the task",
    ]
    captured = capsys.readouterr()
    assert captured.out == "printed\noutside\n"
    assert captured.err.endswith("plain\n")


def test_an_exception_is_logged_with_the_users_frames_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def deeper() -> None:
        raise ValueError("no")

    @task
    def fails() -> None:
        deeper()

    with caplog.at_level(logging.INFO, "penstock"):
        fails.call_state()
    text = next(m for m in messages(caplog) if m.startswith("Encountered exception"))
    assert "in fails" in text
    assert "in deeper" in text
    assert "penstock/_engine" not in text.replace("\\", "/")
    assert "ValueError: no" in text


SCRIPT = """
    import logging, sys
    SETUP
    from penstock import flow, task
    @task
    def t(): pass
    @flow
    def f(): t()
    f()
"""


def errors_of(script: str, tmp_path: Path, **environ: str) -> str:
    import os

    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    run = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environ},
        timeout=30,
    )
    return run.stderr


def test_an_error_of_the_library_is_logged_without_its_frames(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @flow
    def takes(number: int) -> None: ...

    wrong: Any = "five"
    takes.call_state(wrong)
    (line,) = (m for m in messages(caplog) if m.startswith("Encountered exception"))
    assert "ParameterError: " in line
    assert "Traceback" not in line


@pytest.mark.parametrize("url", ["memory:", ""])
def test_each_run_has_a_first_and_a_last_line_whatever_keeps_it(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def many() -> None:
        notes.map(range(50))

    given = {"PENSTOCK_HOME": str(tmp_path)} | ({"PENSTOCK_DATABASE_URL": url} if url else {})
    with use_settings(load_settings(given)), caplog.at_level(logging.INFO, "penstock"):
        many()
    lines = messages(caplog)
    assert sum(line.startswith("Created task run") for line in lines) == 50
    assert sum(line.startswith("Finished in state Completed") for line in lines) == 51


def test_the_lines_of_a_failure_have_the_time_of_the_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else a line would stand above another one that is older."""

    @task(retries=1, retry_delay_seconds=0.001)
    def fails() -> None:
        raise ValueError

    with caplog.at_level(logging.INFO, "penstock"):
        fails.call_state()
    times = [record.created for record in caplog.records]
    assert times == sorted(times)
    assert times[-1] == times[-2]


def test_a_script_without_logging_gets_the_lines_on_stderr(tmp_path: Path) -> None:
    lines = errors_of(SCRIPT.replace("SETUP", ""), tmp_path).splitlines()
    assert len(lines) == 5
    assert all(line[2] == line[5] == ":" and line[8] == "." for line in lines)
    assert lines[0][12:].startswith(" | INFO    | penstock.engine - Created flow run '")


def test_an_application_with_logging_gets_no_handler_of_ours(tmp_path: Path) -> None:
    script = SCRIPT.replace("SETUP", "logging.basicConfig(format='APP %(name)s %(message)s')")
    assert errors_of(script, tmp_path) == ""
    script = script.replace("logging.basicConfig(", "logging.basicConfig(level='INFO', ")
    lines = errors_of(script, tmp_path).splitlines()
    assert len(lines) == 5
    assert all(line.startswith("APP penstock.") for line in lines)


def test_the_level_of_a_script_is_a_setting(tmp_path: Path) -> None:
    script = SCRIPT.replace("SETUP", "")
    assert errors_of(script, tmp_path, PENSTOCK_LOGGING_LEVEL="WARNING") == ""


# Records, which the engine makes from a pattern


def lines_of_a_call(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    with caplog.at_level(logging.INFO, "penstock"):
        assert notes(1) == 1
    return [r for r in caplog.records if r.getMessage() != "x is 1"]


def test_a_record_has_all_that_logging_gives_to_one(caplog: pytest.LogCaptureFixture) -> None:
    before = time.time()
    created, finished = lines_of_a_call(caplog)
    model = logging.LogRecord("", logging.INFO, "", 0, "", (), None)
    for record in (created, finished):
        assert vars(model).keys() <= vars(record).keys()
        assert (record.levelname, record.levelno) == ("INFO", logging.INFO)
        assert (record.process, record.thread) == (os.getpid(), threading.get_ident())
        assert record.threadName == threading.current_thread().name
        assert before <= record.created <= time.time()
        assert 0 <= record.msecs < 1000
        assert abs(record.relativeCreated - model.relativeCreated) < 60_000
    assert created.created <= finished.created
    assert finished.getMessage() == "Finished in state Completed(None)"


def test_records_can_be_sent_to_another_process(caplog: pytest.LogCaptureFixture) -> None:
    for record in lines_of_a_call(caplog):
        sent = logging.handlers.QueueHandler(queue.Queue[Any]()).prepare(record)
        assert pickle.loads(pickle.dumps(sent)).getMessage() == record.getMessage()


def test_the_applications_own_factory_makes_the_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Own(logging.LogRecord):
        pass

    logging.setLogRecordFactory(Own)
    try:
        records = lines_of_a_call(caplog)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert len(records) == 2
    assert all(type(record) is Own for record in records)
    assert records[1].__dict__["task_name"] == "notes"


def test_a_handler_that_raises_does_not_decide_how_a_run_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(f"the disk is full: {record.getMessage()}")

    handler = Broken()
    logger = logging.getLogger("penstock")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:

        @flow
        def works() -> int:
            return doubles.submit(1).result() + doubles(1)

        assert works() == 4
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert "the disk is full" in capsys.readouterr().err


@task
def doubles(x: int) -> int:
    return 2 * x
