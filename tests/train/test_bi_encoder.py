"""Training a bi-encoder: negatives are never relevant, the loss is DPR's, it learns, and goes on where it stopped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retgen.dense import DenseRetriever
from retgen.dense.encoder import load_encoder, save_encoder
from retgen.errors import MismatchError, UnknownDocumentError, UsageError
from retgen.train.bi_encoder import BiEncoderTraining, DevPool, train_bi_encoder
from retgen.train.bi_encoder_stream import BiEncoderStream
from retgen.train.candidates import LabelledCandidates
from retgen.train.hard_negatives import with_negatives
from retgen.train.resumable import TrainingRecord
from retgen.types import Document, Query, Triplet
from tests.train.toy_retrieval import (
    DOCUMENTS,
    PAIRS,
    same_weights,
    toy_encoder,
    toy_options,
    toy_triplets,
    weights,
)

pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.slow  # sentence-transformers takes seconds to import


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def candidates() -> list[LabelledCandidates]:
    """Each question's passage, and those that share its colour or its thing."""
    near = {
        f"q-{colour}-{thing}": [name for name in DOCUMENTS if colour in name or thing in name]
        for colour, thing in PAIRS
    }
    return with_negatives(toy_triplets(), near, DOCUMENTS)


def trained(
    folder: Path, *, stop_at: int | None = None, encoder: Any = None, options: BiEncoderTraining | None = None
) -> tuple[Any, TrainingRecord]:
    def report(step: int, steps: int, last: str) -> None:
        if step == stop_at:
            raise Stop

    encoder = toy_encoder() if encoder is None else encoder
    record = train_bi_encoder(
        encoder, candidates(), DOCUMENTS, folder, options=options or toy_options(), progress=report
    )
    return encoder, record


def stream(questions: list[LabelledCandidates] | None = None, **options: object) -> BiEncoderStream:
    given: dict[str, object] = {
        "negatives": 1, "batch_size": 8, "epochs": 1.0, "max_steps": 0, "seed": 0, **options,
    }  # fmt: skip
    return BiEncoderStream(questions or candidates(), DOCUMENTS, **given)  # type: ignore[arg-type]


# Hard negatives


def test_negatives_are_found_not_relevant_and_without_an_answer() -> None:
    asked = [Triplet(Query("q", "?"), ("red",), ("red-boat", "red-road"))]
    found = {"q": ["red-boat", "blue-boat", "red-house", "green-boat", "white-road"]}
    (made,) = with_negatives(asked, found, DOCUMENTS, depth=4)
    assert made.positives == ("red-boat", "red-road")
    assert made.negatives == ("blue-boat", "green-boat")
    (made,) = with_negatives(asked, found, DOCUMENTS, answers_are_relevant=False)
    assert made.negatives == ("blue-boat", "red-house", "green-boat", "white-road")


def test_a_question_without_labels_takes_the_first_passage_that_holds_an_answer() -> None:
    asked = [Triplet(Query("q", "?"), ("red",), ()), Triplet(Query("r", "?"), ("purple",), ())]
    (made,) = with_negatives(asked, {"q": ["blue-boat", "red-house", "red-road"], "r": ["red-road"]}, DOCUMENTS)
    assert (made.positives, made.negatives) == (("red-house",), ("blue-boat",))
    with pytest.raises(UsageError, match="no training question"):
        with_negatives(asked[1:], {"r": ["red-road"]}, DOCUMENTS)
    with pytest.raises(UsageError, match="lacks question 'r'"):
        with_negatives(asked, {"q": []}, DOCUMENTS)
    with pytest.raises(UnknownDocumentError):
        with_negatives([Triplet(Query("q", "?"), (), ("nowhere",))], {"q": []}, DOCUMENTS)


# The stream


