"""Stages that make the collections of re-ranking tables, in the one form of `retgen.recipes.collections`.

Where relevance has grades, they stand beside the questions as ``<split>.qrels``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from retgen import formats
from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.formats import beir, dpr
from retgen.formats.dpr_questions import read_questions as read_dpr_questions
from retgen.recipes.collections import SPLITS, read_questions, write_questions
from retgen.recipes.context import StageContext
from retgen.recipes.stages import stage
from retgen.types import Document, Qrels, Query, Triplet, question_split


@stage("beir-collection", version="1", needs=[], added=["resplit"])
def beir_collection(context: StageContext, limit_passages: int = 0, resplit: bool = False) -> None:
    """A BEIR folder. Without judgements for dev, the training queries are split by the hash of their ids (80/20).

    Lines of ``queries.jsonl`` may bear ``answers``.

    Args:
        context: of the stage; its data are ``corpus.jsonl``, ``queries.jsonl`` and the splits under ``qrels/``.
        limit_passages: keep the first so many documents and what is judged of them; 0 keeps all.
        resplit: split all judged queries by the hash of their ids into train, dev and test (80/10/10), whatever splits
            the folder has: for those without judgements for training.
    """
    folder = _folder(context, "corpus.jsonl")
    documents = formats.read_corpus(folder, format="beir")
    kept = _build(context, documents, limit_passages)
    queries = {query.id: query for query in beir.read_queries(folder)}
    judged = {name: beir.read_qrels(folder, name) for name in beir.splits(folder).split(", ")}
    answers = beir.read_answers(folder)
    if resplit:
        pooled = {query_id: grades for own in judged.values() for query_id, grades in own.items()}
        judged = {name: {i: grades for i, grades in pooled.items() if question_split(i) == name} for name in SPLITS}
    if "test" not in judged:
        raise UsageError("this collection has no judgements for test", where=folder / "qrels")
    train = judged.get("train", {})
    if "dev" not in judged:
        judged["dev"] = {query_id: grades for query_id, grades in train.items() if question_split(query_id) != "train"}
        judged["train"] = {query_id: grades for query_id, grades in train.items() if query_id not in judged["dev"]}
    for split in SPLITS:
        _write_judged(context.folder, split, queries, _only(judged.get(split, {}), kept), answers)


@stage("questions-collection", version="1", needs=[])
def questions_collection(context: StageContext, limit_passages: int = 0) -> None:
    """A corpus and questions with their passages, all of them split by the hash of their ids.

    Args:
        context: of the stage; its data are ``corpus.jsonl`` and any number of other ``.jsonl`` of questions.
        limit_passages: keep the first so many passages and their questions; 0 keeps all.
    """
    corpus, *others = sorted(context.data_files, key=lambda name: Path(name).name != "corpus.jsonl")
    if Path(corpus).name != "corpus.jsonl" or not others:
        raise UsageError("this stage reads a corpus.jsonl and files of questions", where=context.name)
    kept = _build(context, formats.read_corpus(context.data_file(corpus), format="jsonl"), limit_passages)
    triplets = [
        triplet
        for name in others
        for triplet in formats.read_triplets(context.data_file(name), format="jsonl")
        if kept is None or set(triplet.doc_ids) <= kept
    ]
    for split in SPLITS:
        chosen = [triplet for triplet in triplets if question_split(triplet.query.id) == split]
        write_questions(context.folder, split, chosen)


@stage("dpr-collection", version="1", needs=[])
def dpr_collection(
    context: StageContext, train: str, dev: str, test: str, passages: str = "psgs_w100.tsv", limit_passages: int = 0
) -> None:
    """Open-domain question answering as DPR published it: passages as a table, questions with their answers.

    Args:
        context: of the stage.
        train: the training file (JSON with positive passages).
        dev: the dev file, likewise.
        test: the test file: JSON likewise, or questions and answers as ``.csv``.
        passages: the table, ``psgs_w100.tsv`` or one like it. It is streamed.
        limit_passages: keep the first so many passages; 0 keeps all.
    """
    found = dpr.read_passages(context.data_file(passages))
    _build(context, found, limit_passages)
    for split, name in (("train", train), ("dev", dev), ("test", test)):
        path = context.data_file(name)
        triplets = read_dpr_questions(path) if path.suffix == ".csv" else dpr.read_triplets(path)
        write_questions(context.folder, split, list(triplets))


def read_judgements(folder: Path, split: str) -> Qrels:
    """The judgements of a split: graded where the collection has grades, else 1 for each of a question's passages."""
    graded = folder / f"{split}.qrels"
    if graded.exists():
        return formats.read_qrels(graded)
    return {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in read_questions(folder, split)}


def _folder(context: StageContext, name: str) -> Path:
    found = [context.data_file(file) for file in context.data_files if Path(file).name == name]
    if len(found) != 1:
        raise UsageError(f"this stage reads one {name}, and declares {len(found)}", where=context.name)
    return found[0].parent


def _build(context: StageContext, documents: Iterable[Document], limit: int) -> set[str] | None:
    """Write the corpus; gives the ids that were kept, or None where all were."""
    kept: set[str] | None = set() if limit else None

    def some() -> Iterable[Document]:
        for number, document in enumerate(documents):
            if kept is not None:
                if number == limit:
                    return
                kept.add(document.id)
            yield document
            if number % 100_000 == 0:
                context.progress(number, 0, "passages")

    Corpus.build(some(), context.folder / "corpus")
    return kept


def _only(judged: Qrels, kept: set[str] | None) -> Qrels:
    if kept is None:
        return judged
    inside = {query_id: {d: grade for d, grade in grades.items() if d in kept} for query_id, grades in judged.items()}
    return {query_id: grades for query_id, grades in inside.items() if any(grade >= 1 for grade in grades.values())}


def _write_judged(
    folder: Path, split: str, queries: Mapping[str, Query], judged: Qrels, answers: Mapping[str, tuple[str, ...]]
) -> None:
    triplets = []
    for query_id, grades in judged.items():
        if query_id not in queries:
            raise UsageError(f"the query {query_id!r} is judged for {split}, but is not among the queries")
        relevant = tuple(doc_id for doc_id, grade in grades.items() if grade >= 1)
        triplets.append(Triplet(queries[query_id], answers.get(query_id, ()), relevant))
    write_questions(folder, split, triplets)
    if triplets:
        formats.write_qrels(folder / f"{split}.qrels", judged)
