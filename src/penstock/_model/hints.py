"""Hints: which known name an unknown one was probably meant to be."""

from __future__ import annotations

from collections.abc import Collection


def nearest(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """The known name that resembles it most, by at least `cutoff` (from 0 to 1); else None."""
    from difflib import get_close_matches  # imported only for errors, as it is slow to import

    near = get_close_matches(name, known, n=1, cutoff=cutoff)
    return near[0] if near else None


def hint(name: str, known: Collection[str]) -> str:
    """What an error says about an unknown name."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else f"there are {', '.join(known)}"
