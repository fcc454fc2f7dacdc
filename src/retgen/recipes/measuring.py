"""What a row's system found and said, kept in one form, and measured."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retgen import formats
from retgen.evaluate import evaluate_answers, evaluate_run
from retgen.recipes.collections import SPLITS, read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.stages import stage
from retgen.types import Answer, Retriever, Run

RETRIEVAL = {"R@1": "Success@1", "R@5": "Success@5", "R@10": "Success@10", "MRR@10": "RR@10"}
"""Columns → measures. With one relevant document a question, recall and success are the same."""
ANSWERS = ("EM", "F1")
FREE_FORM = ("BLEU-1", "ROUGE-L")


def write_outcome(
    folder: Path,
    run: Run | None,
    answers: Sequence[Answer] | None,
    seconds: float,
    name: str = "test",
    *,
    cited: bool = False,
) -> None:
    """Keep a system's run and answers for a split, and how long its questions took.

    Args:
        folder: of the stage.
        run: its documents.
        answers: its answers: id, text and score.
        seconds: that all questions took.
        name: of the split, or of a round.
        cited: keep the answers' passages, sources and details too.
    """
    if run is not None:
        formats.write_run(folder / f"{name}.run", run)
    if answers is not None:
        with (folder / f"{name}.answers.jsonl").open("w", encoding="utf-8") as lines:
            for answer in answers:
                lines.write(json.dumps(answer_record(answer, cited=cited), ensure_ascii=False) + "\n")
    (folder / f"{name}.seconds").write_text(f"{seconds}\n")


def answer_record(answer: Answer, *, cited: bool = True) -> dict[str, object]:
    """An answer as JSON values; `answer_of` reads it."""
    record: dict[str, object] = {"id": answer.query_id, "answer": answer.text, "score": answer.score}
    if cited:
        record |= {"passages": list(answer.passages), "source": answer.source, "details": dict(answer.details)}
    return record


def answer_of(record: Mapping[str, Any]) -> Answer:
    """What `answer_record` wrote; a record without passages is an answer that named none."""
    shown = tuple(record.get("passages", ()))
    details = record.get("details", {})
    return Answer(record["id"], record["answer"], record["score"], shown, record.get("source"), details)


def read_answers(folder: Path, name: str = "test") -> list[Answer] | None:
    """The answers that `write_outcome` kept, None where it kept none."""
    path = folder / f"{name}.answers.jsonl"
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as lines:
        return [answer_of(json.loads(line)) for line in lines]


def search_splits(context: StageContext, retriever: Retriever, k: int) -> None:
    """Keep a retriever's outcome for the dev and test questions of the stage's collection, each split timed."""
    for split in SPLITS[1:]:
        queries = [triplet.query for triplet in read_questions(context.input("collection"), split)]
        start = time.perf_counter()
        run = retriever.search(queries, k=k)
        write_outcome(context.folder, run, None, time.perf_counter() - start, split)


def read_outcome(folder: Path, name: str = "test") -> tuple[Run | None, dict[str, str] | None, float]:
    """What `write_outcome` kept: run, answers by question, seconds."""
    run_path, answers_path = folder / f"{name}.run", folder / f"{name}.answers.jsonl"
    run = formats.read_run(run_path) if run_path.exists() else None
    answers = None
    if answers_path.exists():
        with answers_path.open(encoding="utf-8") as lines:
            answers = {record["id"]: record["answer"] for record in map(json.loads, lines)}
    return run, answers, float((folder / f"{name}.seconds").read_text())


@stage("measure", version="1", needs=["collection", "outcome"], added=["unseen", "free_form"])
def measure(
    context: StageContext,
    group: str = "",
    name: str = "test",
    questions: int = 0,
    unseen: bool = False,
    free_form: bool = False,
) -> None:
    """The columns of a row: R@k, MRR@10, EM and F1 over all test questions, and milliseconds a question.

    Args:
        context: of the stage.
        group: measure the questions of this group alone.
        name: of the outcome, e.g. that of one round.
        questions: measure the first so many questions; 0 takes all.
        unseen: also report ``unseen_R@10``: over questions about documents that no training question asks about, of
            which there are ``unseen_questions``.
        free_form: answers are sentences, as in MS MARCO: BLEU-1 and ROUGE-L in place of EM and F1.
    """
    triplets = read_questions(context.input("collection"), "test", group)
    triplets = triplets[:questions] if questions else triplets
    run, answers, seconds = read_outcome(context.input("outcome"), name)
    asked = len(read_questions(context.input("collection"), "test"))
    ids = [triplet.query.id for triplet in triplets]
    values: dict[str, float | int | str | None] = {"questions": len(ids), "ms": 1000 * seconds / max(1, asked)}
    per_question: dict[str, dict[str, float]] = {}
    statistics: dict[str, dict[str, tuple[float, ...]]] = {}
    if run is not None:
        qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in triplets}
        found = evaluate_run(run, qrels, list(RETRIEVAL.values()), query_ids=ids)
        for column, measure_name in RETRIEVAL.items():
            values[column] = found.means[measure_name]
            per_question[column] = dict(found.per_query[measure_name])
        if unseen:
            trained = {
                doc_id for item in read_questions(context.input("collection"), "train") for doc_id in item.doc_ids
            }
            new = [item.query.id for item in triplets if trained.isdisjoint(item.doc_ids)]
            hits = per_question["R@10"]
            values["unseen_questions"] = len(new)
            values["unseen_R@10"] = sum(hits[i] for i in new) / len(new) if new else None
    if answers is not None:
        gold = {triplet.query.id: triplet.answers for triplet in triplets}
        measures = FREE_FORM if free_form else ANSWERS
        said = evaluate_answers({i: answers[i] for i in ids if i in answers}, gold, measures)
        values |= said.means
        per_question |= said.per_question
        statistics = said.statistics
    context.report(values, per_question=per_question, statistics=statistics)
