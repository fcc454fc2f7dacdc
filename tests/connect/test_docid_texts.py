"""Docids from summaries: never empty, never too long, repaired ones marked; and the report says how good they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.connect.docid_quality import docid_quality, until_unique
from retgen.connect.docid_texts import LEAD, DocidText, docid_texts, is_refusal
from retgen.errors import UsageError
from retgen.types import Document

TIN = Document("tin", "Tin melts at 232 °C. It is a soft metal that was alloyed with copper to bronze.", "Tin")
ROWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12)


def docid(written: str, words: int = 8, document: Document = TIN) -> DocidText:
    return docid_texts([document], [written], "m", words=words)[0]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("Tin is soft.", "Tin is soft."),
        ("Summary: Tin is soft.", "Tin is soft."),
        ("Sure! Here is a summary of the document in about 8 words:\n\n**Tin** is soft.", "Tin is soft."),
        ("Here's the summary: “Tin is soft.”", "Tin is soft."),
        ('"Tin" and "zinc"', '"Tin" and "zinc"'),
        ("- Tin is\n  soft.", "Tin is soft."),
        ("Here be dragons.", "Here be dragons."),
    ],
)
def test_labels_markup_and_quotes_around_it_are_taken_off(written: str, text: str) -> None:
    assert docid(written) == DocidText(text, "m")


@pytest.mark.parametrize(
    ("written", "repair"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("***", "empty"),
        ("Summary:", "empty"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("As an AI language model, I cannot read it.", "refused"),
        ("I cannot summarize this.", "refused"),
    ],
)
def test_empty_and_refused_ones_give_way_to_the_documents_first_words(written: str, repair: str) -> None:
    assert docid(written, words=4) == DocidText("Tin melts at 232", LEAD, repair)  # type: ignore[arg-type]
    assert docid(written, document=Document("t", "", "Tin")).text == "Tin"


def test_what_merely_speaks_of_refusing_is_no_refusal() -> None:
    for text in (
        "I, Claudius is a novel.",
        "Sorry! is a board game.",
        "Unfortunately, the bridge fell.",
        "I can sing.",
    ):
        assert not is_refusal(text)


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(1, 20))
def test_none_is_empty_or_too_long(written: str, words: int) -> None:
    found = docid(written, words)
    assert found.text.strip()
    assert len(found.text.split()) <= max(1, int(1.5 * words))
    assert found.text == " ".join(found.text.split())
    assert (found.writer == LEAD) == bool(found.repair)


def test_long_ones_end_with_a_whole_sentence_where_that_leaves_enough() -> None:
    two = "Tin is a soft and silvery metal. It melts at 232 °C, far below copper and iron and zinc."
    assert docid(two, words=8) == DocidText("Tin is a soft and silvery metal.", "m", cut=True)
    one = "Tin. It melts at 232 °C, far below copper and iron and zinc and lead and gold."
    assert docid(one, words=8) == DocidText(" ".join(one.split()[:12]), "m", cut=True)


def test_what_does_not_pair_up_is_refused() -> None:
    for make in (
        lambda: docid_texts([TIN], [], "m"),
        lambda: docid_texts([TIN], [""], "m", words=0),
        lambda: docid_quality([TIN], []),
    ):
        with pytest.raises(UsageError):
            make()


@given(ROWS)
def test_a_docid_is_unique_after_so_many_tokens_and_no_sooner(rows: list[tuple[int, ...]]) -> None:
    single = [row for row in rows if rows.count(row) == 1]
    found = until_unique(rows)
    assert len(found) == len(single)
    for row, length in zip(single, found, strict=True):
        others = {(*other, "end") for other in rows if other != row}
        own = (*row, "end")
        assert all(other[:length] != own[:length] for other in others)
        assert length == 1 or any(other[: length - 1] == own[: length - 1] for other in others)


def test_the_report_counts_what_it_says() -> None:
    documents = [TIN, Document("a", "Iron rusts."), Document("b", "Gold is dense."), Document("c", "Gold shines.")]
    docids = [
        DocidText("Tin melts at dawn", "m"),
        DocidText("Iron rusts.", LEAD, "refused"),
        DocidText("Gold", "m", cut=True),
        DocidText("gold", "m"),
    ]
    found = docid_quality(documents, docids)
    assert (found.documents, found.sharing, found.groups, found.cut, found.unit) == (4, 2, 1, 1, "words")
    assert dict(found.repaired) == {"refused": 1}
    assert (found.words.low, found.words.median, found.words.high) == (1, 1.5, 4)
    assert found.overlap == pytest.approx((3 / 4 + 1 + 1 + 1) / 4)
    assert (found.until_unique.low, found.until_unique.high) == (1, 1)
    by_letter = docid_quality(documents, docids, tokenise=list)
    assert (by_letter.unit, by_letter.sharing, by_letter.tokens.high) == ("tokens", 0, 17)
    assert found.to_json()["repaired"] == {"refused": 1}
    assert "1 refused" in str(found)
    assert docid_quality([], []).until_unique.high == 0
