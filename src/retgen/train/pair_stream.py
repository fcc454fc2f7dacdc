"""What a cross-encoder reads in training, batch by batch: all epochs as one stream, so that it can go on anywhere.

The stream follows from seed, candidates and options alone. Its batches hold pairs of similar length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from retgen.train.candidates import LabelledCandidates, drawn, passage_of
from retgen.train.sampling import LengthBucketSampler
from retgen.types import DocumentSource

BINARY, RANKING = "binary", "ranking"
NEVER = -1e4
"""The ranking objective's label of a passage that is not relevant: a softmax over labels makes 0 of it."""


class PairStream(Dataset[dict[str, Any]]):
    """Training rows, of all epochs one after the other.

    With the binary objective a row is a pair: ``query``, ``passage``, ``label`` 0 or 1. With the ranking objective it
    is a question: ``query``, ``passages``, ``label``, whose softmax is even over the relevant passages.

    Args:
        candidates: of the training questions.
        documents: gives the passages' texts.
        objective: ``"binary"`` or ``"ranking"``.
        batch_size: pairs of a batch. A question's pairs stay together with the ranking objective: a batch then has as
            many questions as have together at most so many pairs, and at least one.
        negatives: of a question in an epoch at most, drawn anew for each; None takes all.
        epochs: passes over the questions; of the last one a part, where this is not a whole number.
        max_steps: batches, instead of ``epochs``; 0 is none.
        seed: of order and draws.
    """

    column_names = ("query", "passage", "label")
    """Asked for by the trainer."""

    def __init__(
        self,
        candidates: Sequence[LabelledCandidates],
        documents: DocumentSource,
        *,
        objective: str,
        batch_size: int,
        negatives: int | None,
        epochs: float,
        max_steps: int,
        seed: int,
    ) -> None:
        self.documents = documents
        self.objective = objective
        self.rows: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
        self.batches: list[list[int]] = []
        lengths: dict[str, int] = {}
        epoch = 0
        while (len(self.batches) < max_steps) if max_steps else (epoch < epochs):
            questions = list(candidates) if negatives is None else drawn(candidates, negatives, seed, epoch)
            first, rows = len(self.rows), _rows(questions, objective)
            of_rows = [len(query) + max(self._length(name, lengths) for name in names) for query, names, _ in rows]
            widest = max(len(names) for _, names, _ in rows)
            sampler = LengthBucketSampler(of_rows, max(1, batch_size // widest), seed)
            sampler.set_epoch(epoch)
            batches = _batches(sampler)
            if not max_steps and epoch + 1 > epochs:
                batches = batches[: max(1, round((epochs - epoch) * len(batches)))]
            self.batches += [[first + row for row in batch] for batch in batches]
            self.rows += rows
            epoch += 1
        if max_steps:
            del self.batches[max_steps:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        query, names, labels = self.rows[number]
        texts = [passage_of(self.documents, name).contents for name in names]
        if self.objective == BINARY:
            return {"query": query, "passage": texts[0], "label": labels[0]}
        return {"query": query, "passages": texts, "label": [0.0 if label else NEVER for label in labels]}

    def _length(self, name: str, known: dict[str, int]) -> int:
        if name not in known:
            known[name] = len(passage_of(self.documents, name).contents)
        return known[name]


def _rows(
    questions: Sequence[LabelledCandidates], objective: str
) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    if objective == RANKING:
        return [(question.query.text, question.passages, question.labels) for question in questions]
    return [
        (question.query.text, (name,), (label,))
        for question in questions
        for name, label in zip(question.passages, question.labels, strict=True)
    ]


def _batches(sampler: LengthBucketSampler) -> list[list[int]]:
    order, size = list(sampler), sampler.batch_size
    return [order[start : start + size] for start in range(0, len(order), size)]
