"""What somebody may have meant by a name that there is not."""

from __future__ import annotations

from collections.abc import Collection


def nearest(name: str, known: Collection[str], likeness: float = 0.6) -> str | None:
    """The known name that resembles it most; None: none does, by `likeness` from 0 to 1."""
    from difflib import get_close_matches  # imported where it is used, as it takes its time

    near = get_close_matches(name, known, n=1, cutoff=likeness)
    return near[0] if near else None


def hint(name: str, known: Collection[str]) -> str:
    """What an error says of it."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else f"there are {', '.join(known)}"
