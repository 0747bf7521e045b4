# The page's caching example, its flow and its task async ones.
from datetime import timedelta

import anyio.lowlevel

from penstock import flow, task
from penstock.tasks import task_input_hash


@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(minutes=1))
async def hello_task(name_input: str) -> str:
    await anyio.lowlevel.checkpoint()
    print(f"Saying hello {name_input}")
    return "hello " + name_input


@flow
async def hello_flow(name_input: str) -> None:
    await hello_task(name_input)
