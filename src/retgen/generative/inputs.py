"""What a generative model reads: input texts as tokens, with the way back from tokens to characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from retgen.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TokenisedInput:
    """One input as tokens.

    Args:
        text: the input text.
        ids: its tokens, special ones included; at least one.
        offsets: for each token the characters it covers, (0, 0) for special tokens.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def span_text(self, start: int, end: int) -> str:
        """The text of tokens ``start`` to ``end``, both included."""
        return self.text[self.offsets[start][0] : self.offsets[end][1]]

    def token_span(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last token that cover characters ``start`` to ``end`` (exclusive); None where cut off."""
        first = next((i for i, (a, b) in enumerate(self.offsets) if a < b and a <= start < b), None)
        # A character may be written in several tokens (its bytes): all of them belong to the span.
        last = next((i for i, (a, b) in reversed([*enumerate(self.offsets)]) if a < end <= b), None)
        return None if first is None or last is None or last < first else (first, last)


def tokenise_inputs(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[TokenisedInput]:
    """Tokenise input texts; what does not fit is cut at the end, so the question and the first passages stay.

    A text without any token becomes a single EOS, so that a question without words is still a question.

    Raises:
        UsageError: the tokenizer is not a fast one, and so cannot lead back to characters.
    """
    if not texts:
        return []
    if not tokenizer.is_fast:
        raise UsageError(
            "this tokenizer cannot say which characters a token covers", mend="Use its fast version (tokenizer.json)"
        )
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_offsets_mapping=True, return_attention_mask=False
    )
    rows = []
    for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if not ids:
            fallback = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
            ids, offsets = [fallback], [(0, 0)]
        rows.append(TokenisedInput(text, tuple(ids), tuple((int(a), int(b)) for a, b in offsets)))
    return rows


def pad_inputs(inputs: Sequence[TokenisedInput], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Input ids and attention mask, (B, L) int64 each."""
    width = max(len(item.ids) for item in inputs)
    ids = torch.full((len(inputs), width), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(inputs), width), dtype=torch.int64)
    for row, item in enumerate(inputs):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        mask[row, : len(item.ids)] = 1
    return ids, mask
