"""The parts of a served pipeline, opened: index, re-ranker, answerer. What is asked of them, other modules say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retgen.errors import UsageError
from retgen.index import Index
from retgen.lexical import BM25
from retgen.server.settings import PipelineSettings

if TYPE_CHECKING:
    from retgen.answer.reading import ReadingAnswerer
    from retgen.generative.unigen import UniGen
    from retgen.rerank.candidates import CandidateReranker
    from retgen.rerank.joint import JointReranker

UNIGEN = "unigen"
RerankerKind = Literal["cross-encoder", "query-likelihood", "jpr"]
AnswererKind = Literal["best-span", "unigen", "fid", "rag", "closed-book"]
_SPAN_PASSAGES = 3
_ANSWERERS: dict[str, AnswererKind] = {"FiD": "fid", "Rag": "rag", "ClosedBook": "closed-book"}


@dataclass(frozen=True)
class Parts:
    """An opened pipeline. It is replaced, not changed, when documents come or go.

    Args:
        settings: what it was opened from.
        index: with all its retrievers open.
        retriever: the default one's name.
        system: a UniGen, which finds and answers.
        reranker: of kind ``reranker_kind``.
        reranker_kind: None without one.
        reader: a trained reader; without one and without a system, the best span answers.
        top_k: passages an answer is read from.
        candidates: passages that are retrieved at least.
    """

    settings: PipelineSettings
    index: Index
    retriever: str
    system: UniGen | None = None
    reranker: CandidateReranker | JointReranker | None = None
    reranker_kind: RerankerKind | None = None
    reader: ReadingAnswerer | None = None
    top_k: int = _SPAN_PASSAGES
    candidates: int = 10
    _starts: list[tuple[str, int]] | None = field(default=None, repr=False)

    @property
    def retrievers(self) -> tuple[str, ...]:
        """Names that requests may give as ``with``."""
        return (*self.index.retrievers, *([UNIGEN] if self.system is not None else []))

    @property
    def answerer_kind(self) -> AnswererKind:
        """What answers."""
        if self.system is not None:
            return "unigen"
        return "best-span" if self.reader is None else _ANSWERERS[type(self.reader).__name__]

    @property
    def weights(self) -> dict[str, float]:
        """Component → its weight in the re-ranker's order; one component alone has all of it."""
        if self.reranker is None:
            return {}
        return dict(getattr(self.reranker, "weights", None) or {self.reranker.component: 1.0})

    @property
    def language(self) -> str:
        """Of the index' BM25."""
        bm25 = self.index.retriever("bm25")
        return bm25.settings.language if isinstance(bm25, BM25) else "none"

    @property
    def cannot_change(self) -> str | None:
        """Why documents cannot be added or removed; None where they can."""
        if self.settings.read_only:
            return "this server was started read-only"
        if self.system is not None:
            return "the loaded UniGen finds the documents it was given docids of, and its server cannot name others yet"
        return self.index.cannot_change

    def over(self, index: Index) -> Parts:
        """The same models over an index whose documents changed."""
        open_all(index)
        return replace(self, index=index, _starts=document_starts(index))

    @property
    def document_count(self) -> int:
        """How many documents there are; chunks are not counted."""
        return len(self.index) if self._starts is None else len(self._starts)

    def document_at(self, number: int) -> tuple[str, int]:
        """The id of the document with this number, and the number of its first passage."""
        if self._starts is not None:
            return self._starts[number]
        return self.index.corpus.at(number).id, number


def open_parts(settings: PipelineSettings, told: Callable[[str], None] = lambda _step: None) -> Parts:
    """Open an index and the models over it.

    Args:
        settings: which.
        told: called with the name of each thing before it is opened.

    Raises:
        ArtefactError: a folder is missing, torn or of another kind.
        FormatError: a model cannot be loaded.
        MismatchError: a model was trained on another corpus.
        UsageError: a setting that the index or a model does not have.
    """
    told(f"the index {settings.index}")
    index = Index.open(settings.index)
    open_all(index)
    system = None
    if settings.model is not None:
        told(f"the model {settings.model}")
        system = _system(settings, settings.model, index)
    retriever = settings.retriever or (UNIGEN if system is not None else "bm25")
    if retriever != UNIGEN:
        index.retriever(retriever)
    if settings.reranker is not None:
        told(f"the re-ranker ({settings.reranker})")
    reranker = _reranker(settings)
    reader = None
    if settings.reader is not None:
        from retgen.answer.folder import open_reader

        told(f"the reader {settings.reader}")
        reader = open_reader(settings.reader, device=settings.device)
    top_k = settings.top_k or (reader.passages if reader is not None else _SPAN_PASSAGES)
    wanted = settings.candidates if reranker is not None else 10
    return Parts(
        settings,
        index,
        retriever,
        system,
        reranker,
        settings.reranker,  # type: ignore[arg-type]
        reader,
        top_k,
        max(wanted, top_k),
        document_starts(index),
    )


def open_all(index: Index) -> None:
    """Open every retriever now: later the folder may be another one."""
    for name in index.retrievers:
        index.retriever(name)


def document_starts(index: Index) -> list[tuple[str, int]] | None:
    """Of a chunked index: each document's id and the number of its first chunk; else None."""
    if not index.corpus.chunked:
        return None
    starts: list[tuple[str, int]] = []
    for number, passage_id in enumerate(index.corpus.ids):
        doc_id = index.corpus.document_id(passage_id)
        if not starts or starts[-1][0] != doc_id:
            starts.append((doc_id, number))
    return starts


def _system(settings: PipelineSettings, model: Path, index: Index) -> UniGen:
    from retgen.generative.over_index import open_unigen

    system = open_unigen(model, index, device=settings.device)
    # As many beams for every request, so that what one finds does not depend on what another asks for.
    system.settings = replace(system.settings, num_beams=max(system.settings.num_beams, settings.top_k or 0))
    if system.model.answer_decoder is None:
        raise UsageError(
            "this model finds documents and writes no answers, and a served model does both",
            where=model,
            mend="Serve one that was trained to answer",
        )
    return system


def _reranker(settings: PipelineSettings) -> CandidateReranker | JointReranker | None:
    kind = settings.reranker
    if kind is None:
        return None
    from retgen.models.quiet import no_progress_bars
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.rerank.joint import JointReranker
    from retgen.rerank.query_likelihood import QueryLikelihood

    first, second, device = str(settings.cross_encoder), str(settings.generator), settings.device
    with no_progress_bars():
        if kind == "cross-encoder":
            return CrossEncoder.from_pretrained(first, preset=settings.preset or "jpr", device=device)
        if kind == "query-likelihood":
            return QueryLikelihood.from_pretrained(second, settings.preset, device=device)
        return JointReranker.from_pretrained(
            first, second, settings.generator_weight, preset=settings.preset, device=device
        )
