"""TREC runs and judgements, and BEIR's judgements with a header.

A run is six columns: query, ``Q0``, document, rank, score, tag. The ranks in the file are the order; the scores only
ride along. Beside ``RUN`` lies ``RUN.parquet`` (see `run_sidecar`) with what six columns cannot hold.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from retgen.errors import RecordError, UsageError
from retgen.formats import run_sidecar
from retgen.formats.lines import decoded, raw_lines
from retgen.formats.records import Skipped, check_id, parsed
from retgen.store import atomic_file
from retgen.types import Qrels, Run

_GRADE = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_RANK = re.compile(r"[0-9]{1,9}", re.ASCII)
_SCORE = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.I | re.A
)
_HEADER = re.compile(r"(?:query|q)[-_]?id", re.I)
_SPACES = re.compile(r"[ \t\x0b\x0c\r]+")


@dataclass(slots=True)
class _Ranked:
    """One query's hits as they come in; files need not be in order."""

    ranks: list[int] = field(default_factory=list)
    doc_ids: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    known: set[str] = field(default_factory=set)


def read_run(path: str | Path, *, skipped: Skipped | None = None) -> Run:
    """A run in the order of its ranks, with its sidecar's components, fingerprint and empty queries where it has one.

    Raises:
        RecordError: a bad line, a rank or document that a query lists twice, unless ``skipped`` collects them.
        MismatchError: the sidecar belongs to another run.
    """
    path = Path(path)
    queries: dict[str, _Ranked] = {}
    for query_id, doc_id, rank, score in parsed(raw_lines(path), lambda raw: _hit(path, raw, queries), skipped):
        hits = queries.setdefault(query_id, _Ranked())
        hits.ranks.append(rank)
        hits.doc_ids.append(doc_id)
        hits.scores.append(score)
        hits.taken.add(rank)
        hits.known.add(doc_id)
    orders = {
        query_id: sorted(range(len(hits.ranks)), key=hits.ranks.__getitem__) for query_id, hits in queries.items()
    }
    run = Run(
        list(queries),
        [[queries[query_id].doc_ids[i] for i in order] for query_id, order in orders.items()],
        [[queries[query_id].scores[i] for i in order] for query_id, order in orders.items()],
        presorted=True,
    )
    return run_sidecar.joined(run, path)


def write_run(path: str | Path, run: Run, *, tag: str = "retgen") -> None:
    """Write a run and its sidecar.

    Columns are divided by a space, or by a tab when an id holds a space (`read_run` reads both; other tools may not).

    Args:
        path: the run; ``PATH.parquet`` is written beside it.
        run: its ranks become the fourth column.
        tag: the sixth column, the system's name, without white space.

    Raises:
        UsageError: an id or the tag cannot be written in this format.
    """
    if not tag or re.search(r"\s", tag):
        raise UsageError(f"a run's tag must be one word, got {tag!r}", where="tag")
    spaced = False
    for query_id in run:
        for name in (query_id, *run.doc_ids(query_id)):
            check_id(name, lambda what: RecordError(what, path=path, mend="Choose ids without such characters"))
            spaced = spaced or re.search(r"\s", name) is not None
    divider = "\t" if spaced else " "
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        for query_id in run:
            rows = zip(run.doc_ids(query_id), run.scores(query_id), strict=True)
            for rank, (doc_id, score) in enumerate(rows, start=1):
                out.write(divider.join((query_id, "Q0", doc_id, str(rank), repr(float(score)), tag)) + "\n")
    run_sidecar.write(run, Path(path))


def read_qrels(path: str | Path, *, skipped: Skipped | None = None) -> Qrels:
    """Judgements from TREC's four columns or BEIR's three (with its header).

    A judgement that stands twice with one grade counts once; with two grades it is a bad record.

    Raises:
        RecordError: a bad line, unless ``skipped`` collects them.
    """
    path = Path(path)
    qrels: dict[str, dict[str, int]] = {}
    for query_id, doc_id, grade in parsed(raw_lines(path), lambda raw: _judgement(path, raw, qrels), skipped):
        qrels.setdefault(query_id, {})[doc_id] = grade
    return qrels


