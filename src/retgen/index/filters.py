"""Metadata filters: conditions on the values that documents carry."""

from __future__ import annotations

from collections.abc import Mapping

from retgen.types import Document, DocumentFilter


def metadata_filter(conditions: Mapping[str, str]) -> DocumentFilter:
    """A filter that keeps documents whose metadata have all of these values; for a list, one of its values.

    Values are compared as text, so ``{"year": "1999"}`` also finds the number 1999.

    Example:
        >>> keep = metadata_filter({"year": "1999"})
        >>> keep(Document("a", "", metadata={"year": 1999})), keep(Document("b", "", metadata={"year": [1998]}))
        (True, False)
    """

    def keep(document: Document) -> bool:
        return all(wanted in _as_texts(document.metadata.get(name)) for name, wanted in conditions.items())

    return keep


def _as_texts(value: object) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
