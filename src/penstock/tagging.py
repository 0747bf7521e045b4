"""Tags for runs: all that is called inside `tags` has them, besides those of its definition."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from penstock._calls.definitions import tag_tuple
from penstock._rules.current import current_tags

__all__ = ["tags"]


@contextmanager
def tags(*names: str) -> Generator[frozenset[str]]:
    """Give these tags to all flow runs and task runs that are made inside.

    It gives all the tags of the place; inside another one, they are those of both. They follow the
    code wherever context variables do: into the flows and tasks that are called inside, and all
    that these call, on whatever thread or loop. A plain `threading.Thread` has none of them.

    Args:
        names: the tags. Few and short: each set of them is kept, with each definition that has it.

    Raises:
        ConfigurationError: a tag is no text, or an empty one.

    Examples:
        ::

            with tags("nightly", "eu"):
                pipeline()
    """
    inside = frozenset(tag_tuple(names, "tags()")).union(current_tags.get() or ())
    token = current_tags.set(inside or None)
    try:
        yield inside
    finally:
        current_tags.reset(token)
