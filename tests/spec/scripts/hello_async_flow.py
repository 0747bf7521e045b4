# The page's caching example, its flow an async one.
from datetime import timedelta

from penstock import flow, task
from penstock.tasks import task_input_hash


@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(minutes=1))
def hello_task(name_input: str) -> str:
    print(f"Saying hello {name_input}")
    return "hello " + name_input


@flow
async def hello_flow(name_input: str) -> None:
    hello_task(name_input)
