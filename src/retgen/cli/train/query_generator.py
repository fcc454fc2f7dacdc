"""``retgen train query-generator``: p(query | passage) for a collection, with or without labels."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import documents_of, is_index
from retgen.cli.options import AsJson, CorpusOrIndex, Device, ModelOut, Overwrite, Resume, Seed, SkipBad
from retgen.cli.recipe_progress import duration
from retgen.cli.running import counted, messages, results, skipping, write_json
from retgen.cli.train.places import check_free
from retgen.cli.train.preparing import check_extra, triplets_of, usual_source
from retgen.cli.training_progress import quiet_transformers, training_progress
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.train.generator_collection import GeneratorPlan, TrainedGenerator
    from retgen.train.questions import CollectionQuestions

INTERRUPTED = 130
_STEPS = 300
_DEV_QUESTIONS = 100


def query_generator(
    corpus: CorpusOrIndex,
    out: ModelOut,
    questions: Annotated[
        str | None,
        typer.Option(
            help="Questions with their documents: JSONL, SQuAD, DPR, MS MARCO QnA; with --qrels any queries. "
            "None: made up."
        ),
    ] = None,
    qrels: Annotated[
        str | None, typer.Option(help="Judgements of the questions: TREC or BEIR.", metavar="FILE")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="A folder or hub id of any encoder-decoder (T5, BART, or what this command made before); warm:minilm "
            "or warm:<BERT-like encoder>; scratch:tiny, scratch:mini or scratch:small "
            "[warm:minilm where its package is installed, else scratch:mini].",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="How passages and queries are written: jpr, jpr-beir, upr, authors-code…")
    ] = "jpr",
    steps: Annotated[int | None, typer.Option(help=f"Of training [{_STEPS}, unless --epochs is given].", min=1)] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the questions, in place of --steps.")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions a step.", min=1)] = 16,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of weights trained before [what suits the source].")
    ] = None,
    fresh_learning_rate: Annotated[
        float | None, typer.Option(help="Of a decoder that starts at random [what suits it].")
    ] = None,
    copy_head: Annotated[
        bool | None,
        typer.Option(
            "--copy-head/--no-copy-head",
            help="warm: only; copy words of the passage, which the paper's model cannot [yes].",
        ),
    ] = None,
    frozen_encoder: Annotated[
        bool | None,
        typer.Option("--frozen-encoder/--no-frozen-encoder", help="warm: only; train the fresh decoder alone [yes]."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a model to write the queries a passage answers, and measure it on held-out questions.

    It re-ranks by how likely a query is given a passage (JPR's generator), and makes up questions. Without --questions
    it trains on questions made from the documents' own sentences. Four fifths are trained on (a tenth of them, at most
    100, is measured meanwhile instead), the rest is held out. Stopped, it goes on when the same command is given again:
    checkpoints are kept beside the model, in MODEL.training/, until it is done.

    Examples:

      retgen train query-generator my-index --out my-generator

      retgen train query-generator corpus.jsonl --questions train.jsonl --source t5-base --epochs 2 --batch-size 64
        --out my-generator

      retgen train query-generator scifact --questions scifact --qrels scifact/qrels/train.tsv --out my-generator

    Then: retgen rerank run.trec --corpus my-index --queries queries.jsonl --with query-likelihood
      --generator my-generator --out reranked.trec
    """
    if steps is not None and epochs is not None:
        raise UsageError("a training is as long as its steps or its epochs say", where="--steps", mend="Give one")
    if epochs is not None and epochs <= 0:
        raise UsageError(f"nothing is learned in {epochs} epochs", where="--epochs", mend="Give more than 0")
    check_extra()

    from retgen.models.generator_sources import KIND, save_generator
    from retgen.train.collection_plan import remove_training
    from retgen.train.generator_collection import GeneratorPlan, train_generator_on_collection
    from retgen.train.questions import collection_questions

    quiet_transformers()
    check_free(out, KIND, overwrite=overwrite)
    length = 0 if epochs is not None else steps or _STEPS
    plan = GeneratorPlan(
        source or usual_source(),
        preset=preset,
        steps=length,
        epochs=epochs or 1.0,
        batch_size=batch_size,
        learning_rate=learning_rate,
        fresh_learning_rate=fresh_learning_rate,
        copy_head=copy_head,
        frozen_encoder=frozen_encoder,
        save_steps=max(5, min(50, (length or _STEPS) // 4)),
        seed=seed,
    )
    place = out.with_name(f"{out.name}.training")
    if not resume:
        remove_training(place)
    documents = _corpus(corpus, skip_bad)
    asked = collection_questions(
        documents,
        triplets_of(questions, qrels, skip_bad=skip_bad),
        per_document=plan.pseudo_per_document,
        seed=seed,
        dev_questions=_DEV_QUESTIONS,
    )
    start = time.monotonic()
    _introduce(plan, source, documents, asked, resumes=place.exists())
    try:
        with training_progress(messages()) as listen:
            made = train_generator_on_collection(documents, asked, place, plan=plan, device=device, progress=listen)
        save_generator(
            made.generator.model,
            made.generator.tokenizer,
            out,
            made_by={**asdict(plan), "corpus": documents.fingerprint, "pseudo": asked.pseudo, "steps_done": made.steps},
            overwrite=overwrite,
        )
        remove_training(place)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is done is kept in {place}: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - start
    if as_json:
        write_json(_as_json(out, plan, documents, asked, made, seconds))
        return
    results().print(_sentence(asked, made), markup=False)
    typer.echo(f"{out}: {made.steps} steps in {duration(seconds)}", err=True)
    typer.echo(
        f"Re-rank with it: retgen rerank RUN --with query-likelihood --generator {out}\n"
        f"Make up questions: retgen pseudo-queries {corpus} --generator {out} --out questions.jsonl",
        err=True,
    )


def _corpus(path: str, skip_bad: bool) -> Corpus:
    if is_index(path):
        from retgen.index import Index

        return Index.open(path).corpus
    from retgen.corpus import Corpus

    with skipping(skip_bad) as skipped:
        return Corpus.from_documents(documents_of(path, skipped))


def _introduce(
    plan: GeneratorPlan, source: str | None, corpus: Corpus, asked: CollectionQuestions, *, resumes: bool
) -> None:
    taken = plan.source if source is not None else f"{plan.source}, as no --source was given"
    kind = "pseudo questions made from them" if asked.pseudo else "questions"
    dev = f"{len(asked.dev)} to measure meanwhile, " if asked.dev else ""
    length = counted(plan.steps, "step", "steps") if plan.steps else f"{plan.epochs:g} epochs"
    typer.echo(
        f"{len(corpus)} passages; {len(asked.train)} {kind} to train on, {dev}{len(asked.held_out)} held out\n"
        f"Query generator from {taken}: {length} of {plan.batch_size}"
        + (", going on where it was stopped" if resumes else ""),
        err=True,
    )


def _sentence(asked: CollectionQuestions, made: TrainedGenerator) -> str:
    if made.perplexities is None:
        return "No question was held out, so that nothing was measured"
    before, after = made.perplexities
    kind = "held-out pseudo question" if asked.pseudo else "held-out question"
    return (
        f"Perplexity of {counted(made.held_out, kind, kind + 's')} given the passage: "
        f"{before:.4g} before training, {after:.4g} after"
    )


def _as_json(
    out: Path,
    plan: GeneratorPlan,
    corpus: Corpus,
    asked: CollectionQuestions,
    made: TrainedGenerator,
    seconds: float,
) -> dict[str, object]:
    perplexities = made.perplexities
    return {
        "model": str(out),
        "options": asdict(plan),
        "passages": len(corpus),
        "fingerprint": corpus.fingerprint,
        "pseudo": asked.pseudo,
        "trained_on": len(asked.train),
        "dev": len(asked.dev),
        "held_out": made.held_out,
        "steps": made.steps,
        "log_likelihood": {"before": made.before, "after": made.after},
        "perplexity": None if perplexities is None else {"before": perplexities[0], "after": perplexities[1]},
        "seconds": round(seconds, 3),
    }
