"""Texts of another framework, ordered by a re-ranker: what every compressor, postprocessor and ranker adapter does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from retgen.errors import UsageError
from retgen.integrations.finding import numbers
from retgen.lexical import BM25
from retgen.types import Document, DocumentSource, Hit, Query, Reranker, Run

_GIVEN = "first_stage"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a text came to stand.

    Args:
        number: of the text in what was given, from 0.
        rank: from 1.
        score: the re-ranker's own, no bounds.
        components: name → score.
    """

    number: int
    rank: int
    score: float
    components: Mapping[str, float]

    @property
    def metadata(self) -> dict[str, object]:
        """What frameworks carry along: ``rank``, ``score``, ``components``."""
        return {"rank": self.rank, "score": self.score, "components": dict(self.components)}


class Orderer:
    """Orders texts by a re-ranker; from several threads one after the other, as models take turns.

    Args:
        reranker: any `Reranker`, see also `open_reranker`.

    Raises:
        UsageError: it has no method ``rerank``.
    """

    def __init__(self, reranker: object) -> None:
        if not isinstance(reranker, Reranker):
            raise UsageError(
                f"{type(reranker).__name__} has no method rerank, so it cannot order passages",
                mend="Give a CrossEncoder, a QueryLikelihood, a JointReranker, or the models' names to open_reranker",
            )
        self.reranker = reranker
        self._turn = Lock()

    def order(
        self,
        question: str,
        documents: Sequence[Document],
        k: int | None = None,
        *,
        scores: Sequence[float | None] | None = None,
    ) -> list[Placed]:
        """The documents, best first; ties keep the given order. Their ids do not matter and may repeat.

        Args:
            question: what they shall fit.
            documents: in the order they came.
            k: keep the best so many.
            scores: that they came with; where all have one, it rides along as the component ``first_stage``.

        Raises:
            UsageError: ``k`` below 1.
        """
        if k is not None and k < 1:
            raise UsageError(f"so many passages cannot be kept: {k}", mend="Keep at least 1, or say nothing for all")
        if not documents:
            return []
        known = scores is not None and all(score is not None for score in scores)
        given = [float(score or 0.0) for score in scores] if scores is not None and known else [0.0] * len(documents)
        numbered = {str(number): document for number, document in enumerate(documents)}
        texts = {key: Document(key, each.text, each.title, each.metadata) for key, each in numbered.items()}
        run = Run(["q1"], [list(texts)], [given], presorted=True)
        with self._turn:
            made = self.reranker.rerank([Query("q1", question)], run, texts, k)
        return [_placed(hit, known) for hit in made["q1"]]


def _placed(hit: Hit, known: bool) -> Placed:
    components = {name: score for name, score in numbers(hit.components).items() if known or name != _GIVEN}
    return Placed(int(hit.doc_id), hit.rank, hit.score, components)


class WordsInCommon:
    """Orders candidates by BM25 over the candidates alone: a `Reranker` for where there is no model.

    A word weighs by how few of a query's candidates have it. Candidates without a word of the query score 0 and keep
    their order after the others.

    Example:
        >>> documents = {"a": Document("a", "Tea is hot."), "b": Document("b", "Ice is cold.")}
        >>> run = Run.from_dict({"q": {"a": 2.0, "b": 1.0}})
        >>> WordsInCommon().rerank([Query("q", "what is cold?")], run, documents).doc_ids("q")
        ['b', 'a']
    """

    component = "bm25"

    def __init__(self, language: str = "english") -> None:
        self.language = language

    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        """The run's documents by BM25; see `retgen.types.Reranker`."""
        rows: list[list[float]] = []
        for query in queries:
            ids = run.doc_ids(query.id)
            if not ids:
                rows.append([])
                continue
            searched = BM25.build([documents[doc_id] for doc_id in ids], language=self.language)
            found = {hit.doc_id: hit.score for hit in searched.search([query], len(ids))[query.id]}
            rows.append([found.get(doc_id, 0.0) for doc_id in ids])
        made = Run(
            [query.id for query in queries],
            [run.doc_ids(query.id) for query in queries],
            rows,
            components={self.component: rows},
            fingerprint=run.fingerprint,
        )
        return made if k is None else made.top(k)


def open_reranker(
    *,
    cross_encoder: str | Path | None = None,
    generator: str | Path | None = None,
    generator_weight: float = 0.5,
    device: str = "auto",
) -> Reranker:
    """A re-ranker from its models' names: a cross-encoder, query likelihood, or JPR where both are given.

    Args:
        cross_encoder: a folder or hub id, p(passage | query).
        generator: a folder or hub id, p(query | passage).
        generator_weight: λ of JPR's Eq. 3, the generator's share.
        device: ``auto``, ``cpu``, ``cuda``, …

    Raises:
        UsageError: no model is named, or λ lies outside [0, 1].
        RetgenError: a model cannot be opened.
    """
    if cross_encoder is not None and generator is not None:
        from retgen.rerank.joint import JointReranker

        return JointReranker.from_pretrained(cross_encoder, generator, generator_weight, device=device)
    if cross_encoder is not None:
        from retgen.rerank.cross_encoder import CrossEncoder

        return CrossEncoder.from_pretrained(cross_encoder, device=device)
    if generator is not None:
        from retgen.rerank.query_likelihood import QueryLikelihood

        return QueryLikelihood.from_pretrained(str(generator), None, device=device)
    raise UsageError("a re-ranker needs a model", mend="Name a cross_encoder, a generator, or both for JPR")


def titled(text: str, metadata: Mapping[str, object], title_field: str | None) -> Document:
    """Another framework's text as a document. Its title is what its metadata has under ``title_field``, if a text."""
    title = metadata.get(title_field) if title_field is not None else None
    return Document("", text, title if isinstance(title, str) else "", metadata)
