"""The embedded data set: a small encyclopedia and questions about it, for demos and tests.

Facts live in ``facts/*.tsv``, sentences in ``passages/*.txt`` and question templates in
``phrasings/*.tsv``, one file per kind of entity. This module turns them into documents and
questions; the text is the same on every machine and in every run.
"""

from __future__ import annotations

from functools import cache

from retgen.almanac.entities import Entity, entities
from retgen.almanac.interrogation import SPLITS, AlmanacQuestion, questions_about
from retgen.almanac.prose import passage
from retgen.errors import UsageError
from retgen.types import Document

__all__ = ["AlmanacQuestion", "documents", "questions"]


@cache
def _documents() -> tuple[Document, ...]:
    return tuple(_document(entity) for entity in entities())


def _document(entity: Entity) -> Document:
    return Document(
        id=entity.doc_id,
        text=passage(entity),
        title=entity.title,
        metadata={"kind": entity.kind},
    )


@cache
def _questions() -> tuple[AlmanacQuestion, ...]:
    return tuple(question for entity in entities() for question in questions_about(entity))


def documents() -> list[Document]:
    """All passages of the almanac, one per entity, in a fixed order.

    Returns:
        Documents whose ids read ``country/laos``, whose title is the entity's name and whose
        metadata holds the ``kind`` of entity.

    Example:
        >>> from retgen import almanac
        >>> laos = next(d for d in almanac.documents() if d.id == "country/laos")
        >>> laos.title, laos.metadata["kind"]
        ('Laos', 'country')
    """
    return list(_documents())


def questions(split: str | None = None) -> list[AlmanacQuestion]:
    """Questions with their answers and the one passage that holds them.

    The splits share facts but no phrasing: a template asked in ``dev`` or ``test`` is never
    asked in ``train``. A model that answers the test questions has therefore learned the facts
    (or how to find them), not the wording.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``; ``None`` for all three.

    Returns:
        Questions in a fixed order, grouped by passage.

    Raises:
        UsageError: if ``split`` is not one of the three names.

    Example:
        >>> from retgen import almanac
        >>> {question.split for question in almanac.questions("test")}
        {'test'}
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)} or None")
    return [question for question in _questions() if split in (None, question.split)]
