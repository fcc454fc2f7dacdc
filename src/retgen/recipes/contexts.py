"""Stages of what UniGen reads: the "BM25 context" of every question, and its controls'; and how stages read them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from retgen.connect.blocks import ContextBlock, render
from retgen.connect.controls import foreign_context, shuffle_blocks
from retgen.connect.offline import OfflineWriter
from retgen.corpus import Corpus
from retgen.generative.over_index import BM25_CONTEXT
from retgen.lexical.bm25 import BM25
from retgen.recipes.collections import SPLITS, read_connectors, read_questions, write_connectors
from retgen.recipes.context import StageContext, StageError
from retgen.recipes.stages import stage
from retgen.recipes.work import read_record
from retgen.train.build import offline_writer
from retgen.train.docid_options import DocidOptions, FloatRows
from retgen.types import Connector, Document, Query, Triplet

VECTORS = "vectors.npy"
"""The file of a stage that embeds the documents."""


def read_vectors(context: StageContext, documents: int) -> FloatRows | None:
    """The embeddings of all documents that a stage is given, None where it is given none.

    Raises:
        StageError: they are another collection's.
    """
    if "embeddings" not in context.inputs:
        return None
    rows: FloatRows = np.load(context.input("embeddings") / VECTORS, allow_pickle=False)
    if len(rows) != documents:
        raise StageError(
            f"there are {len(rows)} embeddings for {documents} documents",
            where=context.name,
            mend="Give the embeddings of this collection",
        )
    return rows


def named_by(scheme: str, words: int, options: Mapping[str, Any] | None = None) -> DocidOptions:
    """How documents are named, as stages are told it."""
    return DocidOptions(scheme, words, options=options or {})


def bm25_writer(
    context: StageContext, docids: DocidOptions, passages: int, listed: int
) -> tuple[Corpus, OfflineWriter]:
    """The collection that a stage is given, and the writer of contexts that name its documents by their docids."""
    corpus = Corpus.open(context.input("collection") / "corpus")
    retriever = BM25.open(context.input("bm25") / "index", corpus)
    documents = list(corpus)
    texts = dict(docids.texts(documents, vectors=read_vectors(context, len(documents))))
    return corpus, offline_writer(retriever, corpus, corpus, texts, passages=passages, listed=listed)


@stage("contexts", version="2", needs=["collection", "bm25", "embeddings?"], added=["docid_options"])
def contexts(
    context: StageContext,
    words: int = 90,
    passages: int = 3,
    listed: int = 10,
    docid_scheme: str = "lead",
    docid_words: int = 6,
    docid_options: dict[str, Any] | None = None,
) -> None:
    """The "BM25 context" of every question, and the controls' contexts of the test questions.

    Args:
        context: of the stage.
        words: of quoted sentences in one context.
        passages: that are quoted.
        listed: passages that are named by their docid.
        docid_scheme: by which the context names passages; one that is made of ``embeddings`` needs them.
        docid_words: words of a lead.
        docid_options: of the scheme.
    """
    _, writer = bm25_writer(context, named_by(docid_scheme, docid_words, docid_options), passages, listed)
    for split in SPLITS:
        queries = [triplet.query for triplet in read_questions(context.input("collection"), split)]
        blocks = writer.blocks(queries, words)
        write_connectors(context.folder / f"{split}.jsonl", _connected(queries, blocks, BM25_CONTEXT))
        if split == "train":
            again = _next_round(context, writer, queries, words, listed)
            write_connectors(context.folder / "train.enhanced.jsonl", again)
        if split == "test":
            shuffled = [
                shuffle_blocks(row, zlib.crc32(query.id.encode())) for query, row in zip(queries, blocks, strict=True)
            ]
            foreign = foreign_context(blocks, seed=0)
            for name, rows in (("shuffled", shuffled), ("foreign", foreign)):
                write_connectors(context.folder / f"{name}.jsonl", _connected(queries, rows, f"control:{name}"))
        context.progress(SPLITS.index(split) + 1, len(SPLITS), split)


def _next_round(
    context: StageContext, writer: OfflineWriter, queries: list[Query], words: int, listed: int
) -> list[Query]:
    """Training questions as a later round would ask them: BM25's documents, and an answer span from the first of them.

    The answer is found by form and words alone, right about as often as wrong, so that a model trained on it learns to
    weigh a previous answer and not to trust it. No gold answer is used.
    """
    corpus = Corpus.open(context.input("collection") / "corpus")
    run = BM25.open(context.input("bm25") / "index", corpus).search(queries, k=listed)
    found = [[corpus[doc_id] for doc_id in run.doc_ids(query.id)] for query in queries]
    first = [documents[0] if documents else Document("", "") for documents in found]
    connectors = writer.enhance(queries, found, writer.answer(queries, first), words=words)
    return [query.with_connector(text) for query, text in zip(queries, connectors, strict=True)]


def _connected(queries: list[Query], blocks: list[list[ContextBlock]], writer: str) -> list[Query]:
    return [
        query.with_connector(Connector(render(row, query.text), writer))
        for query, row in zip(queries, blocks, strict=True)
    ]


def context_settings(context: StageContext) -> dict[str, Any]:
    """How the contexts were made that a model is trained on, for those who ask it over an index later."""
    if "contexts" not in context.inputs:
        return {}
    made = read_record(context.input("contexts"))
    if made.kind == "q-connectors":
        return {"context": made.params["by"]["model"], "context_words": made.params["words"]}
    taken = {"words": "context_words", "passages": "context_passages", "listed": "context_listed"}
    return {"context": BM25_CONTEXT, **{taken[name]: made.params[name] for name in taken if name in made.params}}


def inputs_of(context: StageContext, triplets: list[Triplet], name: str) -> list[Query]:
    """What a model reads of a split's questions: their contexts where the stage is given any, else as they are."""
    if "contexts" not in context.inputs:
        return [triplet.query for triplet in triplets]
    wanted = {triplet.query.id for triplet in triplets}
    return [query for query in read_connectors(context.input("contexts") / f"{name}.jsonl") if query.id in wanted]
