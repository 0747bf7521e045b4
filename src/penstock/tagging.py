"""Tags for runs: all that is called inside `tags` gets them, besides the tags of the decorator."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from penstock._model import checks
from penstock._rules.current_run import current_tags

__all__ = ["tags"]


@contextmanager
def tags(*names: str) -> Generator[frozenset[str]]:
    """Give these tags to all flow runs and task runs that are made inside.

    They are passed on wherever context variables are: to the flows and tasks that are called
    inside, and to all that these call, on any thread or loop. A plain `threading.Thread` has none
    of them.

    Args:
        names: the tags. Use few and short ones: each flow or task is recorded once for each
            different set of tags.

    Yields:
        All tags in force inside: these, and those of enclosing `tags`.

    Raises:
        ConfigurationError: a tag is no string, or is blank.

    Examples:
        ::

            with tags("nightly", "eu"):
                pipeline()
    """
    inside = frozenset(checks.distinct_strings(names, "tags", "tags()")).union(
        current_tags.get() or ()
    )
    token = current_tags.set(inside or None)
    try:
        yield inside
    finally:
        current_tags.reset(token)