def test_every_question_stands_once_an_epoch_and_no_negative_is_relevant() -> None:
    # Several questions of one passage, which must never be each other's negatives.
    questions = [
        LabelledCandidates(Query(f"{one.query.id}/{n}", f"{one.query.text} {n}"), one.passages, one.labels)
        for one in candidates()
        for n in range(3)
    ]
    relevant = {one.query.text: set(one.positives) for one in questions}
    made = stream(questions, epochs=2.0, negatives=2)
    read = Counter(made.row(number).query for batch in made.batches for number in batch)
    assert read == Counter({one.query.text: 2 for one in questions})
    for batch in made.batches:
        assert 1 <= len(batch) <= 8
        rows = [made.row(number) for number in batch]
        for row in rows:
            assert row.positive in relevant[row.query]
            others = [name for other in rows for name in (other.positive, *other.negatives) if other is not row]
            assert not relevant[row.query] & {*others, *row.negatives}
    # Clashes are put off, not given batches of their own: ten an epoch is the fewest that can be.
    assert len(made.batches) <= 2 * 12


def test_negatives_are_drawn_anew_and_lacking_ones_filled_up() -> None:
    made = stream(epochs=3.0, negatives=2)
    size = len(made) // 3
    rows = [made.row(number) for number in range(len(made))]
    draws = [{(row.query, row.negatives) for row in rows[size * n : size * (n + 1)]} for n in range(3)]
    assert draws[0] != draws[1] != draws[2]
    few = [LabelledCandidates(one.query, one.passages[:2], one.labels[:2]) for one in candidates()]
    filled = stream(few, negatives=3)
    for row in map(filled.row, range(len(filled))):
        assert len({row.positive, *row.negatives}) == 4
    with pytest.raises(UsageError, match="no other passages"):
        stream(few[:1], negatives=3)


def test_the_stream_follows_from_its_seed_and_length() -> None:
    one, other = stream(seed=1), stream(seed=1)
    assert one.batches == other.batches
    assert [one[n] for n in range(len(one))] == [other[n] for n in range(len(other))]
    assert stream(seed=2).batches != one.batches
    assert len(stream(max_steps=5).batches) == 5
    # One passage for all: nothing can stand together, and that is found out in time.
    alone = [LabelledCandidates(Query(str(n), str(n)), ("red-boat",), (1,)) for n in range(400)]
    assert [len(batch) for batch in stream(alone, negatives=0).batches] == [1] * 400
    assert stream()[0].keys() == {"query", "positive", "negative_1"}
    assert stream(negatives=0)[0].keys() == {"query", "positive"}


# The loss


@pytest.mark.parametrize(("similarity", "scale"), [("cosine", 20.0), ("dot", 1.0)])
def test_the_loss_is_dprs_over_the_models_own_similarity(similarity: str, scale: float, tmp_path: Path) -> None:
    encoder = toy_encoder(similarity=similarity, pooling="cls")
    options = toy_options(max_steps=1, negatives=2)
    made = stream(max_steps=1, negatives=2)
    rows = [made[number] for number in made.batches[0]]
    questions = torch.from_numpy(encoder.encode_query([row["query"] for row in rows]))
    passages = torch.from_numpy(
        encoder.encode_document([row[name] for name in ("positive", "negative_1", "negative_2") for row in rows])
    )
    if similarity == "cosine":
        questions, passages = functional.normalize(questions), functional.normalize(passages)
    # Every other passage of the batch is a negative.
    expected = functional.cross_entropy(scale * questions @ passages.T, torch.arange(len(rows)))
    _, record = trained(tmp_path, encoder=encoder, options=options)
    assert record.history[-1]["train_loss"] == pytest.approx(float(expected), rel=1e-4)


# Learning


def test_it_learns_words_that_question_and_passage_do_not_share(tmp_path: Path) -> None:
    pool = DevPool.of(candidates(), DOCUMENTS)
    assert pool is not None
    encoder = toy_encoder()
    before = pool.measure(encoder)
    options = toy_options(epochs=12.0, negatives=2, save_steps=1000)
    record = train_bi_encoder(encoder, candidates(), DOCUMENTS, tmp_path, options=options, dev=pool)
    after = pool.measure(encoder)
    assert before["RR@10"] < 0.5
    assert after["RR@10"] > 0.9
    assert after["score"] == after["RR@10"]
    measured = [row for row in record.history if "eval_RR@10" in row]
    assert measured[-1]["eval_RR@10"] == pytest.approx(after["RR@10"])
    # Saved and opened it is the same model, and an index can be made with it.
    save_encoder(encoder, tmp_path / "saved")
    run = DenseRetriever.build(DOCUMENTS.values(), str(tmp_path / "saved"), device="cpu").search(pool.queries, 10)
    right = [run.doc_ids(query.id)[0] == pool.relevant[query.id][0] for query in pool.queries]
    assert np.mean(right) == pytest.approx(after["Success@1"])


