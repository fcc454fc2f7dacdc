"""Best spans equal those of a loop over all spans; constrained decoding writes spans of the input and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import UsageError
from retgen.models.session import UniGenSession
from retgen.models.spans import SpanConstraint, best_spans, span_positions
from tests.models.builders import EOS, FIRST, START, VOCAB, context, padded, tiny_model


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12), st.integers(1, 30))
def test_best_spans_are_those_of_a_loop(seed: int, length: int, max_length: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    allowed = torch.from_numpy(rng.random((2, length)) < 0.7)
    scores = torch.from_numpy(rng.integers(-4, 1, size=(2, length, 2)).astype(np.float32))
    found = best_spans(scores, allowed, max_length=max_length, n=n)
    for row in range(2):
        every = [
            (start, end, float(scores[row, start, 0] + scores[row, end, 1]))
            for start in range(length)
            for end in range(start, min(length, start + max_length))
            if bool(allowed[row, start : end + 1].all())
        ]
        assert found[row] == sorted(every, key=lambda span: -span[2])[:n]


def test_spans_cross_no_mark() -> None:
    model = tiny_model("t5, copying")
    rng = np.random.default_rng(0)
    ids, mask = padded([context(rng, blocks=3) for _ in range(4)])
    with torch.no_grad():
        encoded = model.encode(ids, mask)
        assert encoded.layout is not None
        allowed = span_positions(encoded.layout, EOS)
        spans = best_spans(model.span_log_probabilities(encoded), allowed, n=1000)
    for row, ranked in enumerate(spans):
        assert ranked
        scores = [score for *_, score in ranked]
        assert scores == sorted(scores, reverse=True)
        for start, end, _ in ranked:
            assert bool((ids[row, start : end + 1] >= FIRST).all())
            assert int(encoded.layout.block[row, start]) >= 1  # not in the question


def test_where_nothing_is_allowed_there_is_no_span() -> None:
    assert best_spans(torch.zeros(1, 4, 2), torch.zeros(1, 4, dtype=torch.bool), n=3) == [[]]
    masked = torch.full((1, 4, 2), -1e9)
    assert best_spans(masked, torch.ones(1, 4, dtype=torch.bool)) == [[]]
    for wrong in ({"max_length": 0}, {"n": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            best_spans(masked, torch.ones(1, 4, dtype=torch.bool), **wrong)


def spans_of(ids: list[int]) -> set[tuple[int, ...]]:
    """Every span of a context, by a loop: runs of words behind the question."""
    from tests.models.builders import BAR

    begin = ids.index(BAR) if BAR in ids else -1
    words = [token if place > begin and token >= FIRST else None for place, token in enumerate(ids)]
    return {
        tuple(run)  # type: ignore[arg-type]
        for start in range(len(words))
        for end in range(start, len(words))
        if None not in (run := words[start : end + 1])
    }


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_allowed_tokens_spell_the_spans_of_the_input(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    model = tiny_model("t5")
    rows = [[*context(rng, blocks=blocks)] if blocks else [FIRST, FIRST + 1, FIRST, EOS] for _ in range(2)]
    ids, mask = padded(rows)
    for query, row in enumerate(rows):
        expected, spelled = spans_of(row), set()
        open_rows: list[tuple[int, ...]] = [()]
        while open_rows:
            written = open_rows.pop()
            constraint = SpanConstraint(model.layout(ids, mask), EOS)
            for token in written:
                constraint.advance(torch.full((2, 1), token))
            following = constraint.allowed(VOCAB)[query, 0].nonzero().squeeze(1).tolist()
            assert (EOS in following) is bool(written)
            for token in set(following) - {EOS}:
                spelled.add((*written, token))
                open_rows.append((*written, token))
        assert spelled == expected


def test_greedy_decoding_with_several_rows_writes_spans() -> None:
    model = tiny_model("t5, copying")
    rng = np.random.default_rng(3)
    rows = [context(rng, blocks=2) for _ in range(3)]
    with torch.inference_mode():
        encoded = model.encode(*padded(rows))
        assert encoded.layout is not None
        session = UniGenSession(model, encoded, "answer")
        constraint = SpanConstraint(encoded.layout, EOS)
        written: list[list[list[int]]] = [[[]] for _ in rows]
        tokens = torch.full((3, 1), START)
        for step in range(8):
            logits = session.step(tokens).masked_fill(~constraint.allowed(VOCAB), float("-inf"))
            best = logits.topk(2, dim=2).indices if step == 0 else logits.argmax(dim=2, keepdim=True)
            parents = torch.arange(best.shape[1]).repeat_interleave(best.shape[2]).expand(3, -1)
            tokens = best.flatten(1)
            session.reorder(parents)
            constraint.reorder(parents)
            constraint.advance(tokens)
            written = [
                [[*texts[parent], token] for parent, token in zip(parents[0].tolist(), row, strict=True)]
                for texts, row in zip(written, tokens.tolist(), strict=True)
            ]
    for row, texts in zip(rows, written, strict=True):
        assert len(texts) == 2
        for text in texts:
            answer = text[: text.index(EOS)] if EOS in text else text
            assert tuple(answer) in spans_of(row)
            assert EOS not in text or set(text[text.index(EOS) :]) == {EOS}


def test_an_input_without_words_allows_the_empty_answer_only() -> None:
    model = tiny_model("t5")
    constraint = SpanConstraint(model.layout(torch.tensor([[EOS]]), torch.ones((1, 1))), EOS)
    assert constraint.allowed(VOCAB)[0, 0].nonzero().squeeze(1).tolist() == [EOS]
