"""A BEIR folder: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv``. Lines as in `jsonl` and `trec`.

Lines of ``queries.jsonl`` may have ``answers`` besides, which BEIR has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from retgen.errors import FormatError
from retgen.formats import jsonl, trec
from retgen.formats.records import Record, Skipped, json_lines, parsed
from retgen.types import Document, Qrels, Query


def read_documents(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """The documents of ``corpus.jsonl`` (or ``corpus.jsonl.gz``)."""
    return jsonl.read_documents(part(path, "corpus"), skipped=skipped)


def read_queries(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Query]:
    """All queries of ``queries.jsonl``, judged or not."""
    return jsonl.read_queries(part(path, "queries"), skipped=skipped)


def read_answers(path: str | Path, *, skipped: Skipped | None = None) -> dict[str, tuple[str, ...]]:
    """Accepted answers by query id, of the queries that have any: BEIR's own have none, a line may bear ``answers``."""

    def parse(record: Record) -> tuple[str, tuple[str, ...]]:
        return record.identifier(*jsonl.QUERY_ID), record.texts(*jsonl.ANSWERS)

    lines = json_lines(part(path, "queries"), skipped)
    return {query_id: answers for query_id, answers in parsed(lines, parse, skipped) if answers}


def read_qrels(path: str | Path, split: str, *, skipped: Skipped | None = None) -> Qrels:
    """The judgements of one split, e.g. ``"test"``.

    Raises:
        FormatError: there is no such split; the message names those there are.
    """
    folder = Path(path) / "qrels"
    source = folder / f"{split}.tsv"
    if not source.is_file():
        raise FormatError(f"there is no split {split!r}", where=folder, mend=f"There are: {splits(path)}")
    return trec.read_qrels(source, skipped=skipped)


def splits(path: str | Path) -> str:
    """The names of the splits with judgements, with commas between them."""
    return ", ".join(sorted(entry.stem for entry in (Path(path) / "qrels").glob("*.tsv"))) or "none"


def part(path: str | Path, name: str) -> Path:
    """Where a BEIR folder keeps its corpus or queries.

    Raises:
        FormatError: the folder has no such file.
    """
    for suffix in (".jsonl", ".jsonl.gz"):
        source = Path(path) / f"{name}{suffix}"
        if source.is_file():
            return source
    raise FormatError(f"this folder has no {name}.jsonl", where=path, mend="Give a folder in BEIR's layout")
