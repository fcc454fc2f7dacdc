"""Examples to tensors: tokenised inputs, labels, and the answers' places in the input."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from retgen.generative.inputs import TokenisedInput, pad_inputs, tokenise_inputs
from retgen.models.unigen import IGNORED
from retgen.text import normalise_answer
from retgen.train.examples import UniGenExample, answer_characters, shuffle_passages

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class UniGenCollator:
    """Makes a batch.

    Args:
        tokenizer: the model's.
        eos_token_id: ends every target.
        max_input_tokens: longer inputs are cut.
        max_answer_tokens: longer answers are cut, EOS kept.
        shuffle: share of examples, 0 to 1, whose passages are put in random order, so that the model learns to read
            them and not to trust their order. Drawn from the seed, the epoch and the example alone: a resumed run draws
            the same.
        seed: of those draws.
        consistency: weight of R-Drop's loss, handed to the network with every batch.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        eos_token_id: int,
        max_input_tokens: int = 384,
        max_answer_tokens: int = 24,
        shuffle: float = 0.0,
        seed: int = 0,
        consistency: float = 0.0,
    ) -> None:
        self.tokenizer = tokenizer
        self.eos_token_id = eos_token_id
        self.max_input_tokens = max_input_tokens
        self.max_answer_tokens = max_answer_tokens
        self.shuffle = shuffle
        self.seed = seed
        self.consistency = consistency
        self.pad_token_id = int(tokenizer.pad_token_id)

    def __call__(self, items: Sequence[tuple[UniGenExample, int]]) -> dict[str, Tensor | float]:
        """What the network's ``forward`` takes: inputs, the labels of both decoders, spans, and the weight if any."""
        examples = [example for example, _ in items]
        inputs = tokenise_inputs(
            self.tokenizer, [self._text(example, draw) for example, draw in items], self.max_input_tokens
        )
        input_ids, attention_mask = pad_inputs(inputs, self.pad_token_id)
        spans = [self._spans(item, example) for item, example in zip(inputs, examples, strict=True)]
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "docid_labels": _padded([list(example.docid) for example in examples], IGNORED),
            "answer_labels": _padded(self._answers(examples), IGNORED),
            "answer_spans": _padded_spans(spans),
            **({"consistency_weight": self.consistency} if self.consistency else {}),
        }

    def _text(self, example: UniGenExample, draw: int) -> str:
        if self.shuffle <= 0:
            return example.input_text
        chance = random.Random(zlib.crc32(f"{self.seed}:{draw}".encode()))
        if chance.random() >= self.shuffle:
            return example.input_text
        return shuffle_passages(example.input_text, chance)

    def _answers(self, examples: Sequence[UniGenExample]) -> list[list[int]]:
        first = [example.answers[0] if example.answers else "" for example in examples]
        rows = self.tokenizer(first, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [[*row[: self.max_answer_tokens - 1], self.eos_token_id] if row else [] for row in rows]

    def _spans(self, item: TokenisedInput, example: UniGenExample) -> list[tuple[int, int]]:
        spans = []
        for start, end in answer_characters(item.text, example.answers, example.docid_text):
            span = item.token_span(start, end)
            # Tokens that hold more than the answer would teach another one; a comma or an article more does no harm.
            if span and normalise_answer(item.span_text(*span)) == normalise_answer(item.text[start:end]):
                spans.append(span)
        return spans


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    padded = torch.full((len(rows), max(1, *map(len, rows)) if rows else 1), fill, dtype=torch.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int64)
    return padded


def _padded_spans(rows: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    padded = torch.full((len(rows), max([1, *map(len, rows)]), 2), -1, dtype=torch.int64)
    for row, values in zip(padded, rows, strict=True):
        if values:
            row[: len(values)] = torch.tensor(values, dtype=torch.int64)
    return padded
