"""A cross-encoder that reads query and passage apart up to a layer: what is kept, what is equal, what is refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from retgen.errors import UsageError
from retgen.models.cross_encoder_sources import load_cross_encoder
from retgen.models.late_join import LateJoinConfig, LateJoinForSequenceClassification
from retgen.models.pair_inputs import PairInputs
from retgen.models.state_memory import StateMemory
from retgen.recipes.reranking import keep_states
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.cross_encoder import DevCandidates, train_cross_encoder
from tests.rerank.classifiers import pair_tokenizer, save_classifier
from tests.train.toy_pairs import DOCUMENTS, toy_candidates, toy_options

PAIRS = [("who", "gold"), ("who found oxygen", "oxygen iron gold " * 3), ("iron", ""), ("who", "oxygen iron gold " * 3)]


def made(folder: Path, **options: Any) -> CrossEncoder:
    torch.manual_seed(0)
    given = {"join_layer": 1, "match_marks": True, "dropout": 0.0, **options}
    model, tokenizer = load_cross_encoder(f"warm:{folder}", **given)
    return CrossEncoder(model, tokenizer, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "encoder")


def test_it_is_bert_with_two_inputs_below_the_cut_and_one_above(encoder: Path) -> None:
    reranker = made(encoder)
    model: Any = reranker.model
    tokenizer = reranker.tokenizer
    query, passage = "who found oxygen", "oxygen iron gold oxygen iron gold"
    (first, second) = (tokenizer(text, return_tensors="pt") for text in (query, passage))
    layers = model.bert.encoder.layer
    with torch.no_grad():
        apart = [layers[0](model.bert.embeddings(input_ids=one["input_ids"]), None) for one in (first, second)]
        shared = set(first["input_ids"][0].tolist()) & set(second["input_ids"][0].tolist())
        shared -= set(tokenizer.all_special_ids)
        kinds = [
            [side + 2 * (token in shared) for token in one["input_ids"][0].tolist()]
            for side, one in enumerate((first, second))
        ]
        joined = torch.cat(apart, dim=1) + model.sides(torch.tensor([[*kinds[0], *kinds[1]]]))
        expected = model.classifier(model.bert.pooler(layers[1](joined, None)))
    assert shared
    assert reranker.predict([(query, passage)]) == pytest.approx(float(expected), abs=1e-5)


def test_states_are_made_once_and_change_nothing(encoder: Path) -> None:
    reranker = made(encoder)
    model: Any = reranker.model
    reads = []
    read = model._read
    model._read = lambda texts: reads.extend(texts) or read(texts)
    scores = reranker.predict(PAIRS)
    assert len(reads) == len(set(reads)) == 3 + 3
    np.testing.assert_array_equal(reranker.predict(PAIRS), scores)
    assert len(reads) == 6
    model.memory.most_tokens = 0
    model.memory.clear()
    np.testing.assert_allclose(reranker.predict(PAIRS), scores, atol=1e-6)
    assert len(model.memory) == 0


def test_a_long_passage_is_met_in_few_lengths(encoder: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_cross_encoder(f"warm:{encoder}", join_layer=1, match_marks=True, dropout=0.0)
    reranker = CrossEncoder(model, tokenizer, max_length=40, query_share=0.75, device="cpu", dtype="fp32")
    long = "oxygen iron gold " * 20
    queries = ["who " * times for times in range(1, 16)]
    rows = reranker.inputs.rows([(query, long) for query in queries])
    plain = PairInputs(tokenizer, 40, 0.75).rows([(query, long) for query in queries])
    passages = [sum(kind % 2 for kind in row["token_type_ids"]) - 1 for row in rows]
    fitting = [sum(row["token_type_ids"]) - 1 for row in plain]
    assert passages == [tokens // 16 * 16 if tokens > 16 else tokens for tokens in fitting]
    assert {32, 16} <= set(passages)
    for row, whole in zip(rows, plain, strict=True):
        assert row["input_ids"] == [*whole["input_ids"][: len(row["input_ids"]) - 1], tokenizer.sep_token_id]
        assert {len(values) for values in row.values()} == {len(row["input_ids"])}
    # What fits is left whole.
    (short,) = reranker.inputs.rows([("who", "oxygen iron gold")])
    assert short["input_ids"] == PairInputs(tokenizer, 40).rows([("who", "oxygen iron gold")])[0]["input_ids"]


def test_processes_share_states_through_a_store(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retgen.models.state_memory.STORED_AT_ONCE", 1)
    first, second, plain = made(encoder), made(encoder), made(encoder)
    for reranker in (first, second):
        keep_states(reranker.model, tmp_path)
    scores = first.predict(PAIRS)
    model: Any = second.model
    model._read = lambda texts: pytest.fail(f"{len(texts)} texts were read again")
    np.testing.assert_array_equal(second.predict(PAIRS), scores)
    np.testing.assert_array_equal(plain.predict(PAIRS), scores)
    # Other weights below, or another number type, are another encoder; the layers above are not asked.
    model.classifier.weight.data += 1
    fingerprint = model.lower_fingerprint()
    assert [folder.name for folder in tmp_path.iterdir()] == [fingerprint[:16]]
    model.bert.encoder.layer[0].output.dense.weight.data += 1
    changed = model.lower_fingerprint()
    assert changed != fingerprint != made(encoder).model.to(torch.bfloat16).lower_fingerprint()
    # Weights that are to be trained are no longer those whose states are kept.
    model.freeze_below(False)
    assert model.memory.store is None


def test_what_a_training_casts_is_kept_as_a_measurement_makes_it(encoder: Path) -> None:
    reranker = made(encoder)
    model: Any = reranker.model
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(**reranker.inputs(PAIRS))
    kept = len(model.memory)
    assert kept == 6
    np.testing.assert_array_equal(reranker.predict(PAIRS), made(encoder).predict(PAIRS))


def test_each_pair_s_score_is_its_own(encoder: Path) -> None:
    reranker = made(encoder)
    together = reranker.predict(PAIRS)
    alone = [float(made(encoder).predict([pair])[0]) for pair in PAIRS]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_training_moves_what_is_not_frozen(frozen: bool, encoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    reranker = made(encoder)
    model: Any = reranker.model
    model.freeze_below(frozen)
    # States that scoring left behind may be trained on.
    reranker.predict(PAIRS)
    before = copy.deepcopy(model.state_dict())
    dev = DevCandidates.from_candidates(toy_candidates(), DOCUMENTS)
    untrained = dev.measure(reranker)["RR@10"]
    options = toy_options(epochs=6.0, learning_rate=5e-3, objective="ranking", batch_size=12)
    train_cross_encoder(reranker, toy_candidates(), DOCUMENTS, tmp_path, options=options)
    after = model.state_dict()
    lower = ("bert.embeddings.word_embeddings", "bert.encoder.layer.0.")
    still = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert {name for name in after if name.startswith(lower)} <= still if frozen else True
    assert not {"sides.weight", "classifier.weight", "bert.encoder.layer.1.output.dense.weight"} & still
    if not frozen:
        assert "bert.encoder.layer.0.output.dense.weight" not in still
    assert dev.measure(reranker)["RR@10"] > max(0.8, untrained)
    reranker.save(tmp_path / "saved")
    again = CrossEncoder.from_pretrained(tmp_path / "saved", device="cpu", dtype="fp32")
    assert isinstance(again.model, LateJoinForSequenceClassification)
    np.testing.assert_allclose(again.predict(PAIRS), reranker.predict(PAIRS), atol=1e-6)


def test_it_is_a_sequence_classifier_to_transformers(encoder: Path, tmp_path: Path) -> None:
    reranker = made(encoder)
    reranker.save(tmp_path / "saved")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert isinstance(model.config, LateJoinConfig)
    output = model(**reranker.inputs(PAIRS), labels=torch.tensor([1, 0, 0, 1]))
    np.testing.assert_allclose(output.logits[:, 0].detach(), reranker.predict(PAIRS), atol=1e-5)
    assert float(output.loss.detach()) > 0


def test_bf16_keeps_its_head_in_fp32(encoder: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_cross_encoder(f"warm:{encoder}", join_layer=1, dropout=0.0)
    rough = CrossEncoder(model, tokenizer, device="cpu", dtype="bf16").predict(PAIRS)
    np.testing.assert_allclose(rough, made(encoder, match_marks=False).predict(PAIRS), atol=0.1)
    assert rough.dtype == np.float32


def test_what_cannot_be_cut_is_refused(encoder: Path, tmp_path: Path) -> None:
    for layer in (0, 2):
        with pytest.raises(UsageError, match="cannot be joined"):
            load_cross_encoder(f"warm:{encoder}", join_layer=layer)
    with pytest.raises(UsageError, match="only a BERT"):
        load_cross_encoder(f"warm:{save_classifier(tmp_path / 'roberta', 'roberta')}", join_layer=1)
    with pytest.raises(UsageError, match="only the layers"):
        load_cross_encoder(encoder, join_layer=1)
    model = made(encoder).model
    with pytest.raises(UsageError, match="told apart"):
        model(torch.tensor([[2, 7, 3, 8, 3]]))


def test_the_memory_forgets_the_least_used() -> None:
    memory = StateMemory(most_tokens=5)
    cpu, dtype = torch.device("cpu"), torch.float32
    one, two, three = (1, 2), (3, 4), (5, 6)
    for text in (one, two):
        memory.put({text: torch.zeros(2, 4)})
    memory.get([one], cpu, dtype)
    memory.put({three: torch.zeros(2, 4), (7,) * 6: torch.zeros(6, 4)})
    assert set(memory.get([one, two, three], cpu, dtype)) == {one, three}
    assert memory.tokens == 4
    assert len(copy.deepcopy(memory)) == len(pickle.loads(pickle.dumps(memory))) == 0
    assert memory.get([one], cpu, torch.bfloat16) == {}
    assert len(memory) == 0


def test_marks_stand_where_both_sides_meet(encoder: Path) -> None:
    marked, plain = (made(encoder, match_marks=marks) for marks in (True, False))
    assert [set(part.inputs.rows([PAIRS[1]])[0]["token_type_ids"]) for part in (marked, plain)] == [
        {0, 1, 2, 3},
        {0, 1},
    ]
    for part in (marked, plain):
        assert part.model.base_model.embeddings.token_type_embeddings.num_embeddings == 2


def test_the_tokenizer_s_first_token_begins_a_passage(encoder: Path) -> None:
    assert made(encoder).model.config.first_token_id == pair_tokenizer().cls_token_id
