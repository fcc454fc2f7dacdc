"""Labelled candidates: what is relevant, what is added, what is left out, and the draw of negatives."""

from __future__ import annotations

import pytest

from retgen.errors import MismatchError, UnknownDocumentError, UsageError
from retgen.formats.dpr import Example
from retgen.train.candidates import LabelledCandidates, drawn, from_answers, from_examples, from_qrels
from retgen.types import Document, Query, Run, Triplet

QUERIES = [Query("q1", "who?"), Query("q2", "what?"), Query("q3", "where?"), Query("q4", "when?")]
RUN = Run.from_dict(
    {
        "q1": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0},
        "q2": {"b": 2.0, "a": 1.0},
        "q3": {"d": 2.0, "c": 1.0},
        "q4": {},
    }
)
QRELS = {"q1": {"b": 1, "a": 0}, "q2": {"z": 1, "y": 2}, "q4": {"a": 1}}
DOCUMENTS = {
    "a": Document("a", "Joseph Priestley found it."),
    "b": Document("b", "It was Priestleys brother.", "Priestley"),
    "c": Document("c", "A gas."),
    "d": Document("d", "In Leeds, by PRIESTLEY"),
}


def test_relevant_is_what_is_judged_so_and_everything_else_is_not() -> None:
    found = from_qrels(QUERIES[:1], RUN, QRELS)
    assert found.questions == (LabelledCandidates(QUERIES[0], ("a", "b", "c", "d"), (0, 1, 0, 0)),)


def test_a_question_without_a_relevant_candidate_is_left_out_and_counted() -> None:
    found = from_qrels(QUERIES, RUN, QRELS, add_gold=False)
    assert [candidates.query.id for candidates in found] == ["q1"]
    statistics = found.statistics
    assert (statistics.questions, statistics.kept, statistics.without_positive, statistics.added) == (4, 1, 3, 0)
    assert (statistics.positives, statistics.negatives) == (1, 3)
    assert "3 left out" in str(statistics)


def test_the_best_gold_passage_is_added_where_the_first_stage_missed_all() -> None:
    found = from_qrels(QUERIES, RUN, QRELS, top_n=2)
    assert {candidates.query.id: candidates.passages for candidates in found} == {
        "q1": ("a", "b"),
        "q2": ("b", "y"),
        "q4": ("a",),
    }
    assert found.statistics.added == 2
    assert all(sum(candidates.labels) == 1 for candidates in found)


def test_top_n_bounds_every_question_with_and_without_gold() -> None:
    for top_n in range(1, 6):
        for add_gold in (True, False):
            found = from_qrels(QUERIES, RUN, QRELS, top_n=top_n, add_gold=add_gold)
            assert all(1 <= len(candidates) <= top_n for candidates in found)


def test_distant_labels_are_dprs() -> None:
    triplets = [Triplet(QUERIES[0], ("priestley",), ())]
    found = from_answers(triplets, RUN, DOCUMENTS)
    # Token for token, without regard to case, and not in the title.
    assert found.questions[0].labels == (1, 0, 0, 1)


def test_distant_labels_add_a_gold_passage_only_if_it_holds_the_answer() -> None:
    triplets = [Triplet(QUERIES[2], ("Joseph",), ("b", "a")), Triplet(QUERIES[3], ("Joseph",), ("b",))]
    found = from_answers(triplets, RUN, DOCUMENTS)
    assert [(c.query.id, c.passages, c.labels) for c in found] == [("q3", ("d", "c", "a"), (0, 0, 1))]
    assert found.statistics.without_positive == 1
    assert not from_answers(triplets, RUN, DOCUMENTS, add_gold=False).questions


def test_progress_counts_questions() -> None:
    seen: list[tuple[int, int]] = []
    from_answers(
        [Triplet(query, ("x",), ()) for query in QUERIES], RUN, DOCUMENTS, progress=lambda *done: seen.append(done)
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_candidates_of_a_dpr_file() -> None:
    a, b, c, d = DOCUMENTS.values()
    examples = [
        Example(QUERIES[0], ("x",), (a, d), (b, a), (c, b)),
        Example(QUERIES[1], ("x",), (), (c,)),
    ]
    found, passages = from_examples(examples)
    assert found.questions == (LabelledCandidates(QUERIES[0], ("a", "d", "b", "c"), (1, 1, 0, 0)),)
    assert passages == DOCUMENTS
    assert found.statistics.without_positive == 1
    fewer, passages = from_examples(examples, top_n=2, positives=1)
    # The positive that is cut does not come back as a negative.
    assert fewer.questions == (LabelledCandidates(QUERIES[0], ("a", "b"), (1, 0)),)
    assert set(passages) == {"a", "b"}


def test_a_draw_keeps_positives_and_order_and_follows_from_seed_epoch_and_question() -> None:
    questions = [
        LabelledCandidates(Query(f"q{n}", "?"), tuple(f"d{m}" for m in range(30)), (0,) * 7 + (1, 1) + (0,) * 21)
        for n in range(5)
    ]
    one = drawn(questions, 4, seed=1)
    for question in one:
        assert question.positives == ("d7", "d8")
        assert len(question.negatives) == 4
        assert sorted(question.passages, key=lambda doc_id: int(doc_id[1:])) == list(question.passages)
    assert drawn(questions, 4, seed=1) == one
    assert drawn(questions[::-1], 4, seed=1)[::-1] == one
    assert drawn(questions, 4, seed=1, epoch=1) != one
    assert drawn(questions, 4, seed=2) != one
    assert len({question.passages for question in one}) > 1
    assert drawn(questions, 28, seed=1) == questions


def test_bad_input_is_named() -> None:
    with pytest.raises(UsageError, match="labels"):
        LabelledCandidates(QUERIES[0], ("a",), ())
    with pytest.raises(UsageError, match="twice"):
        LabelledCandidates(QUERIES[0], ("a", "a"), (0, 1))
    with pytest.raises(UsageError, match="neither"):
        LabelledCandidates(QUERIES[0], ("a",), (2,))
    with pytest.raises(UsageError, match="lacks question 'q9'"):
        from_qrels([Query("q9", "?")], RUN, QRELS)
    with pytest.raises(UsageError, match="twice"):
        from_qrels([QUERIES[0], QUERIES[0]], RUN, QRELS)
    with pytest.raises(UsageError, match="at least one candidate"):
        from_qrels(QUERIES, RUN, QRELS, top_n=0)
    with pytest.raises(UsageError, match="negative"):
        drawn([], 0, seed=0)
    with pytest.raises(UnknownDocumentError, match="'a'"):
        from_answers([Triplet(QUERIES[0], ("x",), ())], RUN, {})


def test_a_run_of_another_corpus_is_refused() -> None:
    class Fingerprinted(dict[str, Document]):
        fingerprint = "other"

    run = Run.from_dict({"q1": {"a": 1.0}}, fingerprint="one")
    with pytest.raises(MismatchError):
        from_answers([Triplet(QUERIES[0], ("x",), ())], run, Fingerprinted(DOCUMENTS))
