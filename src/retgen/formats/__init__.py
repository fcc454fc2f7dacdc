"""Reading and writing the field's files: one file per format, and the functions here that find out which it is.

Every reader streams where its format allows and reports a bad record with file, line and field. Without ``skipped``
the first bad record ends the reading; with it bad records are collected there and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from retgen.errors import FormatError
from retgen.formats import beir, dpr, folder, ir_datasets, jsonl, msmarco_qna, squad, trec
from retgen.formats.detect import CORPUS_FORMATS, Format, corpus_format, existing, question_format
from retgen.formats.records import Skipped
from retgen.formats.trec import read_run, write_qrels, write_run
from retgen.types import Document, Qrels, Query, Triplet

__all__ = [
    "CORPUS_FORMATS",
    "Skipped",
    "read_corpus",
    "read_qrels",
    "read_queries",
    "read_run",
    "read_triplets",
    "write_qrels",
    "write_run",
]


def read_corpus(path: str | Path, *, format: str | None = None, skipped: Skipped | None = None) -> Iterator[Document]:
    """The documents of a corpus in any format this package knows.

    Args:
        path: a BEIR folder, a ``.jsonl``, a ``.tsv`` of DPR passages, a SQuAD, MS MARCO QnA or DPR ``.json``, a folder
            of texts, one text file, or ``ir_datasets:<id>``. Gzip is accepted.
        format: one of `CORPUS_FORMATS`; None looks at the content.
        skipped: collects bad records; None raises at the first.

    Raises:
        FormatError: the path does not exist or its format is not known.
        RecordError: a bad record.
    """
    found = corpus_format(path, format)
    match found:
        case Format.IR_DATASETS:
            return ir_datasets.read_documents(str(path), skipped=skipped)
        case Format.BEIR:
            return beir.read_documents(path, skipped=skipped)
        case Format.JSONL:
            return jsonl.read_documents(path, skipped=skipped)
        case Format.SQUAD:
            return squad.read_documents(path, skipped=skipped)
        case Format.MSMARCO_QNA:
            return msmarco_qna.read_documents(path, skipped=skipped)
        case Format.DPR_PASSAGES:
            return dpr.read_passages(path, skipped=skipped)
        case Format.DPR:
            return dpr.read_contexts(path, skipped=skipped)
        case Format.FOLDER:
            return folder.read_documents(path, skipped=skipped)
        case _:
            raise FormatError(f"a file of format {found.value!r} holds no documents", where=str(path))


def read_queries(path: str | Path, *, format: str | None = None, skipped: Skipped | None = None) -> Iterator[Query]:
    """The queries of a BEIR folder, a ``.jsonl``, a two-column ``.tsv``, or a file of questions with answers.

    Raises:
        FormatError: the path does not exist or its format is not known.
        RecordError: a bad record.
    """
    found = question_format(path, format)
    match found:
        case Format.IR_DATASETS:
            return ir_datasets.read_queries(str(path), skipped=skipped)
        case Format.BEIR:
            return beir.read_queries(path, skipped=skipped)
        case Format.JSONL:
            return jsonl.read_queries(path, skipped=skipped)
        case Format.QUERY_TABLE:
            return jsonl.read_query_table(path, skipped=skipped)
        case _:
            return (triplet.query for triplet in read_triplets(path, format=found.value, skipped=skipped))


def read_triplets(path: str | Path, *, format: str | None = None, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """Questions with their answers and relevant documents: JSONL, SQuAD, DPR or MS MARCO QnA.

    Raises:
        FormatError: the path does not exist, its format is not known, or it has no answers.
        RecordError: a bad record.
    """
    found = question_format(path, format)
    match found:
        case Format.JSONL:
            return jsonl.read_triplets(path, skipped=skipped)
        case Format.SQUAD:
            return squad.read_questions(path, skipped=skipped)
        case Format.MSMARCO_QNA:
            return msmarco_qna.read_triplets(path, skipped=skipped)
        case Format.DPR:
            return dpr.read_triplets(path, skipped=skipped)
        case _:
            raise FormatError(
                f"a source of format {found.value!r} holds no questions with answers",
                where=str(path),
                mend="Give a JSONL of triplets, or a SQuAD, DPR or MS MARCO QnA file",
            )


def read_qrels(path: str | Path, *, skipped: Skipped | None = None) -> Qrels:
    """Judgements from a TREC or BEIR file, or ``ir_datasets:<id>``.

    Raises:
        FormatError: the path does not exist, or is a folder.
        RecordError: a bad line.
    """
    if str(path).startswith(ir_datasets.PREFIX):
        return ir_datasets.read_qrels(str(path))
    if existing(path).is_dir():
        raise FormatError(
            "this is a folder, not a file of judgements",
            where=path,
            mend=f"Give one split's file, e.g. qrels/test.tsv; there are: {beir.splits(path)}",
        )
    return trec.read_qrels(path, skipped=skipped)
