"""`/v1/explain`: what each part of the pipeline says of one passage, token by token where it can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from retgen.errors import UnknownDocumentError
from retgen.pipeline import Explainer
from retgen.rerank.joint import JointReranker
from retgen.server.finding import finite
from retgen.server.parts import Parts
from retgen.server.responses import ExplainedPart, ExplainResponse, TokenScore
from retgen.types import Document, Query

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokensOf = Literal["query", "passage"]


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """A question and a passage of the index."""

    query: str
    doc_id: str


class Part(NamedTuple):
    """A part that explains: its name, which text its tokens are of, and the tokenizer that made them."""

    name: str
    explainer: Explainer
    tokens_of: TokensOf
    tokenizer: PreTrainedTokenizerBase | None


def explainers(parts: Parts) -> list[Part]:
    """The parts that have something to say."""
    found: list[Part] = []
    bm25 = parts.index.retriever("bm25")
    if isinstance(bm25, Explainer):
        found.append(Part("bm25", bm25, "query", None))
    reranker = parts.reranker
    if reranker is None:
        return found
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.rerank.query_likelihood import QueryLikelihood

    for part in (reranker.first, reranker.second) if isinstance(reranker, JointReranker) else (reranker,):
        if isinstance(part, CrossEncoder):
            found.append(Part("cross_encoder", part, "passage", None))
        elif isinstance(part, QueryLikelihood):
            found.append(Part("generator", part, "query", part.generator.tokenizer))
    return found


def explain(parts: Parts, jobs: Sequence[ExplainJob]) -> list[ExplainResponse | UnknownDocumentError]:
    """The responses of a batch, one after another: explanations are of one pair each."""
    return [_one(parts, job) for job in jobs]


def passage_of(parts: Parts, doc_id: str) -> Document | None:
    """The passage of that id, or in a chunked index the first of the document of that id."""
    corpus = parts.index.corpus
    for name in (doc_id, f"{doc_id}::0") if corpus.chunked else (doc_id,):
        if name in corpus:
            return corpus[name]
    return None


def _one(parts: Parts, job: ExplainJob) -> ExplainResponse | UnknownDocumentError:
    passage = passage_of(parts, job.doc_id)
    if passage is None:
        return UnknownDocumentError(job.doc_id)
    query = Query("0", job.query)
    said = [_part(part, query, passage) for part in explainers(parts)]
    components = {name: value for part in said for name, value in part.components.items()}
    if isinstance(parts.reranker, JointReranker) and all(name in components for name in parts.reranker.names):
        # Up to one constant per query: the softmax of Eq. 3 needs all candidates.
        components["joint"] = sum(weight * components[name] for name, weight in parts.reranker.weights.items())
    return ExplainResponse(
        query=job.query,
        doc_id=parts.index.corpus.document_id(passage.id),
        passage_id=passage.id,
        components=components,
        parts=said,
    )


def _part(part: Part, query: Query, passage: Document) -> ExplainedPart:
    found = part.explainer.explain(query, passage)
    special = set(part.tokenizer.all_special_tokens) if part.tokenizer is not None else set()
    return ExplainedPart(
        part=part.name,
        components=finite(found.components),
        tokens_of=part.tokens_of,
        tokens=[
            TokenScore(token=token, text=_readable(part.tokenizer, token), score=float(score), special=token in special)
            for token, score in found.tokens
            if math.isfinite(score)
        ],
    )


def _readable(tokenizer: PreTrainedTokenizerBase | None, token: str) -> str:
    return token if tokenizer is None else str(tokenizer.convert_tokens_to_string([token])).strip() or token
