"""Stages of re-ranking tables: first-stage candidates with their judgements, and the measures of a ranking."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from retgen import formats
from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.evaluate import evaluate_run
from retgen.lexical.bm25 import BM25
from retgen.recipes.collections import SPLITS, Split, read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import read_outcome, write_outcome
from retgen.recipes.ranking_collections import read_judgements
from retgen.recipes.stages import stage
from retgen.text import has_answer
from retgen.types import DocumentSource, Qrels, Query, Run, Triplet

MEASURES = ("Success@1", "Success@5", "Success@10", "Success@20", "RR@10", "nDCG@10")


@stage("candidates", version="1", needs=["collection"])
def candidates(
    context: StageContext,
    k: int = 100,
    train_k: int = 32,
    train_questions: int = 0,
    dev_questions: int = 0,
    test_questions: int = 0,
    fields: Literal["flat", "multi"] = "flat",
    labels: Literal["gold", "has-answer"] = "gold",
) -> None:
    """BM25's best passages of every question, and their judgements, split by split.

    A document whose id is the query's own is left out: in collections where queries are documents it is no answer.

    Args:
        context: of the stage.
        k: passages of a dev or test question.
        train_k: of a training question.
        train_questions: so many of them, chosen by a hash of their ids; 0 takes all.
        dev_questions: likewise.
        test_questions: likewise.
        fields: title and text as one field (``flat``), or as two of weight 1 (``multi``).
        labels: the collection's own judgements, or whether a passage holds an answer, as DPR counts it.
    """
    collection = context.input("collection")
    corpus = Corpus.open(collection / "corpus")
    retriever = BM25.build(corpus, fields="flat" if fields == "flat" else {"title": 1.0, "text": 1.0})
    most = {"train": train_questions, "dev": dev_questions, "test": test_questions}
    for number, split in enumerate(SPLITS):
        chosen = choose(read_questions(collection, split), most[split])
        start = time.perf_counter()
        run = _without_themselves(retriever, [triplet.query for triplet in chosen], train_k if split == "train" else k)
        write_outcome(context.folder, run, None, time.perf_counter() - start, split)
        judged = (
            _with_answer(chosen, run, corpus)
            if labels == "has-answer"
            else _of(read_judgements(collection, split), run)
        )
        formats.write_qrels(context.folder / f"{split}.qrels", judged)
        context.progress(number + 1, len(SPLITS), split)


@stage("outcome-candidates", version="1", needs=["collection", "outcome"])
def outcome_candidates(context: StageContext, k: int = 10, dev_questions: int = 0, test_questions: int = 0) -> None:
    """Any system's best passages of dev and test questions as candidates for re-ranking, with their judgements.

    Args:
        context: of the stage; its ``outcome`` has runs of both splits.
        k: passages of a question.
        dev_questions: so many of them, chosen by a hash of their ids; 0 takes all.
        test_questions: likewise.
    """
    collection = context.input("collection")
    asked: dict[Split, int] = {"dev": dev_questions, "test": test_questions}
    for split, most in asked.items():
        run, seconds = outcome_of(context.input("outcome"), split)
        chosen = [triplet.query.id for triplet in choose(read_questions(collection, split), most)]
        kept = run.select(chosen).top(k)
        share = len(chosen) / max(1, len(run.query_ids))
        write_outcome(context.folder, kept, None, seconds * share, split)
        formats.write_qrels(context.folder / f"{split}.qrels", _of(read_judgements(collection, split), kept))


def choose(triplets: Sequence[Triplet], most: int) -> list[Triplet]:
    """The first so many by a hash of their ids, in their own order; 0 takes all."""
    if not most or most >= len(triplets):
        return list(triplets)
    order = sorted(range(len(triplets)), key=lambda number: zlib.crc32(triplets[number].query.id.encode()))
    return [triplets[number] for number in sorted(order[:most])]


def candidate_queries(context: StageContext, split: Split, role: str = "candidates") -> list[Query]:
    """The questions of a split that have candidates, in the candidates' order."""
    run = candidate_run(context, split, role)
    texts = {item.query.id: item.query for item in read_questions(context.input("collection"), split)}
    return [texts[query_id] for query_id in run.query_ids]