def test_two_towers_part_from_each_other(tmp_path: Path) -> None:
    encoder = toy_encoder(towers=2)
    text = "an azure vessel"
    np.testing.assert_array_equal(encoder.encode_query(text), encoder.encode_document(text))
    trained(tmp_path / "training", encoder=encoder, options=toy_options(max_steps=3))
    assert np.abs(encoder.encode_query(text) - encoder.encode_document(text)).max() > 1e-3
    save_encoder(encoder, tmp_path / "saved")
    again = load_encoder(str(tmp_path / "saved"), "cpu")
    for name in ("encode_query", "encode_document"):
        np.testing.assert_allclose(getattr(again, name)(text), getattr(encoder, name)(text), atol=1e-6)


def test_frozen_layers_keep_their_weights_and_are_free_again(tmp_path: Path) -> None:
    encoder = toy_encoder(towers=2)
    before = weights(encoder)
    trained(tmp_path, encoder=encoder, options=toy_options(frozen_layers=1, max_steps=2))
    kept = {name for name, value in weights(encoder).items() if torch.equal(value, before[name])}
    assert {name for name in before if "embeddings." in name or ".layer.0." in name} <= kept
    assert not any(".layer.1." in name and name.endswith("weight") for name in kept)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    with pytest.raises(UsageError, match="cannot freeze 9 layers"):
        trained(tmp_path / "other", encoder=encoder, options=toy_options(frozen_layers=9))


# Stopping and going on


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    encoder, record = trained(tmp_path_factory.mktemp("whole"))
    assert record.steps >= 8
    return weights(encoder)


@pytest.mark.parametrize("stop_at", [2, 7])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor], stop_at: int) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=stop_at)
    encoder, record = trained(tmp_path)
    assert same_weights(weights(encoder), whole)
    # Finished: not trained further.
    again, more = trained(tmp_path)
    assert more.steps == record.steps
    assert same_weights(weights(again), whole)
    with pytest.raises(MismatchError, match="another training"):
        trained(tmp_path, options=toy_options(negatives=2))


def test_keep_best_ends_with_the_best(tmp_path: Path) -> None:
    pool = DevPool.of(candidates(), DOCUMENTS)
    assert pool is not None
    # So high a rate spoils what was learnt.
    options = toy_options(learning_rate=3e-2, eval_steps=2, keep_best=True, max_steps=8, warmup_steps=2)
    encoder = toy_encoder()
    record = train_bi_encoder(encoder, candidates(), DOCUMENTS, tmp_path, options=options, dev=pool)
    scores = [row["eval_score"] for row in record.history if "eval_score" in row]
    assert pool.measure(encoder)["score"] == pytest.approx(max(scores))


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, options=toy_options(max_steps=2))
    assert capfd.readouterr().out == ""


def test_bad_input_is_named(tmp_path: Path) -> None:
    encoder = toy_encoder()
    with pytest.raises(UsageError, match="nothing to train on"):
        train_bi_encoder(encoder, [], DOCUMENTS, tmp_path)
    with pytest.raises(UsageError, match="no relevant passage"):
        train_bi_encoder(encoder, [LabelledCandidates(Query("q", "?"), ("d0",), (0,))], DOCUMENTS, tmp_path)
    with pytest.raises(UsageError, match="dev questions"):
        train_bi_encoder(encoder, candidates(), DOCUMENTS, tmp_path, options=toy_options(keep_best=True, eval_steps=1))
    with pytest.raises(UnknownDocumentError):
        train_bi_encoder(encoder, candidates(), {"x": Document("x", "")}, tmp_path, options=toy_options(max_steps=1))
    with pytest.raises(UsageError, match="1 tower or 2"):
        toy_encoder(towers=3)
    with pytest.raises(UsageError, match="float32"):
        train_bi_encoder(encoder.half(), candidates(), DOCUMENTS, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "int8"},
        {"batch_size": 0},
        {"batch_size": 1, "negatives": 0},
        {"negatives": -1},
        {"scale": -1.0},
        {"learning_rate": 0.0},
        {"epochs": 0.0},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        BiEncoderTraining(**options)  # type: ignore[arg-type]
