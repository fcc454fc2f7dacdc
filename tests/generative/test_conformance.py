"""UniGen passes the suite of every Retriever, Reranker and Answerer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch

from retgen.docids.codes import CodeAlphabet
from retgen.docids.table import DocidTable
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.lexical import BM25
from retgen.models.docid_tokens import grow_docid_tokens
from retgen.train.build import offline_writer
from retgen.types import Document
from tests.conformance import ANSWERER_CHECKS, CORPUS, DOCUMENTS, RERANKER_CHECKS, RETRIEVER_CHECKS, name_of
from tests.train.toy import toy_network

TOLERANCE = 1e-4
COPIES = [Document(f"copy-{n}", DOCUMENTS[1].text, DOCUMENTS[1].title) for n in (3, 1, 2)]


def system(documents: Sequence[Document], *, strategy: str = "free", reads_context: bool = True) -> UniGen:
    """Untrained: what it finds, the copy head's prior finds in the context that BM25 gives."""
    documents = list(documents)
    texts = [document.contents or document.id for document in documents]
    options = {"copy_head": True, "span_head": True} if reads_context else {}
    model, tokenizer = toy_network(texts, **options)
    docids = {document.id: document.title or document.id for document in documents}
    corpus = {document.id: document for document in documents}
    return UniGen(
        model,
        tokenizer,
        DocidTable.build(docids.items(), tokenizer),
        writer=offline_writer(BM25.build(documents), corpus, documents, docids) if reads_context else None,
        settings=UniGenSettings(max_input_tokens=128, answer_strategy=strategy, max_answer_tokens=8),
        device="cpu",
    )


@cache
def fixed(strategy: str = "free", reads_context: bool = True) -> UniGen:
    return system([*CORPUS.values(), *COPIES], strategy=strategy, reads_context=reads_context)


@pytest.mark.parametrize("check", RETRIEVER_CHECKS, ids=name_of)
def test_unigen_conforms_as_retriever(check: Callable[..., None]) -> None:
    check(system, tolerance=TOLERANCE)


@pytest.mark.parametrize("reads_context", [True, False], ids=["context", "plain question"])
@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_unigen_conforms_as_reranker(check: Callable[..., None], reads_context: bool) -> None:
    check(lambda: fixed("free", reads_context), tolerance=TOLERANCE)


@cache
def in_codes() -> UniGen:
    """Writes no answers, and docids in tokens of their own with a prefix-aware head."""
    documents = [*CORPUS.values(), *COPIES]
    model, tokenizer = toy_network([document.contents or document.id for document in documents], answers=False)
    alphabet = CodeAlphabet((4, 4, 4))
    grow_docid_tokens(model, tokenizer, alphabet.tokens())
    model.write_codes(prefix_head_layers=1, only=True)
    assert model.prefix_head is not None
    torch.nn.init.normal_(model.prefix_head.adaptation, std=0.1)
    # Copies share their docid, as their embeddings' codes would.
    names = sorted({each.title or each.id for each in documents})
    places = [names.index(each.title or each.id) for each in documents]
    docids = [(each.id, alphabet.text((n % 4, n // 4 % 4, n // 16))) for n, each in zip(places, documents, strict=True)]
    return UniGen(model.eval(), tokenizer, DocidTable.build(docids, tokenizer), device="cpu")


@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_a_network_that_writes_codes_conforms_as_reranker(check: Callable[..., None]) -> None:
    check(in_codes, tolerance=TOLERANCE)


@pytest.mark.parametrize("strategy", ["free", "constrained", "span"])
@pytest.mark.parametrize("check", ANSWERER_CHECKS, ids=name_of)
def test_unigen_conforms_as_answerer(check: Callable[..., None], strategy: str) -> None:
    check(lambda: fixed(strategy), tolerance=TOLERANCE)
