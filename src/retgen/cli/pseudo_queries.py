"""``retgen pseudo-queries``: questions for documents that have none, made of their statements or sampled of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import documents_of
from retgen.cli.options import AsJson, CorpusOrIndex, Resume, SkipBad
from retgen.cli.running import counted, progress_bars, results, skipping, write_json
from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from retgen.connect.sampled import Sampling
    from retgen.types import Document, Triplet

INTERRUPTED = 130
_OFFLINE = "offline"


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
    temperature: Annotated[
        float | None, typer.Option(help="Of a generator; below 1 its likely words become likelier [1].")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="How a generator was taught to read passages: jpr, jpr-beir, upr… [jpr].")
    ] = None,
    cross_encoder: Annotated[
        str | None,
        typer.Option(
            help="Keep only what this re-ranker (a folder or hub id) finds fitting: with --keep, --min-score or both.",
            metavar="MODEL",
        ),
    ] = None,
    keep: Annotated[int | None, typer.Option(help="Of a document's questions, its best so many.", min=1)] = None,
    min_score: Annotated[float | None, typer.Option(help="Its lowest score of a question, a raw logit.")] = None,
    device: Annotated[str, typer.Option(help="Of the models: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Make up questions for documents. The file holds questions, answers and document ids, as train --questions reads.

    With a generator it may take long: stopped, it goes on when the same command is given again.

    Examples:

      retgen pseudo-queries docs/ --out questions.jsonl

      retgen pseudo-queries my-index -n 3 --out questions.jsonl --json

      retgen pseudo-queries my-index --generator my-generator --out questions.jsonl

      retgen pseudo-queries corpus.jsonl --generator castorini/doc2query-t5-base-msmarco -n 40
        --cross-encoder cross-encoder/ms-marco-MiniLM-L6-v2 --keep 12 --out questions.jsonl

    Then: retgen index corpus.jsonl --out my-index --pseudo-queries questions.jsonl
    """
    if generator == _OFFLINE:
        given = {
            "--top-k": top_k,
            "--temperature": temperature,
            "--preset": preset,
            "--cross-encoder": cross_encoder,
            "--keep": keep,
            "--min-score": min_score,
        }
        for option, value in given.items():
            if value is not None:
                raise UsageError("offline questions are not sampled of a model", where=option, mend="Give --generator")
        counts = _offline(corpus, out, number, seed, skip_bad)
    else:
        if (cross_encoder is not None) != (keep is not None or min_score is not None):
            raise UsageError(
                "a filter needs a re-ranker, and what to keep by it",
                where="--cross-encoder",
                mend="Give it with --keep, --min-score or both",
            )
        from retgen.connect.sampled import Sampling

        sampling = Sampling(number, top_k or 10, temperature or 1.0, seed, keep or 0, min_score)
        try:
            counts = _sampled(
                corpus,
                out,
                sampling,
                generator,
                preset or "jpr",
                cross_encoder,
                device,
                resume=resume,
                skip_bad=skip_bad,
            )
        except KeyboardInterrupt:
            typer.echo("Interrupted. What is done is kept: run the same command again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        write_json({"out": str(out), "generator": generator, "seed": seed, **counts})
        return
    results().print(
        f"{out}: {counted(counts['questions'], 'question', 'questions')} "
        f"about {counts['asked']} of {counted(counts['documents'], 'document', 'documents')}"
        + (f", {counts['dropped']} left out" if counts.get("dropped") else ""),
        markup=False,
    )


def _offline(corpus: str, out: Path, number: int, seed: int, skip_bad: bool) -> dict[str, int]:
    from retgen.connect import pseudo_questions
    from retgen.formats.jsonl import write_triplets

    counts = {"documents": 0, "asked": 0, "questions": 0}

    def asked(documents: Iterable[Document]) -> Iterator[Triplet]:
        with progress_bars() as step:
            show = step("pseudo queries")
            for document in documents:
                made = pseudo_questions([document], number, seed)
                counts["documents"] += 1
                counts["asked"] += bool(made)
                counts["questions"] += len(made)
                yield from made
                show(counts["documents"], 0)
        if not counts["documents"]:
            raise RetgenError("there are no documents to ask about", where=corpus, mend="Check the input")

    with skipping(skip_bad) as skipped:
        write_triplets(out, asked(documents_of(corpus, skipped)))
    return counts


def _sampled(
    corpus: str,
    out: Path,
    sampling: Sampling,
    model: str,
    preset: str,
    cross_encoder: str | None,
    device: str,
    *,
    resume: bool,
    skip_bad: bool,
) -> dict[str, int]:
    from retgen.cli.training_progress import quiet_transformers
    from retgen.connect.sampled import write_sampled_queries
    from retgen.models.query_generator import QueryGenerator

    quiet_transformers()
    generator = QueryGenerator.from_pretrained(model, preset, device=device)
    scorer = None
    if cross_encoder is not None:
        from retgen.rerank.cross_encoder import CrossEncoder

        scorer = CrossEncoder.from_pretrained(cross_encoder, device=device).predict
    made_by = {
        "generator": generator.settings,
        "generator_digest": _digest(model),
        "cross_encoder": cross_encoder,
        "cross_encoder_digest": None if cross_encoder is None else _digest(cross_encoder),
    }
    with skipping(skip_bad) as skipped, progress_bars() as step:
        show = step("pseudo queries")
        written = write_sampled_queries(
            out,
            documents_of(corpus, skipped),
            generator,
            sampling,
            scorer=scorer,
            made_by=made_by,
            resume=resume,
            progress=lambda done: show(done, 0),
        )
    return {
        "documents": written.documents,
        "asked": written.asked,
        "questions": written.queries,
        "dropped": written.dropped,
    }


def _digest(model: str) -> str | None:
    """What tells a folder that retgen saved from another that takes its place."""
    from retgen.store.manifest import MANIFEST, read_manifest

    folder = Path(model)
    return read_manifest(folder).digest if (folder / MANIFEST).exists() else None
