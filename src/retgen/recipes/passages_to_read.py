"""Stages of what readers are given to read: what training questions find, and what a perfect search would find."""

from __future__ import annotations

import time
from typing import Literal

from retgen.corpus import Corpus
from retgen.lexical.bm25 import BM25
from retgen.recipes.collections import SPLITS, read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import write_outcome
from retgen.recipes.ranking import choose, outcome_of
from retgen.recipes.stages import stage
from retgen.types import Hit, Run


@stage("training-search", version="1", isolated=True, needs=["collection", "retriever", "contexts?"])
def training_search(
    context: StageContext,
    method: Literal["bm25", "dense", "generative"] = "bm25",
    k: int = 10,
    train_questions: int = 0,
) -> None:
    """A retriever's run of the training questions: what a reader learns to read.

    A retriever that was trained on these very questions finds their passages more often than it will find those of
    others, and a reader learns to trust it too much; BM25 was trained on nothing.

    Args:
        context: of the stage; its ``retriever`` is a stage that keeps an index or a generative retriever, which reads
            ``contexts`` where it was trained on any.
        method: what kind of retriever it is.
        k: passages of a question.
        train_questions: so many, chosen by a hash of their ids; 0 takes all.
    """
    triplets = choose(read_questions(context.input("collection"), "train"), train_questions)
    queries = [triplet.query for triplet in triplets]
    corpus = Corpus.open(context.input("collection") / "corpus")
    place = context.input("retriever")
    start = time.perf_counter()
    if method == "bm25":
        run = BM25.open(place / "index", corpus).search(queries, k=k)
    elif method == "dense":
        from retgen.dense import DenseRetriever
        from retgen.devices import pick_device

        run = DenseRetriever.open(place / "index", corpus, device=str(pick_device())).search(queries, k=k)
    else:
        from retgen.generative.unigen import UniGen
        from retgen.recipes.contexts import inputs_of

        run = UniGen.open(place / "unigen").search(inputs_of(context, triplets, "train"), k=k)
    write_outcome(context.folder, run, None, time.perf_counter() - start, "train")


@stage("gold-outcome", version="1", needs=["collection", "outcome"])
def gold_outcome(context: StageContext, k: int = 10) -> None:
    """What a search that always finds the right passage first would give: the control of what searching costs.

    Args:
        context: of the stage; below the right passages stand those of its ``outcome``, in their order.
        k: passages of a question.
    """
    for split in SPLITS[1:]:
        found, seconds = outcome_of(context.input("outcome"), split)
        hits = {}
        for triplet in read_questions(context.input("collection"), split):
            if triplet.query.id in found:
                others = [doc_id for doc_id in found.doc_ids(triplet.query.id) if doc_id not in triplet.doc_ids]
                ranked = [*triplet.doc_ids, *others][:k]
                hits[triplet.query.id] = [Hit(doc_id, 1.0 / rank, rank) for rank, doc_id in enumerate(ranked, 1)]
        run = Run.from_hits(hits, fingerprint=found.fingerprint)
        write_outcome(context.folder, run, None, seconds, split)
