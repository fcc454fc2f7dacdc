"""How passages are shown: a snippet around what matters, with it marked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from retgen.text import Span, sentences

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from retgen.index import Index
    from retgen.lexical import Analyzer
    from retgen.types import Document, Run

SNIPPET_CHARACTERS = 240
ELLIPSIS = "…"


def matching_words(text: str, question: str, analyse: Analyzer) -> list[Span]:
    """Where the text has words with the question's stems."""
    from retgen.text import word_spans

    wanted = set(analyse(question))
    return [span for span in word_spans(text) if wanted & set(analyse(text[slice(*span)]))]


def best_sentence(text: str, marks: Sequence[Span]) -> Span:
    """The sentence with the most marks, the first among equals; empty for an empty text."""
    spans = sentences(text) or [(0, len(text))]
    return max(spans, key=lambda span: sum(span[0] <= start < span[1] for start, _ in marks))


def snippet(text: str, sentence: Span, marks: Sequence[Span]) -> tuple[str, list[Span]]:
    """At most `SNIPPET_CHARACTERS` of a text around a sentence's first mark, and the marks' places in it."""
    start, end = sentence
    inside = [mark for mark in marks if start <= mark[0] and mark[1] <= end]
    if end - start > SNIPPET_CHARACTERS:
        middle = inside[0][0] if inside else start
        start = max(start, min(middle - SNIPPET_CHARACTERS // 3, end - SNIPPET_CHARACTERS))
        end = min(end, start + SNIPPET_CHARACTERS)
    else:
        while (following := text.find(" ", end + 1)) != -1 and following - start <= SNIPPET_CHARACTERS:
            end = following
        if len(text) - start <= SNIPPET_CHARACTERS:
            end = len(text)
    before = ELLIPSIS if start > 0 else ""
    shown = before + text[start:end].replace("\n", " ") + (ELLIPSIS if end < len(text) else "")
    moved = len(before) - start
    return shown, [(a + moved, b + moved) for a, b in marks if start <= a and b <= end]


def marked(text: str, marks: Sequence[Span], style: str = "bold green") -> Text:
    """A text with its marks in colour."""
    from rich.text import Text

    shown = Text(text)
    for start, end in marks:
        shown.stylize(style, start, end)
    return shown


def indented(text: Text) -> RenderableType:
    """A text five columns in, also where a terminal breaks its lines; elsewhere one line, whole."""
    from rich.padding import Padding
    from rich.text import Text

    return Padding(text, (0, 0, 0, 5)) if sys.stdout.isatty() else Text("     ") + text


def title_of(document: Document) -> str:
    """The title, or the id where there is none."""
    return document.title or document.id


def first_passages(index: Index, passages: Run, query_id: str) -> dict[str, str]:
    """Document → its best passage: itself, or in a chunked index its first chunk in the run."""
    first: dict[str, str] = {}
    for passage_id in passages.doc_ids(query_id):
        first.setdefault(index.corpus.document_id(passage_id), passage_id)
    return first
