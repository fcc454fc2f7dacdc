"""From a collection to a UniGen that can be trained: docids, model, and the writer of its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from retgen.connect.offline import OfflineWriter
from retgen.connect.terms import TermWeights
from retgen.docids.schemes import docid_scheme, permuted
from retgen.docids.table import DocidTable
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.marks import without_marks
from retgen.models.sources import load_model
from retgen.types import Document, DocumentSource, Retriever

LOCAL_OPTIONS: dict[str, Any] = {"copy_head": True, "span_head": True}
"""Options of the local recipes that are not in the paper; reports say so."""
LOCAL_DEPTH: dict[str, dict[str, Any]] = {"warm:minilm": {"encoder_layers": 4, "decoder_layers": 1}}
"""Depth of sources that two cores are to train in minutes: the lowest four of MiniLM's six layers."""


@dataclass(frozen=True, slots=True)
class DocidOptions:
    """How documents are named.

    Args:
        scheme: ``lead``, ``title`` or ``connector``.
        words: of a lead.
        max_tokens: longest docid, EOS included.
        permute_seed: give every document another's docid: the control in which docids mean nothing. None does not.
    """

    scheme: str = "lead"
    words: int = 6
    max_tokens: int = 64
    permute_seed: int | None = None

    def texts(
        self, documents: Sequence[Document], connectors: Mapping[str, str] | None = None
    ) -> list[tuple[str, str]]:
        """Document id and docid text of every document, free of the marks that set docids off in a context."""
        options = {} if self.scheme == "connector" else {"words": self.words}
        scheme = docid_scheme(self.scheme, **options)
        pairs = [(doc_id, without_marks(text)) for doc_id, text in scheme(documents, connectors)]
        return pairs if self.permute_seed is None else list(permuted(pairs, self.permute_seed))


def build_unigen(
    documents: Sequence[Document],
    source: str,
    *,
    docids: DocidOptions | None = None,
    connectors: Mapping[str, str] | None = None,
    settings: UniGenSettings | None = None,
    corpus_fingerprint: str | None = None,
    extra_texts: Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
    **model_options: Any,
) -> UniGen:
    """A system with an untrained head (or a checkpoint's weights), ready for `retgen.train.unigen.train_unigen`.

    Args:
        documents: the collection, in corpus order.
        source: see `retgen.models.sources.load_model`.
        docids: how documents are named.
        connectors: D-Connectors by document id, for the scheme ``connector``.
        settings: how the model will be used.
        corpus_fingerprint: ties the docids to the corpus.
        extra_texts: more texts the tokenizer and token weights of ``scratch:`` are made from: training questions.
        seed: of random weights.
        model_options: of the network, e.g. ``copy_head=True``.
    """
    docids = docids or DocidOptions()
    torch.manual_seed(seed)
    texts = [document.contents for document in documents]
    model, tokenizer = load_model(source, texts=[*texts, *extra_texts], **model_options)
    table = DocidTable.build(
        docids.texts(documents, connectors),
        tokenizer,
        max_length=docids.max_tokens,
        eos_token_id=model.config.eos_token_id,
        scheme=docids.scheme if docids.permute_seed is None else f"{docids.scheme}, permuted",
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
