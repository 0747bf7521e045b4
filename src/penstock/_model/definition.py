"""What a run refers to: its flow or task, in one version and with its tags.

Why: docs/inside/run.md, "Tags belong to the definition".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

import msgspec


class RunKind(StrEnum):
    """The two kinds of run."""

    FLOW = "flow"
    TASK = "task"


class Definition(msgspec.Struct, frozen=True):
    """A flow or a task as its runs refer to it.

    Attributes:
        id: 63 bits of a hash over all that follows.
        kind: flow or task.
        name: as given to the decorator.
        key: module and qualified name of the function.
        version: as given, or the hash of the defining file.
        description: as given, or the docstring.
        tags: as given to the decorator and by `penstock.tags`, sorted.
    """

    id: int
    kind: RunKind
    name: str
    key: str
    version: str | None
    description: str | None
    tags: tuple[str, ...]


def make_definition(
    kind: RunKind,
    name: str,
    key: str,
    version: str | None,
    description: str | None,
    tags: Sequence[str],
) -> Definition:
    """A definition with the id that follows from all the rest."""
    text = repr((kind.value, name, key, version, description, tuple(tags)))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    id_ = int.from_bytes(digest[:8], "big") >> 1
    return Definition(id_, kind, name, key, version, description, tuple(tags))


@lru_cache(maxsize=1024)
def with_tags(definition: Definition, tags: frozenset[str]) -> Definition:
    """The definition of runs that have these tags besides its own."""
    return make_definition(
        definition.kind,
        definition.name,
        definition.key,
        definition.version,
        definition.description,
        sorted(tags.union(definition.tags)),
    )
