"""Tiny readers with random weights, and the plain, unbatched passes that they must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from retgen.models.reader import Reader
from retgen.models.reader_format import ReaderFormat
from retgen.models.readings import Reading
from retgen.types import Document
from tests.models.generators import seq2seq

FORMAT = ReaderFormat(max_input_tokens=120, max_question_tokens=60, max_answer_tokens=8)
DOCUMENTS = (
    Document("a", "Joseph Priestley discovered oxygen in 1774.", "Oxygen"),
    Document("b", "Mars has two moons, Phobos and Deimos. " * 2, "Mars"),
    Document("c", "Iron melts at 1538 degrees."),
)
READINGS = [
    Reading("who discovered oxygen", DOCUMENTS, (2.0, 1.0, 0.5)),
    Reading("which moons has Mars", DOCUMENTS[1:2], (3.0,)),
    Reading("at which temperature does iron melt", (DOCUMENTS[2], DOCUMENTS[0]), (0.1, 0.4)),
]
ANSWERS = ["Joseph Priestley", "two", "1538 degrees"]


def reader(kind: type[Reader], model: str = "t5", **options: Any) -> Any:
    made: Any = kind
    return made(*seq2seq(model), FORMAT, **options)


@torch.no_grad()
def plain_log_probabilities(made: Reader, row: Sequence[int], target: Sequence[int]) -> Tensor:
    """transformers' own forward pass over one input: (T, V) log-probabilities of the target's tokens."""
    model: Any = made.model
    given = torch.tensor([[*made.lead, *target[:-1]]])
    logits = model(input_ids=torch.tensor([list(row)]), decoder_input_ids=given).logits
    return logits[0, len(made.lead) - 1 :].float().log_softmax(dim=-1)


def plain_scores(made: Reader, row: Sequence[int], target: Sequence[int]) -> Tensor:
    """(T,) log-probabilities of the target's own tokens."""
    return plain_log_probabilities(made, row, target).gather(1, torch.tensor(target)[:, None])[:, 0]


def target_ids(made: Reader, answer: str) -> list[int]:
    return made.format.answer_ids(made.tokenizer, [answer])[0]
