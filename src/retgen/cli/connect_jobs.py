"""What ``retgen connect`` writes: the four jobs, what each reads, and the line that each of its texts becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retgen.cli.corpus_or_index import documents_of, is_index
from retgen.cli.running import skipping
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.connect import Writer
    from retgen.connect.docid_texts import Repair
    from retgen.connect.prompted import PromptedWriter
    from retgen.corpus import Corpus
    from retgen.llm.requests import CompletionRequest
    from retgen.types import Connector, Query, Triplet

JOBS = ("summarise", "contextualise", "answer", "enhance")


def check_job(job: str, queries: str | None, run: Path | None, answers: Path | None) -> None:
    """Refuse options that do not fit the job, before anything is read.

    Raises:
        UsageError: an unknown job, or a file that is missing or of no use.
    """
    if job not in JOBS:
        raise UsageError(f"unknown job {job!r}", where="--job", mend=f"Choose one of {', '.join(JOBS)}")
    given = {"--queries": queries, "--run": run, "--answers": answers}
    needs = {"summarise": (), "enhance": ("--queries", "--run", "--answers")}.get(job, ("--queries",))
    for option, value in given.items():
        if value is None and option in needs:
            raise UsageError(f"--job {job} needs {option}", mend=f"Give {option} FILE")
        if value is not None and option not in needs:
            raise UsageError(f"--job {job} makes no use of {option}", mend=f"Leave {option} out")


class Text(NamedTuple):
    """A text, who is said to have written it, and what had to be done to it (of docids, see `DocidText`)."""

    text: str
    writer: str
    repair: Repair = ""
    cut: bool = False


Texts = dict[int, Text]
"""By the number of the document or question they are for."""


@dataclass(frozen=True)
class Job:
    """One job over one collection.

    Args:
        corpus: its documents.
        ids: of the documents or questions that get a text.
        ask: has a writer write all texts.
        requests: the prompts of all texts.
        row: the line of a text, from its number, itself and its writer.
        finish: what becomes of completions by number, and their writer, where not all items got one.
    """

    corpus: Corpus
    ids: Sequence[str]
    ask: Callable[[Writer], Texts]
    requests: Callable[[PromptedWriter], Iterable[CompletionRequest]]
    row: Callable[[int, str, str], dict[str, object]]
    finish: Callable[[Mapping[int, str], str], Texts]

    def write(self, out: Path, texts: Mapping[int, Text]) -> None:
        """Write down the texts of these numbers."""
        _write_rows(out, (self.row(number, text.text, text.writer) for number, text in sorted(texts.items())))

    def write_failures(self, out: Path, reasons: Mapping[int, str]) -> None:
        """Write down which items got no text, and why."""
        _write_rows(out, ({"id": self.ids[number], "error": why} for number, why in sorted(reasons.items())))


def open_job(
    job: str,
    corpus: str,
    queries: str | None,
    run: Path | None,
    answers: Path | None,
    *,
    words: int | None,
    round: int,
    feedback: int,
    skip_bad: bool,
) -> Job:
    """Read what a job needs. `check_job` has seen to it that it was given.

    Raises:
        UsageError: a question without a document, or without its run or answer.
        RecordError: a bad record.
    """
    from retgen.formats import read_queries, read_triplets

    length = {} if words is None else {"words": words}
    with skipping(skip_bad) as skipped:
        documents = _corpus(corpus, skipped)
        if job == "summarise":
            return _summaries(documents, length)
        if job == "answer":
            return _pseudo_answers(documents, list(read_triplets(str(queries), skipped=skipped)), str(queries))
        asked = list(read_queries(str(queries), skipped=skipped))
        if job == "contextualise":
            return _contexts(documents, asked, length)
        return _enhancements(documents, asked, Path(str(run)), Path(str(answers)), length, round, feedback)


def _summaries(documents: Corpus, length: Mapping[str, int]) -> Job:
    from retgen.connect.docid_texts import docid_texts
    from retgen.llm.prompts import DEFAULT_SUMMARY_WORDS

    words = length.get("words", DEFAULT_SUMMARY_WORDS)

    def row(number: int, text: str, writer: str) -> dict[str, object]:
        document = documents.at(number)
        return {"id": document.id, "about": document.title, "text": text, "writer": writer, "round": 0}

    def finish(written: Mapping[int, str], writer: str) -> Texts:
        made = docid_texts([documents.at(number) for number in written], [*written.values()], writer, words=words)
        return {
            number: Text(docid.text, docid.writer, docid.repair, docid.cut)
            for number, docid in zip(written, made, strict=True)
        }

    return Job(
        documents,
        documents.ids,
        lambda writer: finish(dict(enumerate(writer.summarise(list(documents), words))), writer.name),
        lambda writer: writer.summary_requests(documents, words),
        row,
        finish,
    )


def _contexts(documents: Corpus, queries: list[Query], length: Mapping[str, int]) -> Job:
    from retgen.llm.prompts import DEFAULT_CONTEXT_WORDS

    words = length.get("words", DEFAULT_CONTEXT_WORDS)
    return Job(
        documents,
        [query.id for query in queries],
        lambda writer: _texts_of(writer.contextualise(queries, words)),
        lambda writer: writer.context_requests(queries, words),
        _row_of(queries, 0),
        _as_they_are,
    )


def _pseudo_answers(documents: Corpus, triplets: list[Triplet], file: str) -> Job:
    queries = [triplet.query for triplet in triplets]
    without = [triplet.query.id for triplet in triplets if not triplet.doc_ids]
    if without:
        raise UsageError(
            f"{len(without)} questions name no document to be answered from, the first {without[0]!r}",
            where=file,
            mend="Give what retgen pseudo-queries wrote, or questions with doc_ids",
        )
    first = [documents[triplet.doc_ids[0]] for triplet in triplets]

    def row(number: int, text: str, writer: str) -> dict[str, object]:
        triplet = triplets[number]
        return {
            "id": triplet.query.id,
            "question": triplet.query.text,
            "answers": [text] if text else [],
            "doc_ids": list(triplet.doc_ids),
            "writer": writer,
        }

    return Job(
        documents,
        [query.id for query in queries],
        lambda writer: _as_they_are(dict(enumerate(writer.answer(queries, first))), writer.name),
        lambda writer: writer.answer_requests(queries, first),
        row,
        _as_they_are,
    )


def _enhancements(
    documents: Corpus,
    queries: list[Query],
    run: Path,
    answers: Path,
    length: Mapping[str, int],
    round: int,
    feedback: int,
) -> Job:
    from retgen.cli.evaluate import read_answers
    from retgen.formats import read_run
    from retgen.llm.prompts import DEFAULT_CONTEXT_WORDS

    words = length.get("words", DEFAULT_CONTEXT_WORDS)
    found, said = read_run(run), read_answers(answers)
    lacking = [query.id for query in queries if query.id not in found or query.id not in said]
    if lacking:
        raise UsageError(
            f"run or answers lack {len(lacking)} of the {len(queries)} questions, the first {lacking[0]!r}",
            where=f"{run}, {answers}",
            mend="Give the run and the answers of these questions",
        )
    shown = [[documents[doc_id] for doc_id in found.doc_ids(query.id)[:feedback]] for query in queries]
    given = [said[query.id] for query in queries]
    return Job(
        documents,
        [query.id for query in queries],
        lambda writer: _texts_of(writer.enhance(queries, shown, given, words, round)),
        lambda writer: writer.enhance_requests(queries, shown, given, words),
        _row_of(queries, round),
        _as_they_are,
    )


def _texts_of(connectors: Sequence[Connector]) -> Texts:
    # The connector's own name for its writer: a BM25 context is not called after a language model.
    return {number: Text(connector.text, connector.writer) for number, connector in enumerate(connectors)}


def _as_they_are(written: Mapping[int, str], writer: str) -> Texts:
    return {number: Text(text, writer) for number, text in written.items()}


def _row_of(queries: Sequence[Query], round: int) -> Callable[[int, str, str], dict[str, object]]:
    def row(number: int, text: str, writer: str) -> dict[str, object]:
        query = queries[number]
        return {"id": query.id, "about": query.text, "text": text, "writer": writer, "round": round}

    return row


def _corpus(path: str, skipped: Any) -> Corpus:
    if is_index(path):
        from retgen.index import Index

        return Index.open(path).corpus
    from retgen.corpus import Corpus

    return Corpus.from_documents(documents_of(path, skipped))


def _write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    from retgen.store import atomic_file

    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
