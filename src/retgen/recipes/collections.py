"""Stages that make a collection: a corpus, and its questions in train, dev and test, in one form for all recipes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from retgen import almanac, formats
from retgen.corpus import Corpus
from retgen.recipes.context import StageContext
from retgen.recipes.stages import stage
from retgen.types import Connector, Query, Triplet, question_split

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@stage("squad-collection", version="1", needs=[])
def squad_collection(context: StageContext, limit_passages: int = 0) -> None:
    """A SQuAD file: its paragraphs as passages, its questions split by the hash of their ids.

    Args:
        context: of the stage; its data are SQuAD files.
        limit_passages: keep the first so many passages and their questions; 0 keeps all.
    """
    documents, triplets = [], []
    for name in context.data_files:
        path = context.data_file(name)
        documents += list(formats.read_corpus(path, format="squad"))
        triplets += list(formats.read_triplets(path))
    if limit_passages:
        documents = documents[:limit_passages]
        kept = {document.id for document in documents}
        triplets = [triplet for triplet in triplets if set(triplet.doc_ids) <= kept]
    Corpus.build(documents, context.folder / "corpus")
    for split in SPLITS:
        chosen = [triplet for triplet in triplets if question_split(triplet.query.id) == split]
        write_questions(context.folder, split, chosen)


@stage("almanac-collection", version=lambda: f"1-{len(almanac.documents())}-{len(almanac.questions())}", needs=[])
def almanac_collection(context: StageContext, train_per_passage: int = 0, test_per_passage: int = 0) -> None:
    """The embedded data; entity-free questions are the group ``entity-free``, the others ``named``.

    Args:
        context: of the stage.
        train_per_passage: most training questions of a passage, the first by id; 0 takes all.
        test_per_passage: likewise of dev and of test questions.
    """
    documents = almanac.documents()
    Corpus.build(documents, context.folder / "corpus")
    for split in SPLITS:
        most = train_per_passage if split == "train" else test_per_passage
        questions = _spread(almanac.questions(split), most) if most else almanac.questions(split)
        groups = {q.id: "entity-free" if q.entity_free else "named" for q in questions}
        triplets = [Triplet(Query(q.id, q.text), q.answers, (q.doc_id,)) for q in questions]
        write_questions(context.folder, split, triplets, groups)


def _spread(questions: Iterable[almanac.AlmanacQuestion], most: int) -> list[almanac.AlmanacQuestion]:
    # Of each passage as many as allowed, its relations taking turns, so that no relation is left out everywhere.
    by_passage: dict[str, list[almanac.AlmanacQuestion]] = {}
    for question in questions:
        by_passage.setdefault(question.doc_id, []).append(question)
    chosen = []
    for number, (_, own) in enumerate(sorted(by_passage.items())):
        own.sort(key=lambda question: question.id)
        turned = own[number % len(own) :] + own[: number % len(own)]
        step = max(1, len(turned) // most)
        chosen += turned[::step][:most]
    return chosen


def write_questions(
    folder: Path, split: str, triplets: Sequence[Triplet], groups: dict[str, str] | None = None
) -> None:
    """Questions as JSON lines: id, question, answers, doc_ids, and their group where they have one."""
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as lines:
        for triplet in triplets:
            record = {
                "id": triplet.query.id,
                "question": triplet.query.text,
                "answers": list(triplet.answers),
                "doc_ids": list(triplet.doc_ids),
                "group": (groups or {}).get(triplet.query.id, ""),
            }
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_questions(folder: Path, split: str, group: str = "") -> list[Triplet]:
    """The questions of a split, or of one group of it."""
    triplets = []
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if not group or record["group"] == group:
                query = Query(record["id"], record["question"])
                triplets.append(Triplet(query, tuple(record["answers"]), tuple(record["doc_ids"])))
    return triplets


def write_connectors(path: Path, queries: Sequence[Query]) -> None:
    """Queries with their connectors as JSON lines."""
    with path.open("w", encoding="utf-8") as lines:
        for query in queries:
            connector = query.connector
            written = connector and {"text": connector.text, "writer": connector.writer, "round": connector.round}
            lines.write(
                json.dumps({"id": query.id, "text": query.text, "connector": written}, ensure_ascii=False) + "\n"
            )


def read_connectors(path: Path) -> list[Query]:
    """What `write_connectors` wrote."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [
        Query(record["id"], record["text"], Connector(**record["connector"]) if record["connector"] else None)
        for record in records
    ]
