"""Chosen sentences stay inside the word budget, in order, and as they are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retgen.connect import TermWeights
from retgen.connect.extract import central_words, clip, lead, plain, quote

WEIGHTS = TermWeights()
PROSE = st.lists(
    st.sampled_from("iron melts slowly . Tin bends ! A river rises in France ? é 東京 。".split()), max_size=60
)
TEXTS = st.one_of(st.text(max_size=200), PROSE.map(" ".join))


@given(TEXTS, st.lists(TEXTS, max_size=4), st.integers(1, 80))
def test_quotes_keep_the_budget_and_the_wording(question: str, passages: list[str], budget: int) -> None:
    quoted = quote(question, passages, budget, WEIGHTS)
    assert len(quoted) == len(passages)
    assert sum(len(sentence.split()) for row in quoted for sentence in row) <= budget
    for row, passage in zip(quoted, passages, strict=True):
        position = 0
        for sentence in row:
            assert sentence
            position = plain(passage).index(sentence, position) + len(sentence)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_a_wide_budget_quotes_every_word(question: str, passages: list[str]) -> None:
    quoted = quote(question, passages, 10_000, WEIGHTS)
    assert [" ".join(row).split() for row in quoted] == [passage.split() for passage in passages] or any(
        "。" in passage for passage in passages
    )


def test_the_sentence_that_shares_the_questions_words_comes_first() -> None:
    passage = "Lead is soft. Radium was found in 1898 by Curie. Gold is dear."
    assert quote("When was radium found?", [passage], 7, WEIGHTS) == [("Radium was found in 1898 by Curie.",)]


def test_higher_ranks_get_more_and_each_gets_something() -> None:
    passage = " ".join(f"The river number {i} rises in the north and reaches the sea." for i in range(20))
    rows = quote("Which river rises in the north?", [passage] * 3, 90, WEIGHTS)
    words = [sum(len(sentence.split()) for sentence in row) for row in rows]
    assert words[0] > words[1] >= words[2] > 0


def test_what_is_shown_already_is_left_out() -> None:
    passage = "Radium was found in 1898. Radium glows."
    assert quote("radium", [passage], 50, WEIGHTS, skip=["Radium was found in 1898."]) == [("Radium glows.",)]


@given(TEXTS, st.integers(0, 30), TEXTS)
def test_clip_is_a_stretch_of_that_many_words(sentence: str, words: int, question: str) -> None:
    clipped = clip(sentence, words, WEIGHTS.terms(question), WEIGHTS)
    assert clipped in sentence
    assert len(clipped.split()) == min(words, len(sentence.split()))


def test_clip_covers_the_terms_with_them_near_its_middle() -> None:
    sentence = "one two three four five iron tin six seven eight nine ten"
    assert clip(sentence, 6, ["iron", "tin"], WEIGHTS) == "four five iron tin six seven"


@given(TEXTS, st.integers(1, 40))
def test_summaries_keep_the_limit_and_the_order_of_words(text: str, words: int) -> None:
    summary = central_words(text, words, WEIGHTS).split()
    assert len(summary) <= words
    assert bool(summary) == bool(text.split())
    remaining = iter(text.split())
    # Sentences may end without a space (。), so words are compared as the characters they are made of.
    letters = iter("".join(remaining))
    assert all(letter in letters for letter in "".join(summary))


def test_a_summary_prefers_what_the_text_is_about() -> None:
    text = (
        "We had lunch. The volcano Etna erupted; the lava of the volcano Etna reached the sea. Lava and ash from the "
        "volcano Etna fell on Catania. Someone sang a song about cheese, wine and bread and butter."
    )
    summary = central_words(text, 15, WEIGHTS)
    assert summary == "The volcano Etna erupted; the lava of the volcano Etna reached the sea."


def test_lead_counts_words() -> None:
    assert lead(" a  b\nc ", 2) == "a b"
    assert lead("", 3) == ""
