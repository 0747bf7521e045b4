from collections.abc import Callable
from typing import ParamSpec, TypedDict, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

class DBOSConfig(TypedDict):
    name: str
    system_database_url: str
    log_level: str

class DBOS:
    def __init__(self, *, config: DBOSConfig) -> None: ...
    @classmethod
    def launch(cls) -> None: ...
    @classmethod
    def destroy(cls) -> None: ...
    @classmethod
    def step(cls) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
    @classmethod
    def workflow(cls) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
