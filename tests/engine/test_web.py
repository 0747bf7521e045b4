"""Flows in an ASGI application under a real server, on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from penstock import flow, history, task

pytestmark = pytest.mark.usefixtures("engine")


@task
async def fetch(x: int) -> int:
    await anyio.sleep(0.05)
    return x


@task
def crunch(x: int) -> int:
    time.sleep(0.01)
    return x * x


@flow
async def answer(n: int) -> int:
    parts = [crunch.submit(fetch.submit(i)) for i in range(n)]
    return sum([await part for part in parts])


async def endpoint(request: Request) -> JSONResponse:
    return JSONResponse({"answer": await answer(int(request.path_params["n"]))})


@pytest.fixture
def server() -> Iterator[str]:
    app = Starlette(routes=[Route("/{n:int}", endpoint)])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def test_an_application_awaits_flows_concurrently(server: str) -> None:
    async def ask(client: httpx.AsyncClient, n: int, answers: dict[int, int]) -> None:
        response = await client.get(f"{server}/{n}")
        answers[n] = response.json()["answer"]

    async def main() -> dict[int, int]:
        answers: dict[int, int] = {}
        async with httpx.AsyncClient() as client, anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(ask, client, n, answers)
        return answers

    assert anyio.run(main) == {n: sum(i * i for i in range(n)) for n in range(20)}
    runs = history.flow_runs(flow="answer", state="COMPLETED")
    assert len(runs) == 20
    overlapping = sum(
        a.states[1].timestamp < b.states[-1].timestamp
        and b.states[1].timestamp < a.states[-1].timestamp
        for a in runs
        for b in runs
        if a.id != b.id
    )
    assert overlapping > 0
