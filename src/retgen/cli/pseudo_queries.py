"""``retgen pseudo-queries``: questions for documents that have none, made of their statements or sampled of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import documents_of
from retgen.cli.options import AsJson, CorpusOrIndex, SkipBad
from retgen.cli.running import counted, progress_bars, results, skipping, write_json
from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from retgen.types import Document, Triplet

Ask = Callable[["Sequence[Document]"], "list[list[Triplet]]"]
"""The questions of each of some documents."""
_OFFLINE = "offline"
_BLOCK = 64


def pseudo_queries(
    corpus: CorpusOrIndex,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .jsonl to write.", show_default=False)],
    generator: Annotated[
        str,
        typer.Option(
            help="offline: the documents' own statements, with a span taken out and asked for, which is the answer. Or "
            "a query generator: what retgen train query-generator made, a folder or hub id of any encoder-decoder that "
            "was trained to write queries; its questions have no answers.",
        ),
    ] = _OFFLINE,
    number: Annotated[int, typer.Option("-n", help="Questions a document, at most.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the choice of spans and wordings, or of the samples.", min=0)] = 0,
    top_k: Annotated[
        int | None, typer.Option(help="A generator's next token is one of its likeliest so many [10].", min=1)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="How a generator was taught to read passages: jpr, jpr-beir, upr… [jpr].")
    ] = None,
    device: Annotated[str, typer.Option(help="Of a generator: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Make up questions for documents. The file holds questions, answers and document ids, as train --questions reads.

    Examples:

      retgen pseudo-queries docs/ --out questions.jsonl

      retgen pseudo-queries my-index -n 3 --out questions.jsonl --json

      retgen pseudo-queries my-index --generator my-generator --out questions.jsonl
    """
    if generator == _OFFLINE:
        for option, value in (("--top-k", top_k), ("--preset", preset)):
            if value is not None:
                raise UsageError("offline questions are not sampled of a model", where=option, mend="Give --generator")
        ask, at_once = _offline(number, seed), 1
    else:
        ask, at_once = _sampled(generator, number, seed, top_k or 10, preset or "jpr", device), _BLOCK

    from retgen.formats.jsonl import write_triplets

    counts = {"documents": 0, "asked": 0, "questions": 0}

    def asked(documents: Iterable[Document]) -> Iterator[Triplet]:
        stream = iter(documents)
        with progress_bars() as step:
            show = step("pseudo queries")
            while block := list(islice(stream, at_once)):
                for made in ask(block):
                    counts["documents"] += 1
                    counts["asked"] += bool(made)
                    counts["questions"] += len(made)
                    yield from made
                show(counts["documents"], 0)
        if not counts["documents"]:
            raise RetgenError("there are no documents to ask about", where=corpus, mend="Check the input")

    with skipping(skip_bad) as skipped:
        write_triplets(out, asked(documents_of(corpus, skipped)))
    if as_json:
        write_json({"out": str(out), "generator": generator, "seed": seed, **counts})
        return
    results().print(
        f"{out}: {counted(counts['questions'], 'question', 'questions')} "
        f"about {counts['asked']} of {counted(counts['documents'], 'document', 'documents')}",
        markup=False,
    )


def _offline(number: int, seed: int) -> Ask:
    from retgen.connect import pseudo_questions

    return lambda documents: [pseudo_questions([document], number, seed) for document in documents]


def _sampled(model: str, number: int, seed: int, top_k: int, preset: str, device: str) -> Ask:
    from retgen.cli.training_progress import quiet_transformers
    from retgen.models.query_generator import QueryGenerator
    from retgen.types import Query, Triplet

    quiet_transformers()
    generator = QueryGenerator.from_pretrained(model, preset, device=device)

    def ask(documents: Sequence[Document]) -> list[list[Triplet]]:
        written = generator.sample(documents, number, top_k=top_k, seed=seed, unique=True)
        return [
            [
                Triplet(Query(f"{document.id}::pq{place}", text), (), (document.id,))
                for place, text in enumerate(filter(str.strip, texts))
            ]
            for document, texts in zip(documents, written, strict=True)
        ]

    return ask
