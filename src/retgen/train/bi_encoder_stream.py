"""What a bi-encoder reads in training, batch by batch: all epochs as one stream, so that it can go on anywhere.

Within a batch every passage is a negative of every other question. So no two questions stand in one batch where a
passage of the one is relevant to the other: a negative is never a passage that is known to be relevant.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from retgen.errors import UsageError
from retgen.train.candidates import LabelledCandidates, passage_of
from retgen.types import DocumentSource

_PATIENCE = 20
"""Rows that a batch puts off before it is left as it is, for each row it may have."""


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
        self.batches: list[list[int]] = []
        self._candidates = candidates
        self._seed = seed
        self._pool = sorted({name for one in candidates for name in one.passages})
        relevant = [frozenset(one.positives) for one in candidates]
        epoch = 0
        while (len(self.batches) < max_steps) if max_steps else (epoch < epochs):
            order = list(range(epoch * len(candidates), (epoch + 1) * len(candidates)))
            random.Random(seed * 1_000_003 + epoch).shuffle(order)
            # Rows are drawn again when they are read: kept are their numbers alone.
            batches = _apart(order, self.row, lambda number: relevant[number % len(relevant)], batch_size)
            if not max_steps and epoch + 1 > epochs:
                batches = batches[: max(1, round((epochs - epoch) * len(batches)))]
            self.batches += batches
            epoch += 1
        if max_steps:
            del self.batches[max_steps:]
        self._epochs = epoch

    def __len__(self) -> int:
        return self._epochs * len(self._candidates)

    def __getitem__(self, number: int) -> dict[str, str]:
        row = self.row(number)
        texts = [passage_of(self.documents, name).contents for name in (row.positive, *row.negatives)]
        return dict(zip(self.column_names, (row.query, *texts), strict=True))

    def row(self, number: int) -> TrainingRow:
        """A question as one epoch reads it; ``number`` counts the questions through all epochs."""
        epoch, question = divmod(number, len(self._candidates))
        return self._row(self._candidates[question], f"{self._seed}/{epoch}")

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


def _apart(
    order: Sequence[int],
    row: Callable[[int], TrainingRow],
    relevant: Callable[[int], frozenset[str]],
    size: int,
) -> list[list[int]]:
    """The numbers in batches in which no passage of one row is relevant to another; those that clash wait."""
    batches: list[list[int]] = []
    waiting = deque(order)
    while waiting:
        batch: list[int] = []
        passages: set[str] = set()
        wanted: set[str] = set()
        put_off: list[int] = []
        # Where nearly all clash, a batch stays small rather than have everything looked at for each.
        while waiting and len(batch) < size and len(put_off) < _PATIENCE * size:
            number = waiting.popleft()
            drawn = row(number)
            own = {drawn.positive, *drawn.negatives}
            if own & wanted or relevant(number) & passages:
                put_off.append(number)
                continue
            batch.append(number)
            passages |= own
            wanted |= relevant(number)
        batches.append(batch)
        waiting.extendleft(reversed(put_off))
    return batches
