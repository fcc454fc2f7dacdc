"""ANCE: every round's negatives are what the model finds as the last round left it, and a stopped training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retgen.errors import ArtefactError, MismatchError, UsageError
from retgen.train.ance import AnceRound, own_negatives, train_ance
from retgen.train.bi_encoder import train_bi_encoder
from retgen.train.candidates import LabelledCandidates
from tests.train.toy_retrieval import same_weights, toy_corpus, toy_encoder, toy_options, toy_triplets, weights

pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.slow  # sentence-transformers takes seconds to import

OPTIONS = toy_options(epochs=3.0, save_steps=4, negatives=2)
CORPUS = toy_corpus()


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def trained(folder: Path, *, stop_at: tuple[str, int] | None = None, **options: Any) -> tuple[Any, list[AnceRound]]:
    def report(what: str, done: int, total: int, text: str) -> None:
        if (what, done) == stop_at:
            raise Stop

    encoder = toy_encoder()
    given = {"rounds": 2, "options": OPTIONS, "depth": 6, **options}
    return encoder, train_ance(encoder, toy_triplets(), CORPUS, folder, progress=report, **given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[AnceRound]]:
    return trained(tmp_path_factory.mktemp("ance"))


def negatives(candidates: list[LabelledCandidates] | tuple[LabelledCandidates, ...]) -> dict[str, tuple[str, ...]]:
    return {one.query.id: one.negatives for one in candidates}


def test_negatives_are_mined_anew_from_the_model_of_the_moment(whole: Any, tmp_path: Path) -> None:
    _, rounds = whole
    first, second = (negatives(one.candidates) for one in rounds)
    # Changed by the refresh: the model has learnt to leave many of the first ones behind.
    changed = [query_id for query_id in first if set(first[query_id]) != set(second[query_id])]
    assert len(changed) > len(first) / 2
    # Each round's are what the model then found, no more and no less.
    fresh = toy_encoder()
    assert negatives(own_negatives(fresh, toy_triplets(), CORPUS, depth=6)) == first
    seeded = toy_options(epochs=3.0, save_steps=4, negatives=2, seed=1)
    train_bi_encoder(fresh, rounds[0].candidates, CORPUS, tmp_path, options=seeded)
    assert negatives(own_negatives(fresh, toy_triplets(), CORPUS, depth=6)) == second
    for one in rounds:
        relevant = {triplet.query.id: set(triplet.doc_ids) for triplet in toy_triplets()}
        assert all(not relevant[query_id] & set(names) for query_id, names in negatives(one.candidates).items())


@pytest.mark.parametrize(
    "stop_at", [("round 1 of 2: train", 5), ("round 2 of 2: encode", 25), ("round 2 of 2: train", 6)]
)
def test_stopped_and_resumed_equals_uninterrupted(whole: Any, stop_at: tuple[str, int], tmp_path: Path) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=stop_at)
    encoder, rounds = trained(tmp_path)
    assert same_weights(weights(encoder), weights(whole[0]))
    assert [one.candidates for one in rounds] == [one.candidates for one in whole[1]]


def test_a_folder_of_another_training_or_a_torn_one_is_refused(tmp_path: Path) -> None:
    quick = toy_options(max_steps=1)
    trained(tmp_path, options=quick, rounds=1)
    with pytest.raises(MismatchError, match="another training"):
        trained(tmp_path, options=quick, rounds=1, depth=7)
    (tmp_path / "round-1" / "candidates.jsonl").write_text("{")
    with pytest.raises(ArtefactError, match="torn"):
        trained(tmp_path, options=quick, rounds=1)
    with pytest.raises(UsageError, match="rounds"):
        trained(tmp_path, rounds=0)
