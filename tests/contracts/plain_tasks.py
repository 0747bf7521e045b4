"""Tasks that share nothing with the code around them; worker processes import them from here."""

from __future__ import annotations

import anyio.lowlevel

from penstock import task


@task
def double(number: int) -> int:
    return number * 2


@task
async def async_double(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return number * 2


@task
def fail(reason: str) -> int:
    raise ValueError(reason)
