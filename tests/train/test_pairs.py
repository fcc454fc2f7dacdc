"""Pairs: which texts stand for a document, and in which shares they are mixed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.connect import pseudo_questions
from retgen.docids.coded_schemes import IntegerScheme
from retgen.docids.table import DocidTable
from retgen.errors import UsageError
from retgen.train.pairs import Material, PairKind, Pairs, mixed_examples
from retgen.train.systems import SYSTEMS
from retgen.types import Document, Triplet
from tests.train.toy import CORPUS, DOCUMENTS, QUESTIONS, TRIPLETS, contexts, toy_network

TOKENIZER = toy_network([document.contents for document in DOCUMENTS])[1]
LONG = Document("long", " ".join(f"w{number}" for number in range(200)), "A long one")
PSEUDO = pseudo_questions([*DOCUMENTS, LONG], 3)


def material(**changes: object) -> Material:
    documents = [*DOCUMENTS, LONG]
    table = DocidTable.build(IntegerScheme()(documents), TOKENIZER)
    return replace(Material(documents, table, TRIPLETS, pseudo=PSEUDO), **changes)  # type: ignore[arg-type]


def texts(kind: PairKind, doc_id: str | None = None, **options: object) -> list[str]:
    """The inputs of a kind of pairs, of one document or of all."""
    given = material()
    docid = None if doc_id is None else tuple(given.table.token_ids(given.table.number(doc_id)))
    found = mixed_examples([Pairs(kind, **options)], given)  # type: ignore[arg-type]
    assert not any(example.answers for example in found) or options.get("answers")
    return [example.input_text for example in found if docid is None or example.docid == docid]


def test_each_kind_reads_what_it_says() -> None:
    iron = CORPUS["iron"].text
    assert texts("lead", "iron") == [iron]
    assert texts("lead", "iron", words=3) == ["Iron is a"]
    assert texts("lead", "long") == [" ".join(LONG.text.split()[:32])]
    assert texts("title", "iron") == ["Iron"]
    assert texts("questions", "iron") == ["When does iron melt?"]
    assert texts("pseudo", "iron") == [t.query.text for t in PSEUDO if t.doc_ids == ("iron",)]
    assert all(len(texts("pseudo", doc_id, per_document=1)) == 1 for doc_id in {t.doc_ids[0] for t in PSEUDO})
    # Its own words tell a document best.
    [terms] = texts("terms", "mars", words=4)
    assert set(terms.split()) <= {"Mars", "moons", "named", "Phobos", "Deimos", "two"}
    assert len(terms.split()) == 4


def test_chunks_are_runs_of_words_from_random_places() -> None:
    found = texts("chunks", "long", words=64, per_document=10)
    assert len(found) == 10
    assert all(chunk in LONG.text and len(chunk.split()) == 64 for chunk in found)
    assert len(set(found)) > 5
    # What fits into one is read whole, once.
    assert texts("chunks", "iron") == [CORPUS["iron"].text]
    assert texts("chunks", "long", words=64) == found
    other = mixed_examples([Pairs("chunks", words=64)], material(seed=1))
    assert [example.input_text for example in other if example.input_text.startswith("w")] != found


def test_docids_and_answers_are_the_document_s_own() -> None:
    given = material()
    for kind in ("lead", "title", "chunks", "terms"):
        found = mixed_examples([Pairs(kind)], given)  # type: ignore[arg-type]
        assert {example.docid for example in found} == {tuple(given.table.token_ids(n)) for n in range(9)}
    answered = mixed_examples([Pairs("questions", answers=True)], given)
    assert [example.answers for example in answered] == [triplet.answers for triplet in TRIPLETS]
    asked = mixed_examples([Pairs("questions")], material(queries=contexts()))
    assert [example.input_text for example in asked] == [query.input_text for query in contexts()]


@given(shares=st.lists(st.sampled_from([0.5, 1.0, 3.0, 32.0]), min_size=2, max_size=3))
def test_shares_hold_and_no_pair_is_left_out(shares: list[float]) -> None:
    kinds: list[PairKind] = ["lead", "questions", "pseudo"]
    given = material()
    pairs = [Pairs(kind, share=share) for kind, share in zip(kinds, shares, strict=False)]
    found = mixed_examples(pairs, given)
    alone = [set(mixed_examples([each], given)) for each in pairs]
    counts = [sum(example in own for example in found) for own in alone]
    assert all(own <= set(found) for own in alone)
    unit = max(len(own) / share for own, share in zip(alone, shares, strict=False))
    assert all(count == pytest.approx(unit * share, abs=0.51) for count, share in zip(counts, shares, strict=False))


def test_dsi_reads_documents_and_dsi_qg_reads_questions() -> None:
    """Their defining difference: what stands for a document in training."""
    given = material()
    bodies = {document.text for document in given.documents} | {" ".join(LONG.text.split()[:32])}
    asked = {query.text for query in QUESTIONS} | {triplet.query.text for triplet in PSEUDO}
    [dsi], [dsi_qg] = SYSTEMS["dsi-semantic"].stages, SYSTEMS["dsi-qg"].stages
    read = [example.input_text for example in mixed_examples(dsi.pairs, given)]
    documents = sum(text in bodies for text in read)
    assert documents == 32 * (len(read) - documents)
    assert {text for text in read if text not in bodies} == {query.text for query in QUESTIONS}
    assert {example.input_text for example in mixed_examples(dsi_qg.pairs, given)} == asked
    # A document without a training question is read all the same.
    few = material(questions=TRIPLETS[:1], pseudo=PSEUDO)
    named = {example.docid for example in mixed_examples(dsi_qg.pairs, few)}
    assert len(named) == len({triplet.doc_ids for triplet in PSEUDO} | {TRIPLETS[0].doc_ids})


def test_ultron_reads_passages_and_terms_then_made_questions_then_labelled_ones() -> None:
    kinds = [{pairs.kind for pairs in each.pairs} for each in SYSTEMS["ultron"].stages]
    assert kinds == [{"chunks", "terms", "title"}, {"pseudo"}, {"questions"}]


def test_collections_without_titles_leave_them_out() -> None:
    untitled = material(documents=[replace(document, title="") for document in [*DOCUMENTS, LONG]])
    both = mixed_examples([Pairs("lead"), Pairs("title")], untitled)
    assert both == mixed_examples([Pairs("lead")], untitled)
    with pytest.raises(UsageError, match="no pairs of the kind 'title'"):
        mixed_examples([Pairs("title")], untitled)


def test_pairs_that_cannot_be_had() -> None:
    nothing: list[Triplet] = []
    with pytest.raises(UsageError, match="no pairs of the kind 'pseudo'"):
        mixed_examples([Pairs("lead"), Pairs("pseudo")], material(pseudo=nothing))
    with pytest.raises(UsageError, match="each kind a share"):
        mixed_examples([Pairs("lead", share=1), Pairs("pseudo")], material())
    with pytest.raises(UsageError, match="needs pairs"):
        mixed_examples([], material())
    with pytest.raises(UsageError, match="There is: lead, title, chunks"):
        Pairs("middle")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="negative"):
        Pairs("lead", words=-1)
    with pytest.raises(UsageError, match="no answers"):
        Pairs("lead", answers=True)
