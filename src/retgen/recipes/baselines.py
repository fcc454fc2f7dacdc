"""Stages of rows without training: BM25, a bi-encoder, and BM25's context with a copied span."""

from __future__ import annotations

import time

from retgen.answer.extractive import BestSpan
from retgen.corpus import Corpus
from retgen.lexical.bm25 import BM25
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import search_splits, write_outcome
from retgen.recipes.stages import stage


@stage("bm25", version="1", needs=["collection"])
def bm25(context: StageContext, k: int = 100) -> None:
    """BM25 over title and text: its index, and its runs of the dev and test questions."""
    corpus = Corpus.open(context.input("collection") / "corpus")
    retriever = BM25.build(corpus)
    retriever.save(context.folder / "index")
    search_splits(context, retriever, k)


@stage("bi-encoder", version="1", needs=["collection"])
def bi_encoder(context: StageContext, model: str = "minilm", k: int = 100) -> None:
    """A bi-encoder as it comes, with exact search over its embeddings."""
    from retgen.dense import DenseRetriever

    corpus = Corpus.open(context.input("collection") / "corpus")
    retriever = DenseRetriever.build(corpus, model=model)
    queries = [triplet.query for triplet in read_questions(context.input("collection"), "test")]
    start = time.perf_counter()
    run = retriever.search(queries, k=k)
    write_outcome(context.folder, run, None, time.perf_counter() - start)


@stage("span-copy", version="1", needs=["collection", "bm25"])
def span_copy(context: StageContext, passages: int = 3) -> None:
    """BM25's best passages and the best span of their best sentence: no model at all."""
    corpus = Corpus.open(context.input("collection") / "corpus")
    retriever = BM25.open(context.input("bm25") / "index", corpus)
    reader = BestSpan(passages=passages)
    queries = [triplet.query for triplet in read_questions(context.input("collection"), "test")]
    start = time.perf_counter()
    run = retriever.search(queries, k=10)
    answers = reader.answer(queries, run, corpus)
    write_outcome(context.folder, run, answers, time.perf_counter() - start)
