"""Sampling pseudo queries through transformers' `generate`, so that a passage's do not depend on its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from retgen.errors import UsageError
from retgen.models.prompt_format import PromptFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TopKDraws(LogitsProcessor):
    """Top-k sampling with a random stream of its own for every row: greedy search then takes what was drawn.

    The most likely k tokens get Gumbel noise on their log-probabilities; the largest sum is a sample of their softmax.

    Args:
        streams: one generator of random numbers for each row.
        top_k: how many tokens may be drawn at a step.
        temperature: the logits are divided by it.
    """

    def __init__(self, streams: Sequence[np.random.Generator], top_k: int, temperature: float) -> None:
        self._streams = streams
        self._top_k = top_k
        self._temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits ``(rows, vocab_size)`` → the same shape, 0 at the token drawn and −inf elsewhere."""
        likely, tokens = scores.float().topk(min(self._top_k, scores.shape[-1]), dim=-1)
        noise = np.stack([stream.gumbel(size=likely.shape[-1]) for stream in self._streams])
        noisy = likely / self._temperature + torch.from_numpy(noise).to(likely)
        drawn = tokens.gather(1, noisy.argmax(dim=-1, keepdim=True))
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def streams(rows: Iterable[Sequence[int]], n: int, seed: int) -> list[np.random.Generator]:
    """``n`` random streams for each input, made from the seed, the input's token ids and the draw's number."""
    made = []
    for row in rows:
        digest = hashlib.blake2b(np.asarray(row, dtype="<i4").tobytes(), digest_size=8).digest()
        made += [np.random.default_rng((seed, int.from_bytes(digest, "little"), draw)) for draw in range(n)]
    return made


def check_sampling(n: int, top_k: int, max_new_tokens: int, temperature: float, seed: int) -> None:
    """Refuse numbers that `retgen.models.query_model.QueryModel.sample` cannot use.

    Raises:
        UsageError: one of them is out of its range.
    """
    for name, value in (("n", n), ("top_k", top_k), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1; got {value}")
    if not temperature > 0 or seed < 0:
        raise UsageError(f"temperature must be above 0 and seed not negative; got {temperature} and {seed}")


def plain_generation(model: PreTrainedModel, max_new_tokens: int, pad: int, eos: int) -> GenerationConfig:
    """Greedy search without any of the habits a checkpoint's own settings may have (beams, penalties, lengths)."""
    own = model.generation_config
    ends = getattr(own, "eos_token_id", None)
    ends = [ends] if isinstance(ends, int) else list(ends or ())
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        min_length=0,
        no_repeat_ngram_size=0,
        repetition_penalty=1.0,
        length_penalty=1.0,
        early_stopping=False,
        pad_token_id=pad,
        eos_token_id=[*ends, *([eos] if eos not in ends else [])],
        decoder_start_token_id=getattr(own, "decoder_start_token_id", None),
        forced_bos_token_id=getattr(own, "forced_bos_token_id", None),
        use_cache=True,
    )


def bare_query(text: str, format: PromptFormat) -> str:
    """A target's text without what its template puts around the query."""
    lead, _, tail = format.query_template.partition("{query}")
    text = text.strip().removeprefix(lead.strip()).strip()
    return text.removesuffix(tail.strip()).strip() if tail.strip() else text


def grouped(texts: Sequence[str], n: int, *, unique: bool) -> list[list[str]]:
    """``n`` texts to a passage; with ``unique``, the first of equal ones only, and so perhaps fewer."""
    rows = [list(texts[start : start + n]) for start in range(0, len(texts), n)]
    return [list(dict.fromkeys(row)) for row in rows] if unique else rows
