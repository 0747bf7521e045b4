"""The flows and tasks that the calls are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypedDict

import msgspec
from typing_extensions import TypeVar, Unpack

from penstock import State, flow, task
from penstock.states import Completed

T = TypeVar("T")
JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | None"


@dataclass
class Box(Generic[T]):
    content: T


class Crate(msgspec.Struct, Generic[T]):
    content: T


class Point(TypedDict):
    x: int


class Options(TypedDict, total=False):
    label: str
    size: int


@task
def inc(x: int, *, by: int = 1) -> int:
    return x + by


@task(retries=1)
async def fetch(x: int) -> int:
    return x


@task
def name_of(x: int) -> str:
    return str(x)


@task
def numbers(upto: int = 3) -> list[int]:
    return list(range(upto))


@task
def told(result: int | Exception) -> str:
    return repr(result)


@task
def nothing() -> None:
    return None


@task
def total(values: list[int]) -> int:
    return sum(values)


@task
def longest(values: Sequence[str], by: Mapping[str, int] | None = None) -> str:
    return max(values, key=(by or {}).__getitem__)


@task
def report(parts: dict[str, list[int]], seen: set[int] | None = None) -> str:
    return f"{parts}{seen}"


@task
def pair(both: tuple[int, str], more: tuple[int, ...] = ()) -> str:
    return f"{both}{more}"


@task
def various(*values: int, **labels: str) -> float:
    return float(len(values) + len(labels))


@task
def positional(x: int, /, label: str = "", *rest: int) -> float:
    return float(x + len(label) + len(rest))


@task
def optioned(x: int, **options: Unpack[Options]) -> str:
    return f"{x}{options}"


@task
def unboxed(box: Box[int], crate: Crate[int] | None = None) -> int:
    return box.content + (crate.content if crate else 0)


@task
def dumped(tree: JSON) -> str:
    return str(tree)


@task
def abscissa(point: Point) -> int:
    return point["x"]


@task
def length(text: str | list[str]) -> int:
    return len(text)


@task
def decoded(data: bytes) -> str:
    return data.decode()


@task
def anything(value: Any, other: object = None) -> bool:
    return value is other


@task
def listed(x: T) -> list[T]:
    return [x]


@flow
def pipeline(x: int, values: list[int]) -> str:
    return f"{x}{values}"


@flow(name="a name")
async def stream(x: int) -> str:
    return str(x)


@flow
def by_hand() -> State[str]:
    return Completed(data="a value")


@task
async def by_hand_later() -> State[str]:
    return Completed(data="a value")


class Machine:
    @task
    def work(self, x: int) -> str:
        return str(x)

    @task(retries=1)
    async def work_later(self, x: int) -> str:
        return str(x)

    @flow
    def run(self, x: int) -> str:
        return str(x)

    @task
    @classmethod
    def make(cls, x: int) -> str:
        return str(x)

    @staticmethod
    @task
    def help(x: int) -> str:
        return str(x)

    @task(retries=1)
    @staticmethod
    def tell(x: int) -> str:
        return str(x)

    @classmethod
    @flow
    async def start(cls, x: int) -> str:
        return str(x)


class BiggerMachine(Machine):
    """Inherits all of them."""
