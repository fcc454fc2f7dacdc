"""Examples say what is to be learnt from what: targets end in EOS, and spans stand where the answer is."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.connect.blocks import ContextBlock, render
from retgen.docids.table import DocidTable
from retgen.errors import UnknownDocumentError, UsageError
from retgen.generative.inputs import tokenise_inputs
from retgen.models.marks import without_marks
from retgen.models.unigen import IGNORED
from retgen.text import normalise_answer
from retgen.train.collate import UniGenCollator
from retgen.train.epochs import EpochDataset
from retgen.train.examples import (
    UniGenExample,
    answer_characters,
    finetuning_examples,
    pretraining_examples,
    shuffle_passages,
)
from retgen.types import Document, Query, Triplet
from tests.train.toy import CORPUS, DOCID_TEXTS, QUESTIONS, TRIPLETS, contexts, toy_system

SYSTEM = toy_system(copy_head=True, span_head=True)
TABLE: DocidTable = SYSTEM.table
EOS = TABLE.eos_token_id

# "5" occurs within numbers, answers recur in other blocks and in the question, and marks stand in texts.
words = st.sampled_from(["iron", "Iron", "ironic", "5", "15", "melts", "at", "a|b", "x»y", "New", "York", "é", "東京"])
texts = st.lists(words, min_size=1, max_size=8).map(" ".join)


def collator(**options: object) -> UniGenCollator:
    return UniGenCollator(SYSTEM.tokenizer, eos_token_id=EOS, **options)  # type: ignore[arg-type]


def span_texts(collate: UniGenCollator, example: UniGenExample, draw: int = 0) -> list[str]:
    """What the labelled spans of a collated example say."""
    text = collate._text(example, draw)
    item = tokenise_inputs(SYSTEM.tokenizer, [text], collate.max_input_tokens)[0]
    batch = collate([(example, draw)])
    assert batch["input_ids"][0].tolist() == list(item.ids)
    return [item.span_text(a, b) for a, b in batch["answer_spans"][0].tolist() if a >= 0]


@settings(max_examples=300, deadline=None)
@given(question=texts, bodies=st.lists(texts, min_size=1, max_size=4), answer=texts, gold=st.integers(0, 3))
def test_answers_are_found_in_the_gold_block_only(question: str, bodies: list[str], answer: str, gold: int) -> None:
    gold %= len(bodies)
    blocks = [ContextBlock(str(n), f"docid {n}", (body,)) for n, body in enumerate(bodies)]
    text = render(blocks, question)
    flat = [block.text for block in blocks]
    begins = len(without_marks(question)) + 3 + sum(len(block) + 3 for block in flat[:gold])
    assert text[begins : begins + len(flat[gold])] == flat[gold]
    found = answer_characters(text, (answer,), f"docid {gold}")
    for start, end in found:
        assert text[start:end] == without_marks(answer)
        assert begins <= start < end <= begins + len(flat[gold])
    stands = re.search(rf"(?<!\w){re.escape(without_marks(answer))}(?!\w)", flat[gold])
    assert bool(found) == bool(stands)


@settings(max_examples=150, deadline=None)
@given(
    question=texts,
    bodies=st.lists(texts, min_size=1, max_size=4),
    answers=st.lists(texts, min_size=1, max_size=2),
    limit=st.integers(4, 60),
    shuffle=st.sampled_from([0.0, 1.0]),
    draw=st.integers(0, 1000),
)
def test_labelled_spans_say_the_answer(
    question: str, bodies: list[str], answers: list[str], limit: int, shuffle: float, draw: int
) -> None:
    blocks = [ContextBlock(str(n), f"docid {n}", (body,)) for n, body in enumerate(bodies)]
    example = UniGenExample(render(blocks, question), (7, EOS), tuple(answers), "docid 0")
    wanted = {normalise_answer(without_marks(answer)) for answer in answers}
    collate = collator(max_input_tokens=limit, shuffle=shuffle)
    assert {normalise_answer(text) for text in span_texts(collate, example, draw)} <= wanted


def test_spans_of_the_eight_questions() -> None:
    for example, triplet in zip(finetuning_examples(TRIPLETS, contexts(), TABLE), TRIPLETS, strict=True):
        for collate in (collator(), collator(shuffle=1.0)):
            assert set(span_texts(collate, example, 3)) == {triplet.answers[0]}


def test_a_number_within_a_number_is_no_answer() -> None:
    text = "which? | Iron » melts at 1538 | Tin » is 5 of 15 | Lead » is 5 |"
    assert [text[a:b] for a, b in answer_characters(text, ("5",), "Tin")] == ["5"]
    assert answer_characters(text, ("5",), "Tin")[0][0] == text.index("is 5") + 3
    example = UniGenExample(text, (7, EOS), ("5",), "Iron")
    assert span_texts(collator(), example) == []


def test_words_without_spaces_between_them_are_found() -> None:
    text = "首都 | 日本 » 首都は東京都です |"
    assert [text[a:b] for a, b in answer_characters(text, ("東京",), "日本")] == ["東京"]


def test_answers_are_found_anywhere_without_blocks() -> None:
    text = "who found oxygen? Priestley did, Joseph Priestley"
    assert [text[a:b] for a, b in answer_characters(text, ("Priestley",), "")] == ["Priestley"] * 2
    assert answer_characters("q | Iron » Priestley |", ("Priestley",), "") == []


def test_truncation_takes_spans_that_are_cut_off() -> None:
    example = finetuning_examples(TRIPLETS, contexts(), TABLE)[0]
    whole = collator()([(example, 0)])
    last = int(whole["answer_spans"].max())
    for limit, found in ((last, False), (last + 1, False), (last + 2, True)):  # EOS takes a place
        batch = collator(max_input_tokens=limit)([(example, 0)])
        assert batch["input_ids"].shape[1] == limit
        assert batch["input_ids"][0, -1] == EOS
        assert bool((batch["answer_spans"] >= 0).any()) == found


@settings(max_examples=100, deadline=None)
@given(question=texts, bodies=st.lists(texts, min_size=0, max_size=5), answer=st.booleans(), seed=st.integers(0, 99))
def test_shuffling_moves_whole_passages(question: str, bodies: list[str], answer: bool, seed: int) -> None:
    blocks = [ContextBlock(str(n), f"docid {n}", (body,)) for n, body in enumerate(bodies)]
    said = [ContextBlock.of_answer("said before")] if answer else []
    text = render([*said, *blocks], question)
    shuffled = shuffle_passages(text, random.Random(seed))
    head = render(said, question)
    assert shuffled.startswith(head)
    assert len(shuffled) == len(text)
    parts = shuffled[len(head) :].strip(" |").split(" | ") if bodies else []
    assert sorted(parts) == sorted(block.text for block in blocks)


def test_shuffles_follow_seed_epoch_and_example_alone() -> None:
    example = finetuning_examples(TRIPLETS, contexts(), TABLE)[0]
    data = EpochDataset([example] * 4)

    def epoch(number: int, seed: int = 0, shuffle: float = 1.0) -> list[str]:
        data.set_epoch(number)
        return [collator(shuffle=shuffle, seed=seed)._text(*data[n]) for n in range(4)]

    assert epoch(0) == epoch(0)
    assert len({tuple(epoch(n)) for n in range(6)}) > 3
    assert len({tuple(epoch(0, seed)) for seed in range(6)}) > 3
    assert epoch(5, shuffle=0.0) == [example.input_text] * 4
    some = [text for n in range(50) for text in epoch(n, shuffle=0.3)]
    kept = sum(text == example.input_text for text in some) / len(some)
    assert 0.65 < kept < 0.85  # 0.7, and 1 of 6 shuffles that change nothing


def test_targets_end_in_eos() -> None:
    examples = finetuning_examples(TRIPLETS, QUESTIONS, TABLE)
    batch = collator(max_answer_tokens=3)([(example, n) for n, example in enumerate(examples)])
    for name in ("docid_labels", "answer_labels"):
        for row in batch[name].tolist():
            known = [token for token in row if token != IGNORED]
            assert known[-1] == EOS
            assert EOS not in known[:-1]
            assert row[: len(known)] == known
    for row, triplet in zip(batch["docid_labels"].tolist(), TRIPLETS, strict=True):
        assert [token for token in row if token != IGNORED] == TABLE.token_ids(TABLE.number(triplet.doc_ids[0]))
    assert batch["answer_labels"].shape[1] == 3
    longest = collator()([(example, 0) for example in examples])["answer_labels"]
    answers = [
        SYSTEM.tokenizer.decode([t for t in row if t >= 0], skip_special_tokens=True) for row in longest.tolist()
    ]
    assert [answer.strip() for answer in answers] == [triplet.answers[0] for triplet in TRIPLETS]


def test_missing_targets_are_masked() -> None:
    gold = Triplet(Query("both", "q"), ("Au",), ("gold",))
    triplets = [gold, Triplet(Query("no-answer", "q"), (), ("gold",)), Triplet(Query("no-docid", "q"), ("Au",), ())]
    examples = finetuning_examples(triplets, [triplet.query for triplet in triplets], TABLE)
    batch = collator()([(example, 0) for example in examples])
    assert [bool((row != IGNORED).any()) for row in batch["docid_labels"]] == [True, True, False]
    assert [bool((row != IGNORED).any()) for row in batch["answer_labels"]] == [True, False, True]
    # What is masked changes neither loss.
    model = SYSTEM.model
    alone = model(**collator()([(examples[0], 0)]))
    without = {"docid": examples[2], "answer": examples[1]}
    for name, part in (("docid", "retrieval_loss"), ("answer", "answer_loss")):
        both = model(**collator()([(examples[0], 0), (without[name], 0)]))
        assert getattr(both, part).item() == pytest.approx(getattr(alone, part).item(), abs=1e-5)


def test_a_batch_without_any_target_has_a_loss() -> None:
    batch = collator()([(UniGenExample("nothing to learn"), 0)])
    loss = SYSTEM.model(**batch).loss
    assert loss.item() == 0.0
    assert loss.requires_grad


def test_one_example_for_each_relevant_document() -> None:
    triplet = Triplet(Query("q", "metals?"), ("x",), ("iron", "gold"))
    examples = finetuning_examples([triplet], [triplet.query], TABLE)
    assert [example.docid_text for example in examples] == ["Iron", "Gold"]
    assert {example.input_text for example in examples} == {"metals?"}


def test_questions_with_nothing_to_learn_are_left_out() -> None:
    triplet = Triplet(Query("q", "?"), (), ())
    assert finetuning_examples([triplet], [triplet.query], TABLE) == []


def test_fine_tuning_reads_connectors() -> None:
    examples = finetuning_examples(TRIPLETS, contexts(), TABLE)
    assert [example.input_text for example in examples] == [query.input_text for query in contexts()]


@pytest.mark.parametrize("docid_in_input", [True, False])
def test_pre_training_puts_the_document_beside_its_question(docid_in_input: bool) -> None:
    pseudo = [*TRIPLETS, Triplet(Query("marked", "a | b » c?"), ("Au",), ("gold",))]
    examples = pretraining_examples(pseudo, CORPUS, TABLE, docid_in_input=docid_in_input)
    assert len(examples) == len(pseudo)
    for example, triplet in zip(examples, pseudo, strict=True):
        number = TABLE.number(triplet.doc_ids[0])
        assert example.docid == tuple(TABLE.token_ids(number))
        assert CORPUS[triplet.doc_ids[0]].text in example.input_text
        assert example.input_text.count("|") == (2 if docid_in_input else 0)
        assert example.input_text.count("»") == (1 if docid_in_input else 0)
        assert (DOCID_TEXTS[triplet.doc_ids[0]] + " »" in example.input_text) == docid_in_input
        # The docid opens the block, so "Paris" stands there too.
        assert set(span_texts(collator(), example)) == {triplet.answers[0]}


def test_documents_with_marks_make_one_block() -> None:
    documents = {"gold": Document("gold", "a | b » Au | c", "Gold")}
    example = pretraining_examples([Triplet(Query("q", "sign?"), ("Au",), ("gold",))], documents, TABLE)[0]
    assert example.input_text == 'sign? | Gold » a / b " Au / c |'
    assert span_texts(collator(), example) == ["Au"]


def test_unknown_documents_are_named() -> None:
    triplet = Triplet(Query("q", "?"), ("x",), ("atlantis",))
    with pytest.raises(UnknownDocumentError, match="atlantis"):
        finetuning_examples([triplet], [triplet.query], TABLE)
    with pytest.raises(UnknownDocumentError, match="atlantis"):
        pretraining_examples([triplet], {"atlantis": Document("atlantis", "sunk")}, TABLE)


def test_questions_without_an_input_are_named() -> None:
    with pytest.raises(UsageError, match="q-iron"):
        finetuning_examples(TRIPLETS, QUESTIONS[:1], TABLE)


def batches(rows: Sequence[str]) -> list[int]:
    data = EpochDataset([UniGenExample(row) for row in rows])
    return [len(data), *(data[n][1] for n in range(len(rows)))]


def test_data_sets_number_their_draws() -> None:
    assert batches(["a", "b"]) == [2, 0, 1]
    data = EpochDataset([UniGenExample("a"), UniGenExample("b")])
    data.set_epoch(3)
    assert [data[n][1] for n in range(2)] == [6, 7]
