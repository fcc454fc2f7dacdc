"""A collection of two dozen passages with questions, and embeddings of it that need no model."""

from __future__ import annotations

import zlib

import numpy as np

from retgen import almanac
from retgen.corpus import Corpus
from retgen.recipes import StageContext, stage
from retgen.recipes.collections import SPLITS, write_questions
from retgen.recipes.generative import VECTORS
from retgen.types import Query, Triplet


@stage("toy-passages", needs=[])
def passages(context: StageContext, count: int = 24, per_passage: int = 4) -> None:
    documents = list(almanac.documents())[:count]
    Corpus.build(documents, context.folder / "corpus")
    kept = {document.id for document in documents}
    for split in SPLITS:
        asked: dict[str, list[Triplet]] = {}
        for question in almanac.questions(split):
            if question.doc_id in kept and not question.entity_free:
                triplet = Triplet(Query(question.id, question.text), question.answers, (question.doc_id,))
                asked.setdefault(question.doc_id, []).append(triplet)
        write_questions(context.folder, split, [triplet for own in asked.values() for triplet in own[:per_passage]])


@stage("toy-embeddings", needs=["collection"])
def embeddings(context: StageContext, width: int = 16) -> None:
    """A random direction for every word, added up."""
    rows = []
    for document in Corpus.open(context.input("collection") / "corpus"):
        words = document.contents.lower().split()
        parts = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=width) for word in words]
        rows.append(np.sum(parts, axis=0) / len(parts))
    np.save(context.folder / VECTORS, np.array(rows, dtype=np.float32))
