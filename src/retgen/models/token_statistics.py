"""What a corpus says about a tokenizer's tokens: in how many texts each stands, and how often."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from retgen.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS_AT_ONCE = 256
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Counts over a corpus.

    Args:
        texts: how many texts were counted.
        text_counts: (V,) int64; in how many texts each token stands.
        occurrences: (V,) int64; how often it stands there.
    """

    texts: int
    text_counts: Tensor
    occurrences: Tensor

    def weights(self, special_ids: Iterable[int]) -> Tensor:
        """How telling each token is, (V,) fp32 in [0, 1]: its inverse document frequency, 0 for special tokens.

        A token that stands in no text counts as rare, not as special: documents may come that hold it.
        """
        weights = inverse_document_frequency(self.text_counts.clamp(min=1), self.texts)
        weights[list(special_ids)] = 0.0
        return weights

    def log_frequencies(self, eos_token_id: int) -> Tensor:
        """Smoothed log unigram frequencies (V,) fp32; every text is taken to end in EOS, as every target does."""
        counts = self.occurrences.double()
        counts[eos_token_id] += self.texts
        counts += _SMOOTHING
        return torch.log(counts / counts.sum()).float()


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], vocab_size: int) -> TokenStatistics:
    """Count a corpus' tokens, reading the texts as a stream.

    Raises:
        UsageError: there is no text.
    """
    text_counts = np.zeros(vocab_size, dtype=np.int64)
    occurrences = np.zeros(vocab_size, dtype=np.int64)
    stream, count = iter(texts), 0
    while block := list(islice(stream, _TEXTS_AT_ONCE)):
        count += len(block)
        encoded = tokenizer(block, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        tokens = [np.asarray(row, dtype=np.int64) for row in encoded]
        occurrences += np.bincount(np.concatenate(tokens), minlength=vocab_size)
        text_counts += np.bincount(np.concatenate([np.unique(row) for row in tokens]), minlength=vocab_size)
    if not count:
        raise UsageError("there are no texts to count tokens in", mend="Give a corpus with at least one document")
    return TokenStatistics(count, torch.from_numpy(text_counts), torch.from_numpy(occurrences))


def inverse_document_frequency(document_counts: Tensor, documents: int) -> Tensor:
    """Token weights (V,) fp32 in [0, 1] from how many documents hold each token.

    ``log(1 + N / n) / log(1 + N)``: 1 for a token of one document only; 0 for tokens in none.
    """
    counts = document_counts.float()
    total = max(documents, 1)
    return torch.where(counts > 0, torch.log1p(total / counts.clamp(min=1)), 0.0) / math.log1p(total)
