"""A collection's questions with BM25's candidates: what a re-ranker is trained on, and what it gains on others."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.text import has_answer
from retgen.train.candidates import TOP_N, LabelStatistics, TrainingCandidates, from_answers, from_qrels
from retgen.train.cross_encoder import DevCandidates
from retgen.train.improvement import Gain, run_gains
from retgen.train.questions import CollectionQuestions
from retgen.types import Qrels, Reranker, Retriever, Triplet

GOLD, HAS_ANSWER = "gold", "has-answer"
MEASURES = ("Success@1", "RR@10", "nDCG@10")


@dataclass(frozen=True, slots=True)
class RerankingQuestions:
    """The questions of a collection as a re-ranker learns from them and is measured by them.

    Args:
        train: the training share, less dev, labelled.
        dev: of the training share, not trained on: measured while training. None where there is none.
        held_out: what nothing is chosen by. None where there is none.
    """

    train: TrainingCandidates
    dev: DevCandidates | None
    held_out: DevCandidates | None

    @property
    def statistics(self) -> LabelStatistics:
        """Of labelling the training share."""
        return self.train.statistics


def reranking_questions(
    corpus: Corpus,
    retriever: Retriever,
    questions: CollectionQuestions,
    *,
    labels: str = GOLD,
    top_n: int = TOP_N,
    most_held_out: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> RerankingQuestions:
    """Search every question's candidates and label them.

    Args:
        corpus: the collection.
        retriever: the first stage.
        questions: of it, see `retgen.train.questions.collection_questions`.
        labels: ``gold`` (a question's documents are relevant) or ``has-answer`` (a passage that holds one of its
            answers is, as DPR counts it). What is measured goes by them too.
        top_n: candidates of a question.
        most_held_out: held-out questions at most, a sample by the hash of their ids.
        progress: called with (questions labelled, questions in all) where answers are looked for.

    Raises:
        UsageError: unknown labels, or no training question has a relevant candidate.
    """
    if labels not in (GOLD, HAS_ANSWER):
        raise UsageError(f"unknown labels {labels!r}", mend=f"Choose {GOLD} or {HAS_ANSWER}")
    asked = [triplet.query for triplet in questions.train]
    run = retriever.search(asked, top_n)
    if labels == GOLD:
        found = from_qrels(asked, run, _gold(questions.train), top_n=top_n)
    else:
        found = from_answers(questions.train, run, corpus, top_n=top_n, progress=progress)
    if not found.questions:
        raise UsageError(
            f"none of {found.statistics.questions} questions has a relevant candidate by the labels {labels!r}",
            mend=f"Choose the labels {HAS_ANSWER if labels == GOLD else GOLD}, or give questions of this collection",
        )
    sample = sorted(questions.held_out, key=lambda triplet: zlib.crc32(f"held out {triplet.query.id}".encode()))
    dev, held_out = (
        _measurable(corpus, retriever, some, labels, top_n) for some in (questions.dev, sample[:most_held_out])
    )
    return RerankingQuestions(found, dev, held_out)


def gained(reranker: Reranker, questions: DevCandidates | None) -> dict[str, Gain]:
    """Measure → what the re-ranker gains over the first stage on these questions, with a paired test."""
    if questions is None:
        return {}
    after = reranker.rerank(questions.queries, questions.run, questions.documents)
    return run_gains(questions.run, after, questions.qrels, MEASURES)


def _measurable(
    corpus: Corpus, retriever: Retriever, triplets: Sequence[Triplet], labels: str, top_n: int
) -> DevCandidates | None:
    judged = [triplet for triplet in triplets if (triplet.doc_ids if labels == GOLD else triplet.answers)]
    if not judged:
        return None
    queries = [triplet.query for triplet in judged]
    run = retriever.search(queries, top_n)
    qrels: Qrels = _gold(judged)
    if labels == HAS_ANSWER:
        # Questions whose answer no candidate holds stay in, as failures.
        qrels = {
            triplet.query.id: {
                name: int(has_answer(triplet.answers, corpus[name].text)) for name in run.doc_ids(triplet.query.id)
            }
            or {"": 0}
            for triplet in judged
        }
    return DevCandidates(queries, run, qrels, corpus)


def _gold(triplets: Sequence[Triplet]) -> dict[str, dict[str, int]]:
    return {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in triplets if triplet.doc_ids}
