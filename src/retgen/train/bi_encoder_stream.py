"""What a bi-encoder reads in training, batch by batch: all epochs as one stream, so that it can go on anywhere.

Within a batch every passage is a negative of every other question. So no two questions stand in one batch where a
passage of the one is relevant to the other: a negative is never a passage that is known to be relevant.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from retgen.errors import UsageError
from retgen.train.candidates import LabelledCandidates, passage_of
from retgen.types import DocumentSource


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A question with one relevant passage and its hard negatives, all by id."""

    query: str
    positive: str
    negatives: tuple[str, ...]


class BiEncoderStream(Dataset[dict[str, str]]):
    """Training rows: ``query``, ``positive``, ``negative_1`` … as texts. They follow from seed and candidates alone.

    In every epoch each question stands once, with one of its relevant passages and ``negatives`` of the others, drawn
    anew. A question with fewer others takes passages that are candidates of other questions.

    Args:
        candidates: of the training questions, each with a relevant passage.
        documents: gives the passages' texts.
        negatives: hard negatives of a question; 0 leaves the other questions' passages as the only ones.
        batch_size: questions of a batch, at most.
        epochs: passes over the questions; of the last one a part, where this is not a whole number.
        max_steps: batches, instead of ``epochs``; 0 is none.
        seed: of order and draws.

    Raises:
        UsageError: there are not enough passages for so many negatives.
    """

    def __init__(
        self,
        candidates: Sequence[LabelledCandidates],
        documents: DocumentSource,
        *,
        negatives: int,
        batch_size: int,
        epochs: float,
        max_steps: int,
        seed: int,
    ) -> None:
        self.documents = documents
        self.negatives = negatives
        self.column_names = ("query", "positive", *(f"negative_{n}" for n in range(1, negatives + 1)))
        self.rows: list[TrainingRow] = []
        self.batches: list[list[int]] = []
        self._pool = sorted({name for one in candidates for name in one.passages})
        epoch = 0
        while (len(self.batches) < max_steps) if max_steps else (epoch < epochs):
            first = len(self.rows)
            chance = random.Random(seed * 1_000_003 + epoch)
            order = list(range(len(candidates)))
            chance.shuffle(order)
            self.rows += [self._row(candidates[number], f"{seed}/{epoch}") for number in order]
            relevant = [frozenset(candidates[number].positives) for number in order]
            batches = _apart(self.rows[first:], relevant, batch_size)
            if not max_steps and epoch + 1 > epochs:
                batches = batches[: max(1, round((epochs - epoch) * len(batches)))]
            self.batches += [[first + row for row in batch] for batch in batches]
            epoch += 1
        if max_steps:
            del self.batches[max_steps:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, str]:
        row = self.rows[number]
        texts = [passage_of(self.documents, name).contents for name in (row.positive, *row.negatives)]
        return dict(zip(self.column_names, (row.query, *texts), strict=True))

    def _row(self, question: LabelledCandidates, draw: str) -> TrainingRow:
        chance = random.Random(f"{draw}/{question.query.id}")
        others = question.negatives
        chosen = chance.sample(others, min(self.negatives, len(others)))
        if len(chosen) < self.negatives:
            spare = [name for name in self._pool if name not in question.passages]
            lacking = self.negatives - len(chosen)
            if len(spare) < lacking:
                raise UsageError(
                    f"question {question.query.id!r} has {len(others)} negatives, and there are no other passages to "
                    f"make {self.negatives} of them",
                    mend="Train with fewer negatives, or give more documents",
                )
            chosen += chance.sample(spare, lacking)
        return TrainingRow(question.query.text, chance.choice(question.positives), tuple(chosen))


def _apart(rows: Sequence[TrainingRow], relevant: Sequence[frozenset[str]], size: int) -> list[list[int]]:
    """The rows' numbers in batches in which no passage of one row is relevant to another; those that clash wait."""
    batches: list[list[int]] = []
    waiting = list(range(len(rows)))
    while waiting:
        batch: list[int] = []
        passages: set[str] = set()
        wanted: set[str] = set()
        left: list[int] = []
        for place, number in enumerate(waiting):
            if len(batch) == size:
                left += waiting[place:]
                break
            own = {rows[number].positive, *rows[number].negatives}
            if own & wanted or relevant[number] & passages:
                left.append(number)
                continue
            batch.append(number)
            passages |= own
            wanted |= relevant[number]
        batches.append(batch)
        waiting = left
    return batches
