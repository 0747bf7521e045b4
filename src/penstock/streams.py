"""Streams: the results of one run an item, for iterables of any length, in bounded memory."""

from penstock._calls.streams import ResultStream
from penstock._model.publishing import publish

__all__ = ["ResultStream"]

publish(__name__, __all__)
