"""Text measures equal the official ones; spans are exact, ordered and cover what they should."""

from __future__ import annotations

import itertools
import json
import re
import string
import unicodedata
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import UsageError
from retgen.text import chunk_words, dpr_tokens, has_answer, normalise_answer, sentences, word_spans, words

TEXTS = st.text(max_size=200) | st.text(alphabet="aB1 .,!?\"'\n–Éé。 ", max_size=200)


def squad_normalise(text: str) -> str:
    """SQuAD's definition, step by step: lower, punctuation out, articles out, white space fixed."""
    text = "".join(mark for mark in text.lower() if mark not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@given(TEXTS)
def test_normalise_answer_is_squads(text: str) -> None:
    assert normalise_answer(text) == squad_normalise(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("a  an the", ""),
        ("an apple-a-day", "appleaday"),
        ("U.S. dollars", "us dollars"),
        ("theatre", "theatre"),
        ("“the”", "“ ”"),
    ],
)
def test_normalise_answer_golden(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def naive_has_answer(answers: list[str], text: str) -> bool:
    """DPR's definition: some run of the text's lower-cased tokens equals the answer's."""
    pattern = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)

    def tokens(value: str) -> list[str]:
        return [match.group().lower() for match in pattern.finditer(unicodedata.normalize("NFD", value))]

    found = tokens(text)
    return any(
        wanted == found[i : i + len(wanted)]
        for wanted in map(tokens, answers)
        if wanted
        for i in range(len(found) - len(wanted) + 1)
    )


@given(st.lists(st.text(alphabet="abA. é-1", max_size=6), max_size=3), st.text(alphabet="abA. é-1\n", max_size=40))
def test_has_answer_is_dprs_on_close_calls(answers: list[str], text: str) -> None:
    assert has_answer(answers, text) == naive_has_answer(answers, text)


@given(st.lists(TEXTS, max_size=2), TEXTS)
def test_has_answer_is_dprs(answers: list[str], text: str) -> None:
    assert has_answer(answers, text) == naive_has_answer(answers, text)


def test_has_answer_on_the_edge() -> None:
    assert has_answer(["café"], unicodedata.normalize("NFD", "A CAFÉ there"))
    assert not has_answer(["York"], "Yorkshire")
    assert not has_answer(["", " ", "\u200b"], "anything")
    assert not has_answer([], "anything")
    assert has_answer(["3.5"], "It cost 3.5 dollars")
    assert dpr_tokens("a_b") == ["a", "_", "b"]


def test_has_answer_on_squad(shared_data: Path) -> None:
    """An annotated answer is a piece of its paragraph: the matcher finds it wherever it is cut at tokens."""
    whole = json.loads((shared_data / "squad" / "dev-v1.1.json").read_text())
    cases = [
        ([answer["text"] for answer in question["answers"]], paragraph["context"])
        for article in whole["data"][:12]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    found = sum(has_answer(answers, context) for answers, context in cases)
    assert found / len(cases) > 0.995


@given(TEXTS)
def test_sentences_cover_every_character_but_white_space(text: str) -> None:
    spans = sentences(text)
    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))


@given(st.lists(st.sampled_from(["The cat sat.", "Is it so?", "No way!", "He said 3.5 was best."]), max_size=6))
def test_plain_sentences_are_found_again(parts: list[str]) -> None:
    text = " ".join(parts)
    assert [text[start:end] for start, end in sentences(text)] == parts


@pytest.mark.parametrize(
    "parts",
    [
        ["Dr. Smith met Mrs. Jones at 5 p.m. on Jan. 5.", "They talked."],
        ["J. R. R. Tolkien wrote it.", "It sold well."],
        ["He moved to the U.S. in 1990.", "The U.S. economy grew."],
        ["He works at Apple Inc. in California.", "It rained."],
        ["He works at Apple Inc.", "The firm is old."],
        ["Version 3.5 costs $1.50 (see Fig. 3).", "It works, e.g. on Mac."],
        ['"Why?" he asked.', "Nobody knew…", "He left!"],
        ['He said "Stop."', "She did not."],
        ["It ended (finally.)", "[1] Then it began."],
        ["World War I.", "The war ended."],
        ["一つ。", "二つ！", "三つ？"],
        ["A title without a stop", "And its text."],
        ["Yes?!", "No..."],
        ["The cat sat.", "It shone like the sun.", "They wed.", "She ate a fig.", "No.", "I said so."],
        ["On Sat. 3 Mar. he came to Ft. Worth with Gen. Lee.", "Art. 5 and Vol. IV say so."],
        ["He owns Smith & Co. of London.", "He walked 5 ft. and fell.", "It was approx. Ten o'clock."],
    ],
)
def test_sentences_golden(parts: list[str]) -> None:
    joint = "" if parts[0][0] == "一" else "\n\n" if not parts[0].endswith((".", "?", "!", '"', ")")) else " "
    text = joint.join(parts)
    assert [text[start:end] for start, end in sentences(text)] == parts


def test_sentences_take_linear_time() -> None:
    """A long text without any end, and one of nothing but ends, are both cut in one pass."""
    assert len(sentences("word " * 200_000)) == 1
    assert len(sentences("Mr. " * 100_000)) == 1
    assert len(sentences("Go. " * 100_000)) == 100_000
    assert sentences("." * 200_000) == [(0, 200_000)]


@given(TEXTS, st.integers(1, 7), st.data())
def test_chunks_are_windows_of_words(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    every = words(text)
    chunks = [words(text[start:end]) for start, end in chunk_words(text, size, overlap)]
    step = size - overlap
    assert [word for number, chunk in enumerate(chunks) for word in chunk[overlap if number else 0 :]] == every
    assert all(chunk == every[number * step : number * step + size] for number, chunk in enumerate(chunks))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert not chunks or len(chunks) == 1 or len(chunks[-1]) > overlap


@given(TEXTS)
def test_word_spans_and_words_agree(text: str) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words(text)


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (3, 3), (3, -1)])
def test_a_chunk_that_cannot_be_cut_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(UsageError):
        chunk_words("a b c", size, overlap)
