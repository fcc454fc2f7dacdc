"""A writer for tests: it joins what it is given, and remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from retgen.types import Answer, Connector, Document, Query


@dataclass(frozen=True)
class Enhancement:
    """What one call of ``enhance`` was given."""

    queries: list[Query]
    documents: list[list[Document]]
    answers: list[Answer | str]
    words: int
    round: int


@dataclass
class Scribe:
    """Joins question, documents' titles and answer; contexts of round 0 say ``first`` before the question."""

    name: str = "scribe"
    contexts_asked: list[tuple[str, int]] = field(default_factory=list)
    enhanced: list[Enhancement] = field(default_factory=list)

    def summarise(self, documents: Sequence[Document], words: int = 30) -> list[str]:
        return [document.text for document in documents]

    def contextualise(self, queries: Sequence[Query], words: int = 60) -> list[Connector]:
        self.contexts_asked += [(query.id, words) for query in queries]
        return [Connector(f"first {query.text}", self.name) for query in queries]

    def answer(self, queries: Sequence[Query], documents: Sequence[Document]) -> list[str]:
        return ["" for _ in queries]

    def enhance(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int = 60,
        round: int = 1,
    ) -> list[Connector]:
        self.enhanced.append(Enhancement(list(queries), [list(row) for row in documents], list(answers), words, round))
        joined = []
        for query, found, answer in zip(queries, documents, answers, strict=True):
            said = answer if isinstance(answer, str) else answer.text
            titles = " ".join(document.title for document in found)
            joined.append(Connector(f"{query.text} {titles} {said}", self.name, round))
        return joined
