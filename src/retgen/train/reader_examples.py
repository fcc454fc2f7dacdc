"""What readers are trained on: questions with answers, the passages that were retrieved for them, and batches of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retgen.errors import UsageError
from retgen.models.reader import Reader
from retgen.models.readings import Reading
from retgen.types import DocumentSource, Run, Triplet

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ReaderExample:
    """One training example.

    Args:
        question: its text.
        answers: accepted ones, at least one.
        doc_ids: the passages to be read, best first; none for a closed-book reader.
        scores: the retrieval score of each.
    """

    question: str
    answers: tuple[str, ...]
    doc_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


def reader_examples(
    triplets: Iterable[Triplet], run: Run | None = None, *, passages: int = 10, with_relevant: bool = False
) -> list[ReaderExample]:
    """Questions with their answers and the run's first passages. Questions without an answer are left out.

    Args:
        triplets: questions with accepted answers, and relevant documents where ``with_relevant`` needs them.
        run: over the questions; None for a closed-book reader. Those it found nothing for are left out.
        passages: of each question at most; as many as will be read later.
        with_relevant: where no relevant document is among a question's passages, its first one takes the last's place
            and score. The model then learns to read, but not what its retriever is like. Not in FiD's paper.

    Raises:
        UsageError: the run lacks a question, or ``passages`` is below 1.
    """
    if passages < 1:
        raise UsageError(f"a reader needs at least one passage; got passages={passages}")
    examples = []
    for triplet in triplets:
        if not triplet.answers:
            continue
        if run is None:
            examples.append(ReaderExample(triplet.query.text, triplet.answers))
            continue
        if triplet.query.id not in run:
            raise UsageError(
                f"the run lacks the question {triplet.query.id!r}", mend="Search for all training questions"
            )
        hits = [(hit.doc_id, hit.score) for hit in run[triplet.query.id][:passages]]
        if with_relevant and triplet.doc_ids and not {doc_id for doc_id, _ in hits} & set(triplet.doc_ids):
            score = hits[-1][1] if hits else 0.0
            hits = [*hits[: passages - 1], (triplet.doc_ids[0], score)]
        if hits:
            doc_ids, scores = zip(*hits, strict=True)
            examples.append(ReaderExample(triplet.query.text, triplet.answers, doc_ids, scores))
    return examples


class ReaderCollator:
    """Makes a batch, as `retgen.models.reader.Reader.batch` writes it.

    Args:
        reader: model, tokenizer and format.
        documents: of the passages; None for a closed-book reader.
        sample_answers: take one of an example's answers at random in every epoch, else the first. Drawn from the seed,
            the epoch and the example alone: a resumed run draws the same.
        seed: of those draws.
    """

    def __init__(
        self, reader: Reader, documents: DocumentSource | None, *, sample_answers: bool = True, seed: int = 0
    ) -> None:
        self.reader = reader
        self.documents = documents
        self.sample_answers = sample_answers
        self.seed = seed

    def __call__(self, drawn: Sequence[tuple[ReaderExample, int]]) -> dict[str, Tensor]:
        """Tensors by name."""
        return self.reader.batch(
            [self._reading(example) for example, _ in drawn],
            [self._answer(example, number) for example, number in drawn],
        )

    def _reading(self, example: ReaderExample) -> Reading:
        documents = self.documents
        if documents is None or not self.reader.reads_passages:
            return Reading(example.question)
        return Reading(example.question, tuple(documents[doc_id] for doc_id in example.doc_ids), example.scores)

    def _answer(self, example: ReaderExample, number: int) -> str:
        if not self.sample_answers or len(example.answers) == 1:
            return example.answers[0]
        return random.Random(self.seed * 1_000_003 + number).choice(example.answers)
