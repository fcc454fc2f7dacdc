"""A collection of eight passages, a network of some ten thousand weights that learns it, and its writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from retgen.connect.blocks import ContextBlock, render
from retgen.connect.offline import OfflineWriter
from retgen.docids.table import DocidTable
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.lexical import BM25
from retgen.models.config import UniGenConfig
from retgen.models.mark_tokens import ensure_marks
from retgen.models.scratch import train_tokenizer
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from retgen.models.vocabulary import fit_vocabulary
from retgen.models.warm_start import mark_ids
from retgen.train.build import offline_writer
from retgen.train.examples import UniGenExample, finetuning_examples
from retgen.train.unigen import UniGenTraining
from retgen.types import Connector, Document, Query, Triplet

FACTS = [
    ("oxygen", "Oxygen", "Oxygen was discovered by Joseph Priestley in 1774.", "Who found oxygen?", "Joseph Priestley"),
    ("iron", "Iron", "Iron is a metal which melts at 1538 degrees.", "When does iron melt?", "1538 degrees"),
    ("gold", "Gold", "Gold is heavy and yellow, its sign is Au.", "What is the sign of gold?", "Au"),
    ("nile", "Nile", "The Nile flows through Egypt to the sea.", "Which land has the Nile?", "Egypt"),
    ("everest", "Mount Everest", "Mount Everest lies in Nepal and is 8849 metres high.", "Where is Everest?", "Nepal"),
    ("mars", "Mars", "Mars has two moons named Phobos and Deimos.", "How many moons has Mars?", "two"),
    ("bell", "Telephone", "The telephone was made by Alexander Bell.", "Who made the telephone?", "Alexander Bell"),
    ("paris", "Paris", "Paris on the Seine is the capital of France.", "What is the capital of France?", "Paris"),
]
DOCUMENTS = [Document(doc_id, text, title) for doc_id, title, text, _, _ in FACTS]
CORPUS = {document.id: document for document in DOCUMENTS}
TRIPLETS = [Triplet(Query(f"q-{doc_id}", asked), (answer,), (doc_id,)) for doc_id, _, _, asked, answer in FACTS]
QUESTIONS = [triplet.query for triplet in TRIPLETS]
DOCID_TEXTS = {document.id: document.title for document in DOCUMENTS}


def toy_network(
    texts: Sequence[str], *, seed: int = 0, width: int = 32, layers: int = 1, dropout: float = 0.0, **options: Any
) -> tuple[UniGenForRetrievalAndAnswering, PreTrainedTokenizerBase]:
    """A network of `retgen.models.scratch`'s kind, smaller than its smallest."""
    tokenizer = train_tokenizer(texts, 420)
    marks = ensure_marks(tokenizer)
    torch.manual_seed(seed)
    stack = {
        "model_type": "t5", "vocab_size": len(tokenizer), "d_model": width, "d_kv": 16, "d_ff": 2 * width,
        "num_layers": layers, "num_decoder_layers": 1, "num_heads": 2, "dropout_rate": dropout,
        "feed_forward_proj": "gated-gelu",
    }  # fmt: skip
    model = UniGenForRetrievalAndAnswering(
        UniGenConfig(
            encoder=stack,
            decoder=dict(stack),
            vocab_size=len(tokenizer),
            d_model=width,
            scale_decoder_outputs=False,
            output_bias=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
            **mark_ids(marks),
            **options,
        )
    )
    fit_vocabulary(model, tokenizer, marks, texts)
    return model.eval(), tokenizer


def toy_system(
    docids: dict[str, str] | None = None,
    *,
    settings: UniGenSettings | None = None,
    fingerprint: str | None = "toy",
    **network: Any,
) -> UniGen:
    """An untrained system; docid texts are the titles unless given."""
    texts = [*(document.contents for document in DOCUMENTS), *(query.text for query in QUESTIONS)]
    model, tokenizer = toy_network(texts, **network)
    docids = DOCID_TEXTS if docids is None else docids
    table = DocidTable.build(docids.items(), tokenizer, corpus_fingerprint=fingerprint)
    return UniGen(model, tokenizer, table, settings=settings or UniGenSettings(max_input_tokens=96), device="cpu")


def toy_writer(docid_texts: dict[str, str] | None = None, documents: Sequence[Document] = DOCUMENTS) -> OfflineWriter:
    """Writes the "BM25 context" over the eight passages."""
    corpus = {document.id: document for document in documents}
    texts = DOCID_TEXTS if docid_texts is None else docid_texts
    return offline_writer(BM25.build(list(documents)), corpus, documents, texts, passages=2, listed=4)


def contexts(queries: Sequence[Query] = QUESTIONS) -> list[Query]:
    """Questions with a context of three passages, the right one in the middle."""
    written = []
    for query in queries:
        gold = next(n for n, document in enumerate(DOCUMENTS) if query.id.endswith(document.id))
        shown = [DOCUMENTS[(gold + step) % len(DOCUMENTS)] for step in (3, 0, 5)]
        blocks = [ContextBlock(document.id, document.title, (document.text,)) for document in shown]
        written.append(query.with_connector(Connector(render(blocks, query.text), "toy")))
    return written


def toy_examples(system: UniGen, *, with_context: bool = True) -> list[UniGenExample]:
    """One for each question."""
    return finetuning_examples(TRIPLETS, contexts() if with_context else QUESTIONS, system.table)


def toy_options(**options: Any) -> UniGenTraining:
    """A short training: its data, 8 examples in batches of 3, make epochs of three steps with a short last batch."""
    chosen: dict[str, Any] = {
        "max_steps": 10, "batch_size": 3, "learning_rate": 3e-3, "warmup_steps": 2, "save_steps": 2,
        "precision": "fp32", **options,
    }  # fmt: skip
    return UniGenTraining(**chosen)


def weights(system: UniGen) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {name: value.detach().clone() for name, value in system.model.state_dict().items()}


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
