"""Passage–query pairs to tensors: each passage of a batch once, whatever the number of its queries in it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from retgen.models.outputs import IGNORED
from retgen.types import Document

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.models.query_generator import QueryGenerator

PassageQuery = tuple[Document, str]
"""A passage, and a query that it answers."""


class PairDataset(Dataset[PassageQuery]):
    """Pairs by number."""

    def __init__(self, pairs: Sequence[PassageQuery]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> PassageQuery:
        return self.pairs[number]


class PairCollator:
    """Makes a batch, written as the generator's prompt format says.

    Args:
        generator: model, tokenizer and format.
    """

    def __init__(self, generator: QueryGenerator) -> None:
        self.generator = generator

    def __call__(self, pairs: Sequence[PassageQuery]) -> dict[str, Tensor]:
        """What `retgen.train.query_generator.pair_loss` takes.

        Returns:
            ``input_ids`` and ``attention_mask`` (P, L) of the passages; ``rows`` (R,), each query's passage; and (R, T)
            ``decoder_input_ids`` and ``labels``, -100 where nothing is asked for: behind a query, and where the
            decoder's start has more than one token.
        """
        passages: dict[Hashable, tuple[int, Document]] = {}
        for passage, _ in pairs:
            passages.setdefault(passage_key(passage), (len(passages), passage))
        inputs = self.generator.passage_ids([passage for _, passage in passages.values()])
        targets = self.generator.query_ids([query for _, query in pairs])
        lead, pad = self.generator.lead, self.generator.pad_token_id
        given = [[*lead, *target[:-1]] for target in targets]
        asked = [[*[IGNORED] * (len(lead) - 1), *target] for target in targets]
        return {
            "input_ids": _padded(inputs, pad),
            "attention_mask": _padded([[1] * len(row) for row in inputs], 0),
            "rows": torch.tensor([passages[passage_key(passage)][0] for passage, _ in pairs]),
            "decoder_input_ids": _padded(given, pad),
            "labels": _padded(asked, IGNORED),
        }


def passage_key(passage: Document) -> Hashable:
    """What two passages share that are read as one."""
    return passage.id, passage.title, passage.text


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    made = [torch.tensor(row, dtype=torch.int64) for row in rows]
    padded: Tensor = pad_sequence(made, batch_first=True, padding_value=fill)
    return padded
