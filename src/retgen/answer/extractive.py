"""The best extracted span: an Answerer that needs no model, for the first minute and as a baseline.

It shows where in the best passages an answer is likely to stand. How one passage's spans are scored lives in
`retgen.answer.span_scoring`; here they are compared across a run's passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retgen.answer.span_scoring import QuestionReader
from retgen.connect.terms import TermWeights
from retgen.errors import UsageError
from retgen.pipeline import Component, check_fingerprint
from retgen.types import Answer, DocumentSource, Hit, Query, Run


@dataclass(frozen=True, slots=True)
class PassageSpan:
    """The best span of one passage.

    Args:
        doc_id: the passage.
        start: where the span starts, in characters of the passage's text.
        end: where it ends.
        text: the span.
        sentence: start and end of the sentence around it.
        score: a log-odds to compare spans of one question by; no bounds, not a probability.
    """

    doc_id: str
    start: int
    end: int
    text: str
    sentence: tuple[int, int]
    score: float


class BestSpan(Component):
    """Answers with the best short span of the run's first passages.

    Args:
        passages: how many of the run's first passages are read.
        background: from how many of the run's first passages words get their weights (inverse document frequency);
            words that all of them share tell little about where in them the answer stands.
        weights: word weights counted over a whole collection, in place of the background's.

    Raises:
        UsageError: ``passages`` or ``background`` is below 1.

    Example:
        >>> from retgen import Document
        >>> documents = {"d": Document("d", "It was cold. Marie Curie found radium in 1898.")}
        >>> run = Run.from_dict({"q": {"d": 1.0}})
        >>> answer = BestSpan().answer([Query("q", "Who found radium?")], run, documents)[0]
        >>> answer.text, answer.source, answer.details["start"]
        ('Marie Curie', 'd', 13)
    """

    def __init__(
        self,
        passages: int = 3,
        *,
        background: int = 10,
        weights: TermWeights | None = None,
    ) -> None:
        if passages < 1 or background < 1:
            raise UsageError(
                f"the best span needs at least one passage to read; got passages={passages}, background={background}"
            )
        self.passages = passages
        self.background = background
        self._weights = weights

    def answer(self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None) -> list[Answer]:
        """One answer for every query: the best span, or an empty text where the run has no passage with a candidate.

        ``Answer.score`` is the span's (no unit, not a probability); ``source`` its passage; ``details`` its sentence
        and its offsets ``start`` and ``end`` in the passage's text.

        Raises:
            UsageError: there is no run, no documents, or a query id occurs twice.
            MismatchError: the run and the documents belong to different corpora.
        """
        if run is None or documents is None:
            raise UsageError(
                "the best span is read from retrieved passages, and there are none",
                mend="Put a retriever before it: (retriever >> BestSpan()).over(index)",
            )
        if len({query.id for query in queries}) != len(queries):
            raise UsageError("a query id occurs twice", mend="Give every query its own id")
        check_fingerprint(run.fingerprint, documents, "this run")
        return [self._answer(query, run, documents) for query in queries]

    def spans(self, query: Query, run: Run, documents: DocumentSource) -> list[PassageSpan]:
        """The best span of each of the query's first passages that has one, in the run's order."""
        if query.id not in run:
            raise UsageError(f"the run lacks the query {query.id!r}", mend="Give a run over these queries")
        hits = run[query.id][: max(self.passages, self.background)]
        read = {hit.doc_id: documents[hit.doc_id] for hit in hits}
        weights = self._weights
        if weights is None:
            weights = TermWeights.from_documents(read[hit.doc_id] for hit in hits[: self.background])
        reader = QuestionReader(query.text, weights)
        found: list[PassageSpan] = []
        for hit in hits[: self.passages]:
            text = read[hit.doc_id].text
            spans = reader.spans(text, share=_share(hit, hits[0]), first=hit.rank == 1)
            best = max(spans, key=lambda span: span.score, default=None)
            if best is not None:
                words = text[best.start : best.end]
                found.append(PassageSpan(hit.doc_id, best.start, best.end, words, best.sentence, best.score))
        return found

    def _answer(self, query: Query, run: Run, documents: DocumentSource) -> Answer:
        found = self.spans(query, run, documents)
        shown = tuple(run.doc_ids(query.id)[: self.passages])
        if not found:
            return Answer(query.id, "", passages=shown)
        best = max(found, key=lambda span: span.score)
        text = documents[best.doc_id].text
        return Answer(
            query.id,
            best.text,
            best.score,
            shown,
            best.doc_id,
            {"sentence": text[slice(*best.sentence)], "start": best.start, "end": best.end},
        )


def _share(hit: Hit, first: Hit) -> float:
    """A hit's score as a share of the first one's; where scores may be negative (log-likelihoods), 1 / rank."""
    return hit.score / first.score if hit.score > 0 else 1 / hit.rank
