"""Questions in, passages with their texts out: what every retriever adapter does before it converts them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from retgen.answer.citations import Citation, citations_of
from retgen.errors import UsageError
from retgen.index import Index, metadata_filter
from retgen.pipeline import Pipeline, as_queries
from retgen.types import Answer, Document, DocumentFilter, Hit, Query, Run

DEPTH = 100
"""Passages that are found for re-rankers to order, unless told."""
Filter = Mapping[str, str] | DocumentFilter | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found.

    Args:
        document: its text, title and metadata.
        hit: its rank (from 1), score and component scores.
        answer: what was answered from it; empty where nothing was.
        citation: its share in that answer, and where in its text the answer stands; None where it has none.
    """

    document: Document
    hit: Hit
    answer: str = ""
    citation: Citation | None = None

    @property
    def metadata(self) -> dict[str, object]:
        """What frameworks carry along: the document's own metadata; above them what the search says of it.

        ``doc_id``, ``title``, ``rank``, ``score``, ``components`` (name → score); and where an answerer read it
        ``citation``: ``answer``, ``share`` (0 to 1), and ``start`` and ``end`` in the text, None where the answer's
        words do not stand there.
        """
        found: dict[str, object] = {
            **self.document.metadata,
            "doc_id": self.document.id,
            "title": self.document.title,
            "rank": self.hit.rank,
            "score": self.hit.score,
            "components": numbers(self.hit.components),
        }
        if self.citation is not None:
            cited = self.citation
            found["citation"] = {
                "answer": self.answer,
                "share": cited.share,
                "start": cited.start,
                "end": cited.end,
            }
        return found


class Found(NamedTuple):
    """What one question found: passages, best first, and the answer where there is an answerer."""

    passages: list[Passage]
    answer: Answer | None


class Finder:
    """Asks questions of an index or a pipeline; from several threads one after the other, as models take turns.

    Args:
        source: an `Index`, the path of one, or a `Pipeline` (``(BM25() >> cross_encoder).over(index)``).
        k: passages for each question.
        retriever: of the index; a pipeline has its own.
        then: re-rankers, and an answerer last, that go over what the index found; a pipeline has its own.
        candidates: passages that are found before re-rankers order them; `DEPTH`, or ``k`` where there are none.

    Raises:
        UsageError: a source that is none of these, an option that a pipeline has itself, or a number below 1.
        ArtefactError: the index is missing, torn or foreign.
    """

    def __init__(
        self,
        source: Index | Pipeline | str | Path,
        *,
        k: int = 10,
        retriever: str | None = None,
        then: Sequence[object] = (),
        candidates: int | None = None,
    ) -> None:
        opened = Index.open(source) if isinstance(source, str | Path) else source
        if not isinstance(opened, Index | Pipeline):
            raise UsageError(
                f"passages are found in an Index or a Pipeline, not in {type(opened).__name__}",
                mend="Give Index.open(path), its path, or (retriever >> reranker).over(index)",
            )
        if isinstance(opened, Pipeline) and (retriever is not None or then):
            raise UsageError(
                "a pipeline has its own retriever and parts", mend="Give the index itself for these options"
            )
        for name, number in (("k", k), ("candidates", candidates)):
            _at_least_one(name, number)
        self.source = opened
        self.k = k
        self.retriever = retriever or "bm25"
        self.candidates = candidates
        self._then = Pipeline(then, opened) if then and isinstance(opened, Index) else None
        if isinstance(opened, Index):
            opened.retriever(self.retriever)
        self._turn = Lock()

    def find(self, question: str, k: int | None = None, *, filter: Filter = None) -> Found:
        """The best passages for one question. See `find_all`."""
        return self.find_all([Query("q1", question)], k, filter=filter)[0]

    def find_all(self, questions: Sequence[str | Query], k: int | None = None, *, filter: Filter = None) -> list[Found]:
        """The best passages for every question, in the questions' order.

        Args:
            questions: texts, or queries with unique ids.
            k: so many for each; those of the constructor by default.
            filter: keeps passages: a function of the document, or values that its metadata must have.

        Raises:
            UsageError: ``k`` below 1, a query id twice, or a filter for a pipeline, which takes none.
        """
        _at_least_one("k", k)
        wanted = k or self.k
        asked = as_queries(questions)
        with self._turn:
            run, answers = self._run(asked, wanted, metadata_filter(filter) if isinstance(filter, Mapping) else filter)
            given = dict(zip((query.id for query in asked), answers, strict=True)) if answers else {}
            return [self._found(run[query.id][:wanted], given.get(query.id)) for query in asked]

    def _run(self, asked: Sequence[Query], k: int, keep: DocumentFilter | None) -> tuple[Run, list[Answer]]:
        if isinstance(self.source, Pipeline):
            if keep is not None:
                raise UsageError(
                    "a pipeline takes no filter",
                    mend="Give the index itself, or build the pipeline on what the filter keeps",
                )
            return self.source(asked, k=max(k, self._depth(self.source)))
        depth = max(k, self._depth(self._then))
        run = self.source.search_passages(asked, depth, retriever=self.retriever, filter=keep).top(depth)
        return (run, []) if self._then is None else self._then(asked, run=run)

    def _depth(self, pipeline: Pipeline | None) -> int:
        return self.candidates or (DEPTH if pipeline is not None and pipeline.rerankers else 1)

    def _found(self, hits: Sequence[Hit], answer: Answer | None) -> Found:
        documents = self.source.corpus if isinstance(self.source, Index) else self.source.documents
        cited = {} if answer is None else {each.doc_id: each for each in citations(answer)}
        text = "" if answer is None else answer.text
        return Found([Passage(documents[hit.doc_id], hit, text, cited.get(hit.doc_id)) for hit in hits], answer)


def citations(answer: Answer) -> list[Citation]:
    """What an answer stands on: a reader's citations, or the one passage that an extracted span was read from."""
    if answer.source is None or "citations" in answer.details:
        return citations_of(answer)
    start, end = answer.details.get("start"), answer.details.get("end")
    if isinstance(start, int) and isinstance(end, int):
        return [Citation(answer.source, 1.0, start, end)]
    return [Citation(answer.source, 1.0)]


def numbers(components: Mapping[str, float]) -> dict[str, float]:
    """Component scores, without those that a document lacks (not a number), which JSON cannot hold."""
    return {name: score for name, score in components.items() if math.isfinite(score)}


def _at_least_one(name: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise UsageError(f"{name} must be at least 1; got {number}")
