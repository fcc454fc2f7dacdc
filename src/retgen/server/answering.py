"""`/v1/answer`: answers of a batch of questions, with what they stand on and the way their passages went."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retgen.answer import BestSpan
from retgen.answer.answerable import ANSWERABLE
from retgen.answer.citations import citations_of
from retgen.errors import UsageError
from retgen.server import responses
from retgen.server.finding import Asked, Found, check_asked, find, named, passage_fields, rerank, weights_of
from retgen.server.parts import UNIGEN, Parts
from retgen.server.responses import AnswerPassage, AnswerResponse, Citation, Columns, RoundHit
from retgen.text import find_answer
from retgen.types import Answer, Hit, Query, Run

if TYPE_CHECKING:
    from retgen.iterate import Round as IteratedRound

_BACKGROUND = 10
"""Passages whose words tell the best span which of them are rare, as in `retgen ask`."""
_WORDS = re.compile(r"[a-z0-9]+")
NO_ANSWER = "No answer was found in the documents."


@dataclass(frozen=True, slots=True)
class AnswerJob:
    """One question, with the id its response will have.

    Args:
        id: of the response.
        asked: the question; its ``k`` is the number of passages to read.
        rounds: of UniGen, beyond the first.
    """

    id: str
    asked: Asked
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A response, and how many tokens question and answer have."""

    response: AnswerResponse
    question_tokens: int
    answer_tokens: int


def check_answer(parts: Parts, job: AnswerJob) -> None:
    """Refuse what this pipeline cannot do.

    Raises:
        UsageError: see `check_asked`; rounds without a model that reads contexts.
    """
    check_asked(parts, job.asked)
    if job.rounds and (parts.system is None or job.asked.retriever != UNIGEN):
        raise UsageError(
            "rounds need a UniGen that finds and answers", where="rounds", mend="Leave them out, or serve with a model"
        )
    if job.rounds and parts.system is not None and parts.system.writer is None:
        raise UsageError(
            "this model reads plain questions, so that further rounds would show it nothing new",
            where="rounds",
            mend="Leave them out, or serve a model that was trained with contexts",
        )


def answer(parts: Parts, jobs: Sequence[AnswerJob]) -> list[Answered]:
    """The answers of a batch."""
    if parts.system is None:
        found = find(parts, [job.asked for job in jobs])
        answers = _read(parts, jobs, found)
        rounds = [[_only_round(parts, item, said)] for item, said in zip(found, answers, strict=True)]
    else:
        found, answers, rounds = _generate(parts, jobs)
    return [
        _answered(parts, job, item, said, told)
        for job, item, said, told in zip(jobs, found, answers, rounds, strict=True)
    ]


