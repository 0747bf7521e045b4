"""Tasks for worker processes, which import this module and not the tests."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from penstock import flow, get_run_logger, runtime, task
from penstock.context import TaskRunContext, get_run_context
from penstock.states import Completed, State
from penstock.task_runners import ProcessTaskRunner
from tests.patience import PATIENCE_SECONDS


def until_there(path: Path) -> None:
    """Wait for a file of that name."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < ends_at, f"nobody made {path}"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether any thread of that process has not ended."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(list((process / "task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


@task
def pid_of_worker(_number: int = 0) -> int:
    return os.getpid()


@task
def square(number: int) -> int:
    return number * number


@task(cache_key_fn=lambda _context, parameters: str(parameters["number"]))
def cached_pid(number: int) -> tuple[int, int]:
    return number, os.getpid()


@task
def fail(reason: str) -> NoReturn:
    raise ValueError(reason)


class NeedsTwo(Exception):
    """Pickled, and cannot be made again of what was pickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@task
def fail_for_good() -> NoReturn:
    raise NeedsTwo(1, 2)


@task
def return_lock() -> Any:
    return threading.Lock()


@task
def length(data: Any) -> int:
    return len(data)


@task
def many_bytes(count: int) -> bytes:
    return b"x" * count


@task
def leave(status: int) -> NoReturn:
    sys.exit(status)


@task
def die(code: int) -> None:
    os._exit(code)


@task
def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def die_once(folder: Path) -> int:
    """Dies in its first attempt."""
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return os.getpid()


@task
def die_now_and_then(number: int) -> int:
    if number % 7 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@task
def report_and_hang(folder: Path) -> None:
    """Say which process this is, and keep it busy, in C where nothing interrupts it but the end."""
    (folder / "new").write_text(str(os.getpid()))
    (folder / "new").rename(folder / "pid")
    time.sleep(600)
    (folder / "through").touch()


hang_in_time = report_and_hang.with_options(timeout_seconds=0.3)


@task(timeout_seconds=30)
def quick_in_time(number: int) -> int:
    return number


@task
def hold_the_pipe_and_die(folder: Path) -> None:
    """A process that it forks lives on, and has all that was open here."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    (folder / "child").write_text(str(child))
    os._exit(5)


@task
def wait_if_first(folder: Path, number: int) -> int:
    """The first one waits for the gate, and each leaves a mark; twice it would raise."""
    (folder / f"{number} has begun").touch(exist_ok=False)
    if number == 0:
        until_there(folder / "open")
    return os.getpid()


@task
def die_if_first(folder: Path, number: int) -> int:
    """The first one ends its process, and each leaves a mark; twice it would raise."""
    (folder / f"{number} has begun").touch(exist_ok=False)
    if number == 0:
        os._exit(3)
    return number


@task
def sleep_a_little(number: int) -> int:
    time.sleep(0.2)
    return number


@task
def log_number(number: int) -> int:
    logging.getLogger("application").warning("number %d", number)
    return number


@task
def pass_gate(folder: Path, name: str) -> str:
    (folder / f"{name} is here").touch()
    until_there(folder / "open")
    return name


@task
def allocate(count: int) -> int:
    return len(bytearray(count))


@task
def interrupt_itself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


@task
def sigint_of_subprocess() -> str:
    """What a process that the task starts does about Ctrl-C."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


@task(log_prints=True)
def talk(words: str) -> None:
    print("printed", words)
    get_run_logger().info("logged %s", words)
    logging.getLogger("application").warning("plain %s", words, extra={"lock": threading.Lock()})
    logging.getLogger("application").debug("nobody hears this")
    try:
        int(words)
    except ValueError:
        get_run_logger().exception("went wrong")


@task
def log_later() -> None:
    threading.Timer(0.1, logging.getLogger("application").warning, ["later"]).start()


@task
def print_words(words: str) -> None:
    print("printed", words)


@task(tags=["heavy"], retries=1)
def look_around(folder: Path) -> dict[str, object]:
    """What the code can know of its run, in its second attempt."""
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        raise ValueError("once more")
    task_run, flow_run = runtime.task_run, runtime.flow_run
    context = get_run_context()
    assert isinstance(context, TaskRunContext)
    return {
        "id": task_run.id,
        "name": task_run.name,
        "tags": task_run.tags,
        "run_count": task_run.run_count,
        "parameters": task_run.parameters,
        "task": context.task.name,
        "context": context.task_run.id,
        "flow id": flow_run.id,
        "flow name": flow_run.name,
        "flow": flow_run.flow_name,
        "start": flow_run.start_time,
        "root": flow_run.root_flow_run_id,
    }


@task
def calls_others(number: int) -> int:
    called, submitted = square(number), square.submit(number)
    square.submit(0)  # nobody waits for it but the flow
    return called + submitted.result() + inner(number)


@flow
def inner(number: int) -> int:
    return square.submit(number).result()


@task
def by_hand(number: int) -> State[int]:
    return Completed("by hand", data=number)


class Scale:
    """Tasks as methods."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @task
    def times(self, number: int) -> int:
        return self.factor * number

    @staticmethod
    @task
    def negative(number: int) -> int:
        return -number


def plain(number: int) -> int:
    return number + 1


made_of_plain = task(plain)


def unfindable() -> None: ...


of_the_unfindable = task(unfindable)
del unfindable


@task
async def async_square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def key_of_run(context: TaskRunContext, _parameters: dict[str, Any]) -> str:
    return context.task.name


RUNNER = ProcessTaskRunner(max_workers=2)


@flow(task_runner=RUNNER)
def pids_below() -> list[int]:
    return [os.getpid(), pid_of_worker.submit().result()]


@task
def calls_a_flow_with_workers() -> list[int]:
    return pids_below()
