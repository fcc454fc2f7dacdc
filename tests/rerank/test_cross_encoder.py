"""The cross-encoder: sentence-transformers' scores, whatever the batch; what it refuses; what it saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from retgen.errors import ArtefactError, FormatError, UsageError
from retgen.models.pair_inputs import PairInputs
from retgen.pipeline import Explainer
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.types import Document, Query, Run
from tests.conformance import CORPUS, DOCUMENTS, QUERIES, RERANKER_CHECKS, name_of
from tests.rerank.classifiers import FAMILIES, SHAPE, pair_tokenizer, save_classifier

TOLERANCE = 1e-4
PAIRS = [(query.text, document.contents) for query in QUERIES[:5] for document in DOCUMENTS]
LONG = [("who", "oxygen iron gold " * n) for n in (1, 5, 17, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "bert")


@cache
def loaded(folder: Path, **options: Any) -> CrossEncoder:
    return CrossEncoder.from_pretrained(folder, device="cpu", **{"dtype": "fp32", **options})


def sentence_transformers_cross_encoder(folder: Path) -> Any:
    return pytest.importorskip("sentence_transformers").CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_it_conforms(check: Callable[..., None], folder: Path) -> None:
    check(lambda: loaded(folder), tolerance=TOLERANCE)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_sentence_transformers_raw_logits(family: str, outputs: int, tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "model", family, outputs=outputs)
    theirs = sentence_transformers_cross_encoder(path).predict(PAIRS + LONG, activation_fn=torch.nn.Identity())
    ours = CrossEncoder.from_pretrained(path, device="cpu", dtype="fp32").predict(PAIRS + LONG)
    assert ours.dtype == np.float32
    assert ours.shape == (len(PAIRS) + len(LONG),)
    assert ours.std() > 0.02
    np.testing.assert_allclose(ours, theirs if outputs == 1 else theirs[:, 1] - theirs[:, 0], atol=TOLERANCE)


def test_rank_has_sentence_transformers_order_keys_and_cut(folder: Path) -> None:
    theirs, ours = sentence_transformers_cross_encoder(folder), loaded(folder)
    texts = [document.contents for document in DOCUMENTS]
    for options in ({}, {"top_k": 3}, {"return_documents": True}, {"top_k": 2, "return_documents": True}):
        expected = theirs.rank(QUERIES[0].text, texts, activation_fn=torch.nn.Identity(), **options)
        got = ours.rank(QUERIES[0].text, texts, **options)
        assert [set(hit) for hit in got] == [set(hit) for hit in expected]
        assert [hit["corpus_id"] for hit in got] == [hit["corpus_id"] for hit in expected]
        assert [hit.get("text") for hit in got] == [hit.get("text") for hit in expected]
        np.testing.assert_allclose([h["score"] for h in got], [h["score"] for h in expected], atol=TOLERANCE)
    assert ours.rank("who?", []) == []


def test_scores_do_not_depend_on_batch_padding_or_order(folder: Path) -> None:
    wide = loaded(folder).predict(PAIRS + LONG)
    narrow = loaded(folder, batch_tokens=1).predict(PAIRS + LONG)
    np.testing.assert_allclose(wide, narrow, atol=TOLERANCE)
    np.testing.assert_allclose(loaded(folder).predict((PAIRS + LONG)[::-1])[::-1], wide, atol=TOLERANCE)


def test_passages_of_equal_text_have_equal_scores(folder: Path) -> None:
    copies = {f"c{n}": Document(f"c{n}", "It is a gas.", "Oxygen") for n in range(4)} | CORPUS
    run = Run.from_dict({"who": {doc_id: -float(n) for n, doc_id in enumerate(copies)}})
    found = loaded(folder, batch_tokens=70).rerank(QUERIES[:1], run, copies)
    hits = [hit for hit in found["who"] if hit.doc_id.startswith("c")]
    assert len({hit.score for hit in hits}) == 1
    assert [hit.doc_id for hit in hits] == ["c0", "c1", "c2", "c3"]


def test_the_component_rides_along_with_the_first_stage(folder: Path) -> None:
    run = Run.from_dict({"who": {"iron": 2.0, "oxygen": 1.0}})
    found = loaded(folder).rerank(QUERIES[:1], run, CORPUS)
    for hit in found["who"]:
        assert hit.components["cross_encoder"] == hit.score
        assert hit.components["first_stage"] == run.to_dict()["who"][hit.doc_id]
    expected = loaded(folder).predict([(QUERIES[0].text, CORPUS[hit.doc_id].contents) for hit in found["who"]])
    np.testing.assert_allclose([hit.score for hit in found["who"]], expected, atol=TOLERANCE)


def test_progress_counts_every_pair_once(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    run = Run.from_dict({"who": {"iron": 2.0, "oxygen": 1.0}, "metal": {"iron": 1.0}})
    loaded(folder).rerank(QUERIES[:2], run, CORPUS, progress=lambda *done: seen.append(done))
    assert seen[-1] == (3, 3)


@pytest.mark.parametrize("query", ["", "oxygen " * 600, "oxygen " * 31, "東" * 600])
@pytest.mark.parametrize("passage", ["", "gold", "gold iron " * 300])
def test_a_pair_of_any_length_fits_and_keeps_its_query(folder: Path, query: str, passage: str) -> None:
    model = loaded(folder)
    (row,) = model.inputs.rows([(query, passage)])
    ids, end = row["input_ids"], model.tokenizer.sep_token_id
    assert len(ids) <= model.max_length == 64
    of_query = ids[1 : ids.index(end)]
    whole = model.tokenizer(query, add_special_tokens=False)["input_ids"]
    assert of_query == whole[:32]
    of_passage = ids[ids.index(end) + 1 : -1]
    room = 64 - 3 - len(of_query)
    assert of_passage == model.tokenizer(passage, add_special_tokens=False)["input_ids"][:room]
    assert np.isfinite(model.predict([(query, passage)])).all()


def test_padding_side_and_width_follow_the_tokenizer() -> None:
    tokenizer = pair_tokenizer()
    right = PairInputs(tokenizer, 64)([("who", "gold"), ("who", "gold iron oxygen")])
    tokenizer.padding_side = "left"
    left = PairInputs(tokenizer, 64)([("who", "gold"), ("who", "gold iron oxygen")])
    assert right["attention_mask"].shape == right["input_ids"].shape
    assert right["attention_mask"][0, 0] == 1
    assert right["attention_mask"][0, -1] == 0
    assert left["attention_mask"][0, 0] == 0
    assert left["attention_mask"].sum() == right["attention_mask"].sum()
    assert left["token_type_ids"].sum() == right["token_type_ids"].sum() > 0


def test_presets_and_lengths(folder: Path, tmp_path: Path) -> None:
    assert loaded(folder, max_length=20).max_length == 20
    config = AutoModelForSequenceClassification.from_pretrained(folder).config
    config.max_position_embeddings = 600
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "wide")
    pair_tokenizer(10**30).save_pretrained(tmp_path / "wide")
    assert CrossEncoder.from_pretrained(tmp_path / "wide", device="cpu").max_length == 512
    assert CrossEncoder.from_pretrained(tmp_path / "wide", device="cpu", preset="authors-code").max_length == 320
    assert CrossEncoder.from_pretrained(tmp_path / "wide", device="cpu", max_length=2000).max_length == 600


def test_explain_gives_the_logit_and_what_each_word_adds(folder: Path) -> None:
    model = loaded(folder)
    assert isinstance(model, Explainer)
    query, document = QUERIES[0], DOCUMENTS[0]
    explanation = model.explain(query, document)
    assert explanation.components["cross_encoder"] == pytest.approx(
        float(model.predict([(query.text, document.contents)])[0]), abs=TOLERANCE
    )
    assert [word for word, _ in explanation.tokens] == document.contents.split()
    first = model.predict([(query.text, document.contents), (query.text, document.contents.split(" ", 1)[1])])
    assert explanation.tokens[0][1] == pytest.approx(float(first[0] - first[1]), abs=TOLERANCE)
    assert model.explain(query, Document("empty", "")).tokens == ()
    assert len(model.explain(query, Document("long", "gold " * 500)).tokens) <= 64


def test_with_a_bf16_trunk_the_head_still_tells_close_passages_apart(folder: Path) -> None:
    exact, rounded = loaded(folder).predict(PAIRS), loaded(folder, dtype="bf16").predict(PAIRS)
    assert len(set(rounded.tolist())) == len(set(exact.tolist()))
    # bf16 has 8 bits: had it computed the logits, they would be few.
    assert (torch.from_numpy(rounded).bfloat16().float().numpy() != rounded).any()
    np.testing.assert_allclose(rounded, exact, atol=0.1)
    assert loaded(folder, dtype="bf16").model.classifier.weight.dtype == torch.float32
    assert loaded(folder, dtype="bf16").model.bert.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16


def test_logits_carry_gradients(folder: Path) -> None:
    model = CrossEncoder.from_pretrained(folder, device="cpu", dtype="fp32")
    logits = model.logits(model.encode(PAIRS[:3]))
    assert logits.shape == (3,)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(
        parameter.grad is not None for name, parameter in model.model.named_parameters() if "position" not in name
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_what_is_saved_opens_here_and_in_sentence_transformers(outputs: int, tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "first", outputs=outputs)
    before = CrossEncoder.from_pretrained(path, device="cpu", dtype="fp32")
    before.save(tmp_path / "saved", made_by={"source": "test"})
    expected = before.predict(PAIRS)
    again = CrossEncoder.from_pretrained(tmp_path / "saved", device="cpu", dtype="fp32")
    np.testing.assert_array_equal(again.predict(PAIRS), expected)
    theirs = sentence_transformers_cross_encoder(tmp_path / "saved").predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(expected, theirs if outputs == 1 else theirs[:, 1] - theirs[:, 0], atol=TOLERANCE)
    with pytest.raises(ArtefactError):
        before.save(tmp_path / "saved")
    before.save(tmp_path / "saved", overwrite=True)


def test_a_folder_that_sentence_transformers_wrote_opens(folder: Path, tmp_path: Path) -> None:
    sentence_transformers_cross_encoder(folder).save_pretrained(str(tmp_path / "theirs"))
    ours = CrossEncoder.from_pretrained(tmp_path / "theirs", device="cpu", dtype="fp32")
    np.testing.assert_array_equal(ours.predict(PAIRS), loaded(folder).predict(PAIRS))


def test_a_torn_or_foreign_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    loaded(folder).save(tmp_path / "saved")
    weights = tmp_path / "saved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtefactError):
        CrossEncoder.from_pretrained(tmp_path / "saved")
    with pytest.raises(FormatError, match="no model"):
        CrossEncoder.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("{")
    with pytest.raises(FormatError):
        CrossEncoder.from_pretrained(tmp_path / "text")


def test_a_model_without_a_head_or_with_many_outputs_is_refused(tmp_path: Path) -> None:
    config = BertConfig(**SHAPE, vocab_size=300)
    BertModel(config).save_pretrained(tmp_path / "encoder")
    pair_tokenizer().save_pretrained(tmp_path / "encoder")
    with pytest.raises(FormatError, match=r"no classification head.*warm:"):
        CrossEncoder.from_pretrained(tmp_path / "encoder")
    with pytest.raises(FormatError, match="3 outputs"):
        CrossEncoder.from_pretrained(save_classifier(tmp_path / "three", outputs=3))


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "model")
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(FormatError, match="padding token"):
        CrossEncoder.from_pretrained(path)


def test_a_score_that_is_not_a_number_is_an_error_that_names_the_pair(tmp_path: Path) -> None:
    model = CrossEncoder.from_pretrained(save_classifier(tmp_path / "model"), device="cpu", dtype="fp32")
    model.model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(ArtefactError, match="not a number"):
        model.predict(PAIRS)
    with pytest.raises(ArtefactError, match="'iron' for query 'who'"):
        model.rerank([Query("who", "?")], Run.from_dict({"who": {"iron": 1.0}}), CORPUS)


def test_bad_options_are_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="preset"):
        CrossEncoder.from_pretrained(folder, preset="other")
    for options in ({"max_length": 3}, {"query_share": 0.0}, {"batch_tokens": 0}, {"dtype": "int8"}):
        with pytest.raises(UsageError):
            CrossEncoder.from_pretrained(folder, **options)
    with pytest.raises(UsageError, match="top_k"):
        loaded(folder).rank("who?", ["a"], top_k=0)
