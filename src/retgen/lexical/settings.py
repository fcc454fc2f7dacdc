"""What BM25 is told: fields and weights, language, k1 and b; and how a document gives a field its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retgen.errors import UsageError
from retgen.lexical.analyzer import Analyzer
from retgen.types import Document

FLAT: Mapping[str, float] = {"contents": 1.0}


@dataclass(frozen=True, slots=True)
class BM25Settings:
    """How texts become terms and terms become scores.

    Args:
        fields: field → weight. A field is ``contents`` (title and text as one), ``title``, ``text``, or the name of a
            metadata value. Each field has its own term statistics; a document's score is the weighted sum.
        language: the analyser's, see `retgen.lexical.languages`.
        k1: how soon repetitions of a term stop counting. 0.9 and b = 0.4 are Anserini's, which BEIR's tables use.
        b: how much a field's length counts, from 0 (not) to 1.
    """

    fields: Mapping[str, float]
    language: str
    k1: float
    b: float

    @classmethod
    def of(cls, fields: str | Mapping[str, float], language: str, k1: float, b: float) -> BM25Settings:
        """Checked settings; ``"flat"`` stands for one field of title and text.

        Raises:
            UsageError: a value that cannot be used.
        """
        if isinstance(fields, str):
            if fields != "flat":
                raise UsageError(
                    f"fields must be 'flat' or a mapping of field to weight; got {fields!r}",
                    mend='For example fields={"title": 1.0, "text": 1.0}',
                )
            fields = FLAT
        if not fields or any(not weight > 0 for weight in fields.values()):
            raise UsageError(f"BM25 needs at least one field, each with a weight above 0; got {dict(fields)}")
        if k1 < 0 or not 0 <= b <= 1:
            raise UsageError(f"BM25 needs k1 >= 0 and b from 0 to 1; got k1={k1}, b={b}")
        Analyzer(language)
        return cls({name: float(weight) for name, weight in fields.items()}, language, float(k1), float(b))


def field_text(document: Document, name: str) -> str:
    """The text of one field; a metadata list is joined by spaces, a missing value is empty."""
    if name == "contents":
        return document.contents
    if name == "title":
        return document.title
    if name == "text":
        return document.text
    value = document.metadata.get(name, "")
    return " ".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
