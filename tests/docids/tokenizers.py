"""Tokenizers made in memory, fast ones of the `transformers` kind."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ("mars", "io", "moon", "red", "planet", "of", "the", "a", "b", "c", "2", "3")


def word_tokenizer(words: Sequence[str] = WORDS, *, lower: bool = False, **special: str) -> PreTrainedTokenizerFast:
    """One token per word: 0 padding, 1 EOS (or what ``special`` says), 2 unknown, then the words."""
    special = special or {"pad_token": "<pad>", "eos_token": "</s>"}
    vocab = {token: number for number, token in enumerate([*special.values(), "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        from tokenizers import normalizers

        tokenizer.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)
