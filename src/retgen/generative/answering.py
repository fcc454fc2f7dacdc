"""Answers from an encoded input: written freely, written as a span of the input, or pointed at.

Text that was copied is given back as it stands in the input, since a tokenizer may lose case and spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch

from retgen.errors import UsageError
from retgen.generative.inputs import TokenisedInput
from retgen.models.layout import SourceLayout
from retgen.models.outputs import Encoded
from retgen.models.session import UniGenSession
from retgen.models.spans import SpanConstraint, best_spans, span_positions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from retgen.models.unigen import UniGenForRetrievalAndAnswering

Decoded = tuple[str, float]
"""An answer and its log-probability (≤ 0)."""


def decode_answers(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    inputs: Sequence[TokenisedInput],
    strategy: str,
    max_tokens: int,
) -> list[Decoded]:
    """One answer for every input of a block, without spaces around it.

    Args:
        strategy: one of `STRATEGIES`. ``free``: greedy decoding, as in the paper; the score is the sum of its tokens'
            log-probabilities, EOS included. ``constrained``: greedy decoding that may only write a span of the input,
            scored the same. ``span``: the span that the auxiliary head finds most likely, scored by the sum of its
            start's and end's log-probabilities.
        max_tokens: the longest answer.

    Raises:
        UsageError: the strategy needs a head that the model lacks.
    """
    return STRATEGIES[strategy](model, tokenizer, encoded, inputs, max_tokens)


def _free(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    inputs: Sequence[TokenisedInput],
    max_tokens: int,
) -> list[Decoded]:
    rows, scores = greedy(model, encoded, max_tokens)
    return _as_in_inputs(model, tokenizer, encoded, inputs, rows, scores)


def _constrained(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    inputs: Sequence[TokenisedInput],
    max_tokens: int,
) -> list[Decoded]:
    if encoded.layout is None:
        raise UsageError(
            "answers constrained to spans need a model that lays out its input", mend="Build it with copy_head=True"
        )
    rows, scores = greedy(model, encoded, max_tokens, layout=encoded.layout)
    return _as_in_inputs(model, tokenizer, encoded, inputs, rows, scores)


def _span(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    inputs: Sequence[TokenisedInput],
    max_tokens: int,
) -> list[Decoded]:
    if encoded.layout is None:
        raise UsageError("answers pointed at need a span head", mend="Build the model with span_head=True")
    allowed = span_positions(encoded.layout, cast(int, model.config.eos_token_id))
    found = best_spans(model.span_log_probabilities(encoded), allowed, max_length=max_tokens)
    answers = []
    for spans, item in zip(found, inputs, strict=True):
        if not spans:
            answers.append(("", 0.0))
            continue
        start, end, score = spans[0]
        answers.append((item.span_text(start, end).strip(), score))
    return answers


STRATEGIES: dict[str, Callable[..., list[Decoded]]] = {"free": _free, "constrained": _constrained, "span": _span}
"""How answers are made, by name."""


def greedy(
    model: UniGenForRetrievalAndAnswering, encoded: Encoded, max_tokens: int, *, layout: SourceLayout | None = None
) -> tuple[list[list[int]], list[float]]:
    """Greedy decoding of a block by the answer decoder.

    Args:
        model: in evaluation mode.
        encoded: the block.
        max_tokens: the longest answer.
        layout: of the inputs; given, only spans of the input are written, of at least one token.

    Returns:
        Tokens without EOS, and the sums of their log-probabilities (that of EOS included, where it was written).
    """
    session = UniGenSession(model, encoded, "answer")
    batch, eos = session.batch_size, cast(int, model.config.eos_token_id)
    tokens = torch.full((batch, 1), cast(int, model.config.decoder_start_token_id), dtype=torch.int64)
    constraint = None if layout is None else SpanConstraint(layout, eos)
    rows: list[list[int]] = [[] for _ in range(batch)]
    scores = torch.zeros(batch)
    going = torch.ones(batch, dtype=torch.bool)
    for _ in range(max_tokens):
        logits = session.step(tokens)[:, 0].float()
        log_probabilities = logits.log_softmax(dim=-1)
        if constraint is not None:
            allowed = constraint.allowed(logits.shape[-1])[:, 0]
            log_probabilities = log_probabilities.masked_fill(~allowed, float("-inf"))
        best, chosen = (part.cpu() for part in log_probabilities.max(dim=-1))
        chosen = torch.where(going, chosen, torch.full_like(chosen, eos))
        scores += torch.where(going, best, torch.zeros_like(best))
        going &= chosen != eos
        for row in torch.nonzero(going).flatten().tolist():
            rows[row].append(int(chosen[row]))
        if not bool(going.any()):
            break
        tokens = chosen.unsqueeze(1)
        if constraint is not None:
            constraint.advance(tokens)
        session.reorder(torch.zeros_like(tokens))
    return rows, scores.tolist()


def _as_in_inputs(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    inputs: Sequence[TokenisedInput],
    rows: Sequence[list[int]],
    scores: Sequence[float],
) -> list[Decoded]:
    """What was written, as text: as it stands in the context where it stands there, else as in the question."""
    answers = []
    context = [[False] * len(item.ids) for item in inputs]
    if encoded.layout is not None:
        context = span_positions(encoded.layout, cast(int, model.config.eos_token_id)).tolist()
    for row, score, item, inside in zip(rows, scores, inputs, context, strict=True):
        places = [i for i in range(len(item.ids)) if row and item.ids[i : i + len(row)] == tuple(row)]
        if places:
            place = next((i for i in places if all(inside[i : i + len(row)])), places[0])
            text = item.span_text(place, place + len(row) - 1)
        else:
            text = str(tokenizer.decode(row, skip_special_tokens=True))
        answers.append((text.strip(), score))
    return answers
