"""Improvement is told apart from chance, in the right direction, over the questions a measure can be asked of."""

from __future__ import annotations

import pytest

from retgen.train.improvement import Outcome, gains, sentence
from retgen.types import Answer, Query, Run, Triplet

IDS = [f"q{number}" for number in range(12)]
TRIPLETS = [Triplet(Query(name, "who?"), ("gold",), ("right",)) for name in IDS]


def outcome(rank: int, answer: str) -> Outcome:
    """Every question finds the right document at this rank, and says this."""
    others = [f"other{number}" for number in range(rank - 1)]
    found = [[*others, "right"] for _ in IDS]
    scores = [[-float(place) for place in range(rank)] for _ in IDS]
    return Run(IDS, found, scores), [Answer(name, answer) for name in IDS]


def test_a_system_does_not_differ_from_itself() -> None:
    for gain in gains(outcome(2, "gold"), outcome(2, "gold"), TRIPLETS).values():
        assert gain.before == gain.after
        assert gain.p_value == 1
        assert gain.verdict == "no clear difference"


def test_a_gain_on_every_question_is_one_and_a_loss_when_swapped() -> None:
    found = gains(outcome(2, "lead"), outcome(1, "gold"), TRIPLETS)
    assert {name: gain.verdict for name, gain in found.items()} == {
        "R@1": "improved",
        "R@10": "no clear difference",
        "MRR@10": "improved",
        "EM": "improved",
        "F1": "improved",
    }
    swapped = gains(outcome(1, "gold"), outcome(2, "lead"), TRIPLETS)
    for name, gain in swapped.items():
        assert (gain.before, gain.after) == (found[name].after, found[name].before)
        assert gain.p_value == pytest.approx(found[name].p_value)
    assert swapped["EM"].verdict == "worse"


def test_two_questions_prove_nothing() -> None:
    found = gains(outcome(2, "lead"), outcome(1, "gold"), TRIPLETS[:2])
    assert {gain.verdict for gain in found.values()} == {"no clear difference"}
    alone = gains(outcome(2, "lead"), outcome(1, "gold"), TRIPLETS[:1])
    assert alone["EM"].p_value is None
    assert (alone["EM"].before, alone["EM"].after) == (0, 1)
    assert alone["EM"].verdict == "no clear difference"


def test_measures_that_cannot_be_asked_are_left_out() -> None:
    unanswered = [Triplet(triplet.query, (), triplet.doc_ids) for triplet in TRIPLETS]
    assert list(gains(outcome(1, "gold"), outcome(1, "gold"), unanswered)) == ["R@1", "R@10", "MRR@10"]
    unjudged = [Triplet(triplet.query, triplet.answers, ()) for triplet in TRIPLETS]
    assert list(gains(outcome(1, "gold"), outcome(1, "gold"), unjudged)) == ["EM", "F1"]
    assert gains(outcome(1, "gold"), outcome(1, "gold"), []) == {}


def test_the_sentence_tells_every_measure_by_its_verdict() -> None:
    told = sentence(gains(outcome(1, "lead"), outcome(2, "gold"), TRIPLETS))
    improved, unchanged, worse = told.split("; ")
    assert "improved EM (0.000 to 1.000" in improved
    assert "did not clearly change R@10" in unchanged
    assert worse.startswith("made R@1 (1.000 to 0.000")
    assert "no held-out question" in sentence({})
