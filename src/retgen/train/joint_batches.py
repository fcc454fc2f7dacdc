"""Batches of joint fine-tuning: questions with the candidates drawn for an epoch, as tensors for both models."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset

from retgen.errors import UsageError
from retgen.train.candidates import LabelledCandidates, passage_of

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.models.query_generator import QueryGenerator
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.train.joint_options import JointTraining
    from retgen.types import DocumentSource

IGNORED = -100
"""The label of a token that is none."""


class DrawnCandidates(Dataset[LabelledCandidates]):
    """Questions, each with the candidates that are drawn for the epoch."""

    def __init__(self, questions: Sequence[LabelledCandidates], options: JointTraining) -> None:
        self.questions = questions
        self.options = options
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called when an epoch begins, also when training is resumed within it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, number: int) -> LabelledCandidates:
        return draw_candidates(self.questions[number], self.options, self.epoch)


def draw_candidates(question: LabelledCandidates, options: JointTraining, epoch: int) -> LabelledCandidates:
    """The candidates of a question that are trained on in an epoch, in the order of the first stage.

    All relevant ones up to ``max_positives``, and others up to ``candidates_per_question``. What is drawn follows from
    seed, epoch and the question's id alone, so that a resumed training draws the same.
    """
    chance = random.Random(f"{options.seed}/{epoch}/{question.query.id}")
    positives, negatives = question.positives, question.negatives
    most = min(options.max_positives, options.candidates_per_question)
    if len(positives) > most:
        positives = tuple(chance.sample(positives, most))
    room = options.candidates_per_question - len(positives)
    if len(negatives) > room:
        negatives = negatives[:room] if options.negatives == "hardest" else tuple(chance.sample(negatives, room))
    chosen = {*positives, *negatives}
    kept = [pair for pair in zip(question.passages, question.labels, strict=True) if pair[0] in chosen]
    return replace(question, passages=tuple(name for name, _ in kept), labels=tuple(label for _, label in kept))


class JointCollator:
    """Makes a batch of questions. Both models read what their re-rankers would give them.

    Args:
        documents: the candidates' corpus.
        reader: the cross-encoder; it writes (question, "title text") pairs.
        writer: the generator; it writes passages and questions as its format says.

    Raises:
        UsageError: a tokenizer cannot pad.
    """

    def __init__(self, documents: DocumentSource, reader: CrossEncoder, writer: QueryGenerator) -> None:
        for name, tokenizer in (("cross-encoder", reader.tokenizer), ("generator", writer.tokenizer)):
            if tokenizer.pad_token_id is None:
                raise UsageError(f"the {name}'s tokenizer has no padding token", mend="Set tokenizer.pad_token")
        self.documents = documents
        self.reader = reader
        self.writer = writer

    def __call__(self, questions: Sequence[LabelledCandidates]) -> dict[str, Tensor]:
        """The batch; Q questions, C the most candidates of one, P pairs, U different passages.

        Returns:
            ``relevance`` (Q, C) 0 or 1; ``candidate_mask`` (Q, C); ``pair_…`` (P, L) what the cross-encoder reads;
            ``passage_ids`` and ``passage_mask`` (U, L) what the generator reads; ``question_ids`` (Q, T) what it is
            to write, `IGNORED` where there is nothing; ``pair_passage`` and ``pair_question`` (P,) say which passage
            and which question a pair is made of. Pairs stand question after question.

        Raises:
            UnknownDocumentError: a candidate is not among the documents.
        """
        numbers: dict[str, int] = {}
        for question in questions:
            for doc_id in question.passages:
                numbers.setdefault(doc_id, len(numbers))
        passages = [passage_of(self.documents, doc_id) for doc_id in numbers]
        pair_passage = [numbers[doc_id] for question in questions for doc_id in question.passages]
        pair_question = [row for row, question in enumerate(questions) for _ in question.passages]
        pairs = self.reader.inputs(
            [
                (questions[row].query.text, passages[number].contents)
                for row, number in zip(pair_question, pair_passage, strict=True)
            ]
        )
        read = self.writer.passage_ids(passages)
        written = self.writer.query_ids([question.query.text for question in questions])
        return {
            "relevance": padded([list(question.labels) for question in questions], 0),
            "candidate_mask": padded([[1] * len(question) for question in questions], 0).bool(),
            **{f"pair_{name}": values for name, values in pairs.items()},
            "passage_ids": padded(read, int(self.writer.tokenizer.pad_token_id)),
            "passage_mask": padded([[1] * len(row) for row in read], 0),
            "question_ids": padded(written, IGNORED),
            "pair_passage": torch.tensor(pair_passage),
            "pair_question": torch.tensor(pair_question),
        }


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of unequal length as one tensor, filled up at the right."""
    made = torch.full((len(rows), max(map(len, rows), default=0)), fill, dtype=torch.int64)
    for row, values in zip(made, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int64)
    return made
