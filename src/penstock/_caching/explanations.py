"""Explanations: what a call has in common with entries of the cache, and what differs.

An explanation compares hashes that were stored with the entries, so it needs neither the old
arguments nor the old code. A key that a function of the user's made has no known parts, and is
compared with no entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal
from uuid import UUID

import msgspec

from penstock._model.codecs import storable_text
from penstock._model.rows import CacheRow

ENTRIES_COMPARED: Final = 100
"""How many entries of a task a call is compared with: the newest ones."""
_BYTES_OF_PARTS: Final = 2048
"""Parts beyond this size become one, as they are written with each entry and read for each miss."""
_NAME_LENGTH: Final = 200
_REST: Final = "the rest of the code"


class CacheDifference(msgspec.Struct, frozen=True):
    """A part of the key that is not the same in the nearest entry.

    Attributes:
        part: such as `argument city` or `code of helpers.clean`.
        how: `differs`, `is new`: only this call has it, or `is gone`: only the entry has it.
    """

    part: str
    how: Literal["differs", "is new", "is gone"]

    def __str__(self) -> str:
        return f"{self.part} {self.how}"


class CacheExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the cache serves a call of a task, and what differs where it does not.

    Attributes:
        task: the task's name.
        outcome: `hit`, `miss`, or `uncached` where no result is looked up.
        key: the key of the call; None: it has none.
        reason: why, where the differences do not say it.
        differences: from the nearest entry, the one of the task that shares most parts.
        run_id: the task run that made the result that was found, or that entry.
        created_at: when that entry was made (UTC).
    """

    task: str
    outcome: Literal["hit", "miss", "uncached"]
    key: str | None = None
    reason: str | None = None
    differences: tuple[CacheDifference, ...] = ()
    run_id: UUID | None = None
    created_at: datetime | None = None

    def __str__(self) -> str:
        said = [f"Task '{self.task}': {self.outcome}", *filter(None, [self.reason])]
        if self.differences:
            said.append(", ".join(map(str, self.differences)))
        if self.created_at is not None:
            said.append(f"compared with task run {self.run_id} of {self.created_at:%F %T} UTC")
        return "; ".join(said)

    def __repr__(self) -> str:
        return f"<CacheExplanation {self}>"

    @classmethod
    def uncached(cls, task: str, reason: str) -> CacheExplanation:
        """The explanation of a call for which no result is looked up."""
        return cls(task=task, outcome="uncached", reason=reason)

    @classmethod
    def hit(cls, task: str, key: str, run_id: bytes) -> CacheExplanation:
        """The explanation of a call that the cache serves."""
        found = UUID(bytes=run_id)
        reason = f"the result is that of task run {found}"
        return cls(task=task, outcome="hit", key=key, reason=reason, run_id=found)

    @classmethod
    def miss(
        cls, task: str, key: str, parts: Mapping[str, bytes], entries: Sequence[CacheRow]
    ) -> CacheExplanation:
        """The explanation of a call for which there is no result.

        Args:
            task: its name.
            key: the key of the call.
            parts: the parts of the key; empty where they are not known.
            entries: those of the task, newest first.
        """
        if not parts:
            reason = "the key was made by a function, and there is no result under it"
            return cls(task=task, outcome="miss", key=key, reason=reason)
        stored = decode_parts(encode_parts(parts))  # names and sizes as in the entries
        nearest = _nearest(stored, entries)
        if nearest is None:
            return cls(task=task, outcome="miss", key=key, reason="the task has no entries yet")
        entry, differences = nearest
        return cls(
            task=task,
            outcome="miss",
            key=key,
            reason=None if differences else "no part differs, but the entry has expired or is gone",
            differences=differences,
            run_id=UUID(bytes=entry.run_id),
            created_at=datetime.fromtimestamp(entry.created_at, UTC),
        )


def _nearest(
    parts: Mapping[str, bytes], entries: Iterable[CacheRow]
) -> tuple[CacheRow, tuple[CacheDifference, ...]] | None:
    """The entry that shares most parts, the newest of several, and what differs from it."""
    known = [(row, decode_parts(row.parts)) for row in entries if row.parts is not None]
    if not known:
        return None
    row, closest = max(known, key=lambda entry: len(parts.items() & entry[1].items()))
    return row, tuple(_differences(parts, closest))


def _differences(
    parts: Mapping[str, bytes], others: Mapping[str, bytes]
) -> Iterator[CacheDifference]:
    for name in [*parts, *(name for name in others if name not in parts)]:
        if name not in others:
            yield CacheDifference(name, "is new")
        elif name not in parts:
            yield CacheDifference(name, "is gone")
        elif parts[name] != others[name]:
            yield CacheDifference(name, "differs")


# As the entries keep them


@lru_cache(maxsize=4096)
def number_of_task(task_key: str) -> int:
    """A number of 63 bits that stands for the task in the entries."""
    digest = hashlib.sha256(task_key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def encode_parts(parts: Mapping[str, bytes]) -> bytes:
    """The names of parts with short hashes, arguments first; those that do not fit become one."""
    kept: dict[str, bytes] = {}
    rest: list[bytes] = []
    left = _BYTES_OF_PARTS
    for name, part in sorted(parts.items(), key=_is_code):
        short_name = storable_text(name)[:_NAME_LENGTH]
        left -= len(short_name.encode()) + 12
        if left > 0:
            kept[short_name] = _short(part)
        else:
            rest.append(_short(part))
    if rest:
        kept[_REST] = _short(b"".join(rest))
    return msgspec.msgpack.encode(kept)


_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode


def decode_parts(parts: bytes | None) -> dict[str, bytes]:
    """The inverse of `encode_parts`: short hashes by name."""
    return {} if parts is None else _decode(parts)


def _is_code(part: tuple[str, bytes]) -> bool:
    return part[0].startswith(("code ", "constant ", "library "))


def _short(part: bytes) -> bytes:
    return hashlib.blake2b(part, digest_size=8).digest()
