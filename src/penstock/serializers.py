"""Serializers: how results become bytes, and values again."""

from penstock._model.publishing import publish
from penstock._model.serializers import (
    CompressedSerializer,
    CompressionLibrary,
    JSONSerializer,
    MsgpackSerializer,
    PickleSerializer,
    Serializer,
)

__all__ = [
    "CompressedSerializer",
    "CompressionLibrary",
    "JSONSerializer",
    "MsgpackSerializer",
    "PickleSerializer",
    "Serializer",
]

publish(__name__, __all__)
