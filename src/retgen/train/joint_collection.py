"""What joint fine-tuning on a collection learns from and is measured by: its questions with first-stage candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.text import has_answer
from retgen.train.candidates import TOP_N, LabelledCandidates, LabelStatistics, from_answers, from_qrels
from retgen.train.questions import collection_questions
from retgen.types import Retriever, Run, Triplet, question_split

LABELS = ("gold", "has-answer")


@dataclass(frozen=True, slots=True)
class JointCandidates:
    """The questions of a joint fine-tuning, by the hash of their ids.

    Args:
        train: of the training share (80 %), each with a relevant candidate.
        dev: of the dev share (10 %), with what the first stage gives them; the test share is left alone.
        statistics: of labelling the training share.
    """

    train: Sequence[LabelledCandidates]
    dev: Sequence[LabelledCandidates]
    statistics: LabelStatistics


def joint_candidates(
    corpus: Corpus,
    retriever: Retriever,
    triplets: Sequence[Triplet],
    *,
    labels: str = "gold",
    top_n: int = TOP_N,
    dev_questions: int = 300,
    progress: Callable[[int, int], None] | None = None,
) -> JointCandidates:
    """Search the questions' candidates and label them.

    Args:
        corpus: the collection.
        retriever: the first stage.
        triplets: questions with their relevant documents (``gold``) or accepted answers (``has-answer``).
        labels: what makes a candidate relevant: that it is one of the question's documents, or that it holds one of
            its answers, as DPR counts.
        top_n: candidates of a question.
        dev_questions: at most so many.
        progress: called with (questions labelled, questions in all) where answers are looked for.

    Raises:
        UsageError: unknown labels, questions that have none of these, or none left to train on.
        MismatchError: a question's relevant document is not in the corpus.
    """
    if labels not in LABELS:
        raise UsageError(f"unknown labels {labels!r}", mend=f"Choose one of {', '.join(LABELS)}")
    by_answers = labels == "has-answer"
    if not any(triplet.answers if by_answers else triplet.doc_ids for triplet in triplets):
        raise UsageError(
            f"no question has {'answers' if by_answers else 'relevant documents'} to label candidates by",
            mend="Give judgements, or choose the labels gold" if by_answers else "Choose the labels has-answer",
        )
    asked = collection_questions(corpus, triplets)
    dev = [triplet for triplet in asked.held_out if question_split(triplet.query.id) == "dev"][:dev_questions]
    run = retriever.search([triplet.query for triplet in (*asked.train, *dev)], top_n)
    if by_answers:
        found = from_answers(asked.train, run, corpus, top_n=top_n, progress=progress)
    else:
        qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in asked.train}
        found = from_qrels([triplet.query for triplet in asked.train], run, qrels, top_n=top_n)
    if not found.questions:
        raise UsageError(
            f"none of {found.statistics.questions} questions has a relevant candidate",
            mend="Check that questions and corpus belong together, or search deeper",
        )
    return JointCandidates(
        found.questions,
        [_as_found(triplet, run, corpus, by_answers) for triplet in dev],
        found.statistics,
    )


def _as_found(triplet: Triplet, run: Run, corpus: Corpus, by_answers: bool) -> LabelledCandidates:
    ids = run.doc_ids(triplet.query.id)
    labels = [
        has_answer(triplet.answers, corpus[doc_id].text) if by_answers else doc_id in triplet.doc_ids for doc_id in ids
    ]
    return LabelledCandidates(triplet.query, tuple(ids), tuple(map(int, labels)))
