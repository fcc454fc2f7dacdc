"""From what a writer wrote of a document to the text that names it: tidied, not too long, and never empty."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from retgen.connect.extract import lead, plain
from retgen.errors import UsageError
from retgen.llm.prompts import DEFAULT_SUMMARY_WORDS
from retgen.text import sentences
from retgen.types import Document

Repair = Literal["", "empty", "refused"]
LEAD = "lead"
"""Who is said to have written a docid that had to be repaired: nobody, it is the document's first words."""

_ROOM = 1.5
"""A writer asked for 30 words may take 45: models count badly, and to cut a sentence costs more than a few words."""
_LABEL = re.compile(
    r"^(?:(?:sure|certainly|of course)\b[^:.!]*[:.!]\s*)?(?:here(?: is|'s|’s)\b[^:.]{0,80}:|(?:the )?summary\s*:)?\s*",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"\*\*|__|`+|^\s*(?:#+|[-*•])\s+")
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}
_REFUSAL = re.compile(
    r"^(?:i(?:'|’)?m sorry|i am sorry|sorry,|i (?:cannot|can(?:'|’)t|can not|am unable|(?:'|’)m unable)\b|as an ai\b|"
    r"i do(?:n(?:'|’)t| not) have (?:enough|any|access)|unfortunately, i\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DocidText:
    """A docid text and how it came to be.

    Args:
        text: what names the document; empty only where the document has neither text nor title.
        writer: who wrote it; `LEAD` where it was repaired.
        repair: why what was written could not be used: it was ``empty``, or the model ``refused``.
        cut: it was longer than it may be.
    """

    text: str
    writer: str
    repair: Repair = ""
    cut: bool = False


def docid_texts(
    documents: Sequence[Document], written: Sequence[str], writer: str, *, words: int = DEFAULT_SUMMARY_WORDS
) -> list[DocidText]:
    """Docid texts from summaries (D-Connectors).

    A summary loses its label ("Summary:", "Sure! Here is …:"), its markup and the quotes around it. One that is more
    than half as long again as it was asked to be is cut after its last whole sentence, or else after so many words. An
    empty one, and one that is an excuse ("I'm sorry, but …"), gives way to the document's first words.

    Args:
        documents: the collection.
        written: a summary of each.
        writer: who wrote them.
        words: that were asked for.

    Raises:
        UsageError: not as many summaries as documents, or no words.

    Example:
        >>> documents = [Document("a", "Tin melts at 232 °C. It is soft."), Document("b", "Iron rusts.")]
        >>> [docid.text for docid in docid_texts(documents, ["Summary: **Tin** is soft.", ""], "m", words=4)]
        ['Tin is soft.', 'Iron rusts.']
    """
    if len(written) != len(documents):
        raise UsageError(f"there are {len(documents)} documents and {len(written)} summaries; they must pair up")
    if words < 1:
        raise UsageError(f"a docid of {words} words was asked for", mend="Ask for 1 or more")
    return [_docid_text(document, text, writer, words) for document, text in zip(documents, written, strict=True)]


def is_refusal(text: str) -> bool:
    """Whether a completion opens as chat models do when they will not write.

    Example:
        >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("I, Claudius is a novel.")
        (True, False)
    """
    return _REFUSAL.match(text.strip()) is not None


def _docid_text(document: Document, written: str, writer: str, words: int) -> DocidText:
    text = _tidy(written)
    repair: Repair = "empty" if not any(map(str.isalnum, text)) else "refused" if is_refusal(text) else ""
    if repair:
        return DocidText(lead(document.text, words) or lead(document.title, words), LEAD, repair)
    most = int(_ROOM * words)
    if len(text.split()) <= most:
        return DocidText(text, writer)
    return DocidText(_cut(text, words, most), writer, cut=True)


def _tidy(text: str) -> str:
    text = plain(_MARKUP.sub("", plain(text)))
    text = _LABEL.sub("", text, count=1)
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _cut(text: str, words: int, most: int) -> str:
    whole = ""
    for _, end in sentences(text):
        if len(text[:end].split()) > most:
            break
        whole = text[:end]
    # A first sentence of a few words is a worse name than half a second one.
    return whole if len(whole.split()) >= words / 2 else lead(text, most)
