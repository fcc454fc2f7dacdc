"""Inputs as tokens, and the way back to characters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizer

from retgen.errors import UsageError
from retgen.generative.inputs import pad_inputs, tokenise_inputs
from tests.models.checkpoints import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from tests.train.toy import toy_system

TOKENIZERS = {
    "scratch": toy_system(copy_head=True).tokenizer,
    "sentencepiece": sentencepiece_tokenizer(),
    "wordpiece": wordpiece_tokenizer(),
    "byte level": byte_level_tokenizer(),
}
TEXTS = st.text(alphabet="abc ABC.,|»é東🦊\t", max_size=30)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), limit=st.integers(3, 20))
def test_tokens_lead_back_to_characters(name: str, texts: list[str], limit: int) -> None:
    rows = tokenise_inputs(TOKENIZERS[name], texts, limit)
    assert [row.text for row in rows] == texts
    for row in rows:
        assert 1 <= len(row.ids) <= limit
        assert len(row.ids) == len(row.offsets)
        for number, (start, end) in enumerate(row.offsets):
            assert 0 <= start <= end <= len(row.text)
            if start < end:
                span = row.token_span(start, end)
                assert span is not None
                assert span[0] <= number <= span[1]
                assert row.text[start:end] in row.span_text(*span)


@given(start=st.integers(0, 30), length=st.integers(1, 10))
def test_token_spans_cover_the_characters_they_are_asked_for(start: int, length: int) -> None:
    row = tokenise_inputs(TOKENIZERS["scratch"], ["Oxygen was found in 1774 | by Priestley"], 64)[0]
    end = min(start + length, len(row.text))
    span = row.token_span(start, end)
    if span is None:  # a space belongs to no token of this tokenizer
        assert " " in (row.text[start], row.text[end - 1])
    else:
        covered = row.offsets[span[0]][0], row.offsets[span[1]][1]
        assert covered[0] <= start < end <= covered[1]


def test_what_is_cut_off_has_no_tokens() -> None:
    text = "Oxygen was found by Joseph Priestley in 1774"
    whole, cut = (tokenise_inputs(TOKENIZERS["scratch"], [text], limit)[0] for limit in (64, 12))
    assert whole.token_span(len(text) - 4, len(text)) is not None
    assert cut.token_span(len(text) - 4, len(text)) is None
    assert cut.ids[:-1] == whole.ids[:11]
    assert cut.ids[-1] == whole.ids[-1]


def test_a_text_without_tokens_is_still_an_input() -> None:
    tokenizer = wordpiece_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    assert tokenise_inputs(tokenizer, ["", "oxygen"], 8)[0].ids == (tokenizer.sep_token_id,)
    row = tokenise_inputs(TOKENIZERS["scratch"], [""], 8)[0]
    assert row.ids == (TOKENIZERS["scratch"].eos_token_id,)
    assert row.offsets == ((0, 0),)


def test_no_texts_are_no_inputs() -> None:
    assert tokenise_inputs(TOKENIZERS["scratch"], [], 8) == []


def test_padding_is_masked() -> None:
    rows = tokenise_inputs(TOKENIZERS["scratch"], ["oxygen", "oxygen was found in 1774"], 32)
    ids, mask = pad_inputs(rows, 7)
    assert ids.shape == mask.shape == (2, max(len(row.ids) for row in rows))
    for row, row_ids, row_mask in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        assert tuple(row_ids[: len(row.ids)]) == row.ids
        assert set(row_ids[len(row.ids) :]) <= {7}
        assert row_mask == [1] * len(row.ids) + [0] * (len(row_ids) - len(row.ids))


def test_slow_tokenizers_are_refused() -> None:
    class Slow(PreTrainedTokenizer):
        vocab_size = 0

        def get_vocab(self) -> dict[str, int]:
            return {}

    with pytest.raises(UsageError, match="characters"):
        tokenise_inputs(Slow(), ["oxygen"], 8)