def write_qrels(path: str | Path, qrels: Qrels, *, layout: str = "trec") -> None:
    """Write judgements.

    Args:
        path: where to.
        qrels: query id → document id → grade. A query without judgements cannot be written and is left out.
        layout: ``"trec"`` (four columns) or ``"beir"`` (three, tab-separated, with a header).

    Raises:
        UsageError: the layout is neither.
        RecordError: an id cannot be written in this format.
    """
    if layout not in ("trec", "beir"):
        raise UsageError(f"judgements are written as 'trec' or 'beir', not {layout!r}", where="layout")
    names = [*qrels, *(doc_id for row in qrels.values() for doc_id in row)]
    for name in names:
        check_id(name, lambda what: RecordError(what, path=path, mend="Choose ids without such characters"))
    divider = "\t" if layout == "beir" or any(re.search(r"\s", name) for name in names) else " "
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        if layout == "beir":
            out.write("query-id\tcorpus-id\tscore\n")
        for query_id, row in qrels.items():
            for doc_id, grade in row.items():
                middle = ("0",) if layout == "trec" else ()
                out.write(divider.join((query_id, *middle, doc_id, str(int(grade)))) + "\n")


def _columns(line: str, counts: tuple[int, ...]) -> list[str]:
    """Tab-separated where that gives the right number of columns, else by white space."""
    by_tab = line.split("\t")
    neat = len(by_tab) in counts and all(column == column.strip() for column in by_tab)
    return by_tab if neat else _SPACES.split(line.strip(" \t\x0b\x0c\r"))


def _hit(path: Path, raw: tuple[int, bytes], queries: dict[str, _Ranked]) -> tuple[str, str, int, float] | None:
    number, data = raw
    line = decoded(data, path, number)
    if not line.strip():
        return None

    def bad(what: str, name: str | None = None) -> RecordError:
        return RecordError(what, path=path, line=number, field=name)

    columns = _columns(line, (6,))
    if len(columns) != 6:
        raise bad(f"expected 6 columns (query, Q0, document, rank, score, tag), got {len(columns)}")
    query_id, _, doc_id, rank, score, _ = columns
    check_id(query_id, lambda what: bad(what, "query"))
    check_id(doc_id, lambda what: bad(what, "document"))
    if not _RANK.fullmatch(rank):
        raise bad(f"a rank is a whole number from 0, got {rank!r}", "rank")
    if not _SCORE.fullmatch(score) or math.isnan(float(score)):
        raise bad(f"a score is a number, got {score!r}", "score")
    hits = queries.get(query_id)
    if hits is not None and int(rank) in hits.taken:
        raise bad(f"query {query_id!r} has two documents at rank {int(rank)}", "rank")
    if hits is not None and doc_id in hits.known:
        raise bad(f"query {query_id!r} lists document {doc_id!r} twice", "document")
    return query_id, doc_id, int(rank), float(score)


def _judgement(path: Path, raw: tuple[int, bytes], qrels: dict[str, dict[str, int]]) -> tuple[str, str, int] | None:
    number, data = raw
    line = decoded(data, path, number)
    if not line.strip():
        return None

    def bad(what: str, name: str | None = None) -> RecordError:
        return RecordError(what, path=path, line=number, field=name)

    columns = _columns(line, (3, 4))
    if len(columns) not in (3, 4):
        raise bad(f"expected 4 columns (query, 0, document, grade) or BEIR's 3, got {len(columns)}")
    query_id, doc_id, grade = columns[0], columns[-2], columns[-1]
    if number == 1 and _HEADER.fullmatch(query_id) and not _GRADE.fullmatch(grade):
        return None
    check_id(query_id, lambda what: bad(what, "query"))
    check_id(doc_id, lambda what: bad(what, "document"))
    if not _GRADE.fullmatch(grade):
        raise bad(f"a grade is a whole number, got {grade!r}", "grade")
    known = qrels.get(query_id, {}).get(doc_id)
    if known is not None and known != int(grade):
        raise bad(f"query {query_id!r} and document {doc_id!r} are judged twice, {known} and {int(grade)}", "grade")
    return query_id, doc_id, int(grade)