def _read(parts: Parts, jobs: Sequence[AnswerJob], found: Sequence[Found]) -> list[Answer]:
    """Answers read from the passages; questions that read as many share the reader's batches."""
    corpus = parts.index.corpus
    answers: dict[int, Answer] = {}
    groups: dict[int, list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault(job.asked.k, []).append(number)
    for k, numbers in groups.items():
        queries = [found[number].query for number in numbers]
        run = Run.from_hits({found[number].query.id: found[number].ranked for number in numbers})
        if parts.reader is None:
            made = BestSpan(k, background=max(k, _BACKGROUND)).answer(queries, run, corpus)
        else:
            made = parts.reader.answer(queries, run.top(k), corpus)
        answers.update(zip(numbers, made, strict=True))
    return [answers[number] for number in range(len(jobs))]


def _generate(parts: Parts, jobs: Sequence[AnswerJob]) -> tuple[list[Found], list[Answer], list[list[responses.Round]]]:
    """What UniGen finds and says; jobs that are alike share their encoder passes."""
    system = parts.system
    assert system is not None
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault((job.asked.retriever == UNIGEN, job.rounds, job.asked.k), []).append(number)
    found: dict[int, Found] = {}
    answers: dict[int, Answer] = {}
    rounds: dict[int, list[responses.Round]] = {}
    for (own, number_of_rounds, _), numbers in groups.items():
        asked = [jobs[number].asked for number in numbers]
        if own:
            queries = [Query(str(place), item.text) for place, item in enumerate(asked)]
            done = _rounds(parts, queries, int(str(number_of_rounds)), asked[0].depth(parts))
            run = named(done[-1].run, UNIGEN)
            items = rerank(parts, queries, run, asked)
            said = done[-1].answers
            told = [[_round(parts, each, place) for each in done] for place in range(len(numbers))]
        else:
            items = find(parts, asked)
            bare = system.with_connectors([item.query for item in items])
            said = system.answer(bare, None, None)
            told = [[_only_round(parts, item, one, query)] for item, one, query in zip(items, said, bare, strict=True)]
        found.update(zip(numbers, items, strict=True))
        answers.update(zip(numbers, said, strict=True))
        rounds.update(zip(numbers, told, strict=True))
    order = range(len(jobs))
    return [found[n] for n in order], [answers[n] for n in order], [rounds[n] for n in order]


def _rounds(parts: Parts, queries: list[Query], rounds: int, k: int) -> list[IteratedRound]:
    # It brings torch, which an index without models does not need.
    from retgen.iterate import Round, iterate

    system = parts.system
    assert system is not None
    if system.writer is None:
        run, answers = system.search_and_answer(queries, k=k)
        return [Round(0, queries, run, answers)]
    # A next round's BM25 context lists as many passages as the first one's.
    fed_back = system.settings.context_listed
    return iterate(
        system,
        queries,
        parts.index.corpus,
        system.writer,
        rounds=rounds,
        feedback_documents=fed_back,
        words=system.settings.context_words,
        k=max(k, fed_back),
    )


def _round(parts: Parts, each: IteratedRound, place: int) -> responses.Round:
    query = each.queries[place]
    return _told(parts, each.number, query, each.run[query.id], each.answers[place])


def _only_round(parts: Parts, item: Found, said: Answer, query: Query | None = None) -> responses.Round:
    return _told(parts, 0, query or item.query, item.ranked, said)


def _told(parts: Parts, number: int, query: Query, hits: Sequence[Hit], said: Answer) -> responses.Round:
    return responses.Round(
        round=number,
        input=query.input_text,
        writer=query.connector.writer if query.connector is not None else None,
        hits=[
            RoundHit(
                id=parts.index.corpus.document_id(hit.doc_id),
                passage_id=hit.doc_id,
                title=parts.index.corpus[hit.doc_id].title,
                rank=rank,
                score=hit.score,
            )
            for rank, hit in enumerate(hits, 1)
        ],
        answer=said.text,
        score=_number(said.score),
    )


def _answered(parts: Parts, job: AnswerJob, item: Found, said: Answer, rounds: list[responses.Round]) -> Answered:
    used = [] if parts.answerer_kind in ("unigen", "closed-book") else [h.doc_id for h in item.ranked[: job.asked.k]]
    spans = _spans(parts, item, said)
    retrieved = {hit.doc_id: hit.rank for hit in item.retrieved}
    passages = [
        AnswerPassage.model_validate(
            {
                **passage_fields(parts, hit)[1],
                "rank_retrieved": retrieved[hit.doc_id],
                "rank_reranked": rank if item.reranked else None,
                "used": hit.doc_id in used,
                "answer_spans": spans.get(hit.doc_id, []),
            }
        )
        for rank, hit in enumerate(item.ranked, 1)
    ]
    probability = said.details.get(ANSWERABLE)
    response = AnswerResponse(
        id=job.id,
        model="retgen",
        question=job.asked.text,
        answer=said.text,
        answerable=probability if isinstance(probability, float) else None,
        score=_number(said.score),
        citations=_citations(parts, said, used, passages),
        passages=passages,
        columns=Columns(
            retrieved=[hit.doc_id for hit in item.retrieved],
            reranked=[hit.doc_id for hit in item.ranked] if item.reranked else [],
            used=used,
        ),
        retriever=job.asked.retriever,
        reranker=parts.reranker_kind if item.reranked else None,
        weights=weights_of(parts, job.asked),
        rounds=rounds,
    )
    return Answered(response, _tokens(parts, job.asked.text), _tokens(parts, said.text))


def _spans(parts: Parts, item: Found, said: Answer) -> dict[str, list[tuple[int, int]]]:
    """Passage → where the answer's words stand in it: the reader's own span first of all, else the first found."""
    if not said.text:
        return {}
    found: dict[str, list[tuple[int, int]]] = {}
    start, end = said.details.get("start"), said.details.get("end")
    for hit in item.ranked:
        if hit.doc_id == said.source and isinstance(start, int) and isinstance(end, int):
            found[hit.doc_id] = [(start, end)]
        elif (span := _find(said.text, parts.index.corpus[hit.doc_id].text)) is not None:
            found[hit.doc_id] = [span]
    return found


def _find(answer: str, text: str) -> tuple[int, int] | None:
    """As `find_answer`, with a quick look first: most passages lack one of the answer's words."""
    if answer.isascii() and text.isascii():
        lower = text.lower()
        if any(word not in lower for word in _WORDS.findall(answer.lower())):
            return None
    return find_answer(answer, text)


def _citations(parts: Parts, said: Answer, used: Sequence[str], passages: Sequence[AnswerPassage]) -> list[Citation]:
    """The passages behind an answer, those it stands in; its source alone, without a span, where it stands in none."""
    if not said.text:
        return []
    shares = {citation.doc_id: citation.share for citation in citations_of(said)}
    rows = [row for row in passages if row.answer_spans and (row.used or not used)]
    if parts.answerer_kind == "best-span":
        rows = [row for row in rows if row.passage_id == said.source]
    elif shares:
        rows.sort(key=lambda row: -shares.get(row.passage_id, 0.0))
    rows = rows or [row for row in passages if row.passage_id == said.source]
    made = []
    for mark, row in enumerate(rows[:_BACKGROUND], 1):
        start, end = row.answer_spans[0] if row.answer_spans else (None, None)
        made.append(
            Citation(
                mark=mark,
                doc_id=row.id,
                passage_id=row.passage_id,
                title=row.title,
                start=start,
                end=end,
                text=row.text[start:end] if start is not None else "",
                basis="read" if used else "alongside",
                share=shares.get(row.passage_id),
            )
        )
    return made


def _tokens(parts: Parts, text: str) -> int:
    """By the answerer's tokenizer; words where it has none."""
    owner = parts.system or parts.reader
    if owner is None:
        return len(text.split())
    return len(owner.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else 0


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