def candidate_run(context: StageContext, split: Split, role: str = "candidates") -> Run:
    """The run of a split."""
    return outcome_of(context.input(role), split)[0]


def candidate_qrels(context: StageContext, split: Split) -> Qrels:
    """The judgements of a split's questions."""
    return formats.read_qrels(context.input("candidates") / f"{split}.qrels")


@stage("ranking-outcome", version="1", needs=["collection", "candidates"])
def ranking_outcome(context: StageContext) -> None:
    """The candidates as a system of their own: BM25's row."""
    for split in SPLITS[1:]:
        run, seconds = outcome_of(context.input("candidates"), split)
        write_outcome(context.folder, run, None, seconds, split)
    report_ranking(context)


@stage("ranking-bi-encoder", version="1", needs=["collection", "candidates"])
def ranking_bi_encoder(context: StageContext, model: str = "minilm", k: int = 100) -> None:
    """A bi-encoder as it comes, over the whole corpus."""
    from retgen.dense import DenseRetriever

    corpus = Corpus.open(context.input("collection") / "corpus")
    retriever = DenseRetriever.build(corpus, model=model)
    for split in SPLITS[1:]:
        queries = candidate_queries(context, split)
        start = time.perf_counter()
        run = retriever.search(queries, k=k)
        write_outcome(context.folder, run, None, time.perf_counter() - start, split)
    report_ranking(context)


def report_ranking(context: StageContext, *, min_hits: int = 0, split: Split = "test") -> None:
    """Report the columns of the row whose run stands in the stage's folder: measures, questions, milliseconds.

    Args:
        context: of the stage; it needs ``candidates``.
        min_hits: see `ranking_subset`.
        split: whose run.

    Raises:
        UsageError: no question has so many candidates.
    """
    first = candidate_run(context, split)
    ids = [query_id for query_id in first.query_ids if len(first.doc_ids(query_id)) >= min_hits]
    if not ids:
        raise UsageError(f"no question has {min_hits} candidates", where=context.name)
    run, seconds = outcome_of(context.folder, split)
    found = evaluate_run(run, candidate_qrels(context, split), list(MEASURES), query_ids=ids)
    values = {**found.means, "questions": len(ids), "ms": 1000 * seconds / max(1, len(first))}
    context.report(values, per_question={name: dict(found.per_query[name]) for name in MEASURES})


@stage("ranking-subset", version="1", needs=["candidates", "outcome"])
def ranking_subset(context: StageContext, min_hits: int = 100) -> None:
    """A system on the questions alone for which the first stage found enough passages.

    Published code of the method leaves the others out without a word; all questions is what the other rows are over.

    Args:
        context: of the stage.
        min_hits: of the first stage.
    """
    run, seconds = outcome_of(context.input("outcome"), "test")
    write_outcome(context.folder, run, None, seconds)
    report_ranking(context, min_hits=min_hits)


def _without_themselves(retriever: BM25, queries: list[Query], k: int) -> Run:
    run = retriever.search(queries, k=k + 1)
    hits = {query_id: [hit for hit in row if hit.doc_id != query_id][:k] for query_id, row in run.items()}
    return Run.from_hits(hits, fingerprint=run.fingerprint)


def _of(judged: Qrels, run: Run) -> Qrels:
    return {query_id: judged[query_id] for query_id in run.query_ids if query_id in judged}


def _with_answer(triplets: list[Triplet], run: Run, documents: DocumentSource) -> Qrels:
    return {
        triplet.query.id: {
            doc_id: int(has_answer(triplet.answers, documents[doc_id].text)) for doc_id in run.doc_ids(triplet.query.id)
        }
        for triplet in triplets
    }


def outcome_of(folder: Path, split: Split) -> tuple[Run, float]:
    """A system's run of a split, and its seconds.

    Raises:
        UsageError: it has none.
    """
    run, _, seconds = read_outcome(folder, split)
    if run is None:
        raise UsageError(f"there is no run of {split}", where=folder)
    return run, seconds
