"""Which candidates are drawn for an epoch, and what is written of them for both models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import UnknownDocumentError
from retgen.models.pair_inputs import PairInputs
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint_batches import IGNORED, DrawnCandidates, draw_candidates
from retgen.types import Query
from tests.train.joint_toy import DOCUMENTS, PROMPT, QUESTIONS, toy_collator, toy_models, toy_options


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from(["random", "hardest"]),
    st.integers(0, 3),
)
def test_candidates_are_drawn(labels: list[int], number: int, most: int, negatives: str, epoch: int) -> None:
    names = tuple(f"d{place}" for place in range(len(labels)))
    question = LabelledCandidates(Query("q", "who?"), names, tuple(labels))
    options = toy_options(candidates_per_question=number, max_positives=most, negatives=negatives)
    drawn = draw_candidates(question, options, epoch)
    assert drawn == draw_candidates(question, options, epoch)
    assert drawn.query == question.query
    assert 1 <= len(drawn) <= min(number, len(labels))
    assert len(drawn.positives) == min(len(question.positives), most, number)
    assert len(drawn.negatives) == min(len(question.negatives), number - len(drawn.positives))
    assert [names.index(name) for name in drawn.passages] == sorted(names.index(name) for name in drawn.passages)
    assert all(question.labels[names.index(name)] == label for name, label in zip(drawn.passages, drawn.labels,
                                                                                  strict=True))  # fmt: skip
    if negatives == "hardest":
        assert drawn.negatives == question.negatives[: len(drawn.negatives)]


def test_other_negatives_in_another_epoch_or_with_another_seed() -> None:
    names = tuple(f"d{place}" for place in range(30))
    question = LabelledCandidates(Query("q", "who?"), names, (1, *[0] * 29))
    data = DrawnCandidates([question], toy_options(candidates_per_question=6))
    first = data[0]
    data.set_epoch(1)
    second = data[0]
    other = draw_candidates(question, toy_options(candidates_per_question=6, seed=1), 0)
    assert len({first.passages, second.passages, other.passages}) == 3
    assert all(found.positives == ("d0",) for found in (first, second, other))


def test_pairs_stand_for_their_question_and_passage() -> None:
    models = toy_models()
    batch = toy_collator(models)(QUESTIONS)
    pairs = [(question, name) for question in QUESTIONS for name in question.passages]
    assert batch["candidate_mask"].sum() == len(pairs)
    assert batch["relevance"][batch["candidate_mask"]].tolist() == [
        int(name in question.positives) for question, name in pairs
    ]
    for number, (question, name) in enumerate(pairs):
        read = batch["passage_ids"][batch["pair_passage"][number]][
            batch["passage_mask"][batch["pair_passage"][number]].bool()
        ]
        assert read.tolist() == PROMPT.passage_ids(models[3], [DOCUMENTS[name]])[0]
        written = batch["question_ids"][batch["pair_question"][number]]
        assert written[written != IGNORED].tolist() == PROMPT.query_ids(models[3], [question.query.text])[0]
        row = batch["pair_input_ids"][number][batch["pair_attention_mask"][number].bool()]
        assert (
            row.tolist()
            == PairInputs(models[1], 48).rows([(question.query.text, DOCUMENTS[name].contents)])[0]["input_ids"]
        )


def test_an_unknown_candidate_is_named() -> None:
    models = toy_models()
    stray = LabelledCandidates(Query("q", "who?"), ("oxygen", "nowhere"), (1, 0))
    with pytest.raises(UnknownDocumentError, match="nowhere"):
        toy_collator(models)([stray])
