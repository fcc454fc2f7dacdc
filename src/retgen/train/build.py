"""From a collection to a UniGen that can be trained: docids, model, and the writer of its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch

from retgen.connect.offline import OfflineWriter
from retgen.connect.terms import TermWeights
from retgen.docids.table import DocidTable
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.docid_tokens import grow_docid_tokens
from retgen.models.sources import load_model
from retgen.train.docid_options import DocidOptions
from retgen.types import Document, DocumentSource, Retriever

__all__ = ["LOCAL_DEPTH", "LOCAL_OPTIONS", "DocidOptions", "build_unigen", "offline_writer"]

LOCAL_OPTIONS: dict[str, Any] = {"copy_head": True, "span_head": True}
"""Options of the local recipes that are not in the paper; reports say so."""
LOCAL_DEPTH: dict[str, dict[str, Any]] = {"warm:minilm": {"encoder_layers": 4, "decoder_layers": 1}}
"""Depth of sources that two cores are to train in minutes: the lowest four of MiniLM's six layers."""

_TOKENS_A_NUMBER = 16
"""At most, of a number written in digits: tokenizers may take two for each."""


def build_unigen(
    documents: Sequence[Document],
    source: str,
    *,
    docids: DocidOptions | None = None,
    connectors: Mapping[str, str] | None = None,
    vectors: npt.ArrayLike | None = None,
    prefix_head_layers: int = 0,
    docid_outputs_only: bool = False,
    settings: UniGenSettings | None = None,
    corpus_fingerprint: str | None = None,
    extra_texts: Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
    **model_options: Any,
) -> UniGen:
    """A system with an untrained head (or a checkpoint's weights), ready for `retgen.train.unigen.train_unigen`.

    Tokens that only docids are written with join tokenizer and network (`retgen.models.docid_tokens`).

    Args:
        documents: the collection, in corpus order.
        source: see `retgen.models.sources.load_model`.
        docids: how documents are named.
        connectors: D-Connectors by document id, for the scheme ``connector``.
        vectors: ``(documents, d)`` embeddings in corpus order, for ``semantic`` and ``pq``; made where they are needed.
        prefix_head_layers: give the retrieval decoder NCI's prefix-aware head, of so many layers.
        docid_outputs_only: let the retrieval decoder write docid tokens alone. Both need docids that are codes.
        settings: how the model will be used.
        corpus_fingerprint: ties the docids to the corpus.
        extra_texts: more texts the tokenizer and token weights of ``scratch:`` are made from: training questions.
        seed: of random weights.
        model_options: of the network, e.g. ``copy_head=True``.
    """
    docids = docids or DocidOptions()
    # Named first: what cannot be named is said before a model is read.
    named = docids.named(documents, connectors, vectors)
    torch.manual_seed(seed)
    texts = [document.contents for document in documents]
    model, tokenizer = load_model(source, texts=[*texts, *extra_texts], **model_options)
    longest = docids.max_tokens
    if named.alphabet is not None:
        longest = max(longest, len(named.alphabet.sizes) * _TOKENS_A_NUMBER + 1)
        if tokens := named.alphabet.tokens():
            grow_docid_tokens(model, tokenizer, tokens)
    if prefix_head_layers or docid_outputs_only:
        model.write_codes(prefix_head_layers=prefix_head_layers, only=docid_outputs_only)
        model.train(False)
    table = DocidTable.build(
        named.pairs,
        tokenizer,
        max_length=longest,
        eos_token_id=model.config.eos_token_id,
        scheme=docids.described,
        corpus_fingerprint=corpus_fingerprint,
    )
    return UniGen(model, tokenizer, table, settings=settings, device=device)


def offline_writer(
    retriever: Retriever,
    documents: DocumentSource,
    corpus: Iterable[Document],
    docid_texts: Mapping[str, str],
    *,
    passages: int = 3,
    listed: int = 10,
) -> OfflineWriter:
    """The writer of "BM25 context" over a collection."""
    weights = TermWeights.from_documents(corpus)
    return OfflineWriter(retriever, documents, docid_texts, weights=weights, passages=passages, listed=listed)
