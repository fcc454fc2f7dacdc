"""``retgen train bi-encoder``: a dense retriever for a collection, with or without labels."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import corpus_and_bm25
from retgen.cli.options import AsJson, CorpusOrIndex, Device, ModelOut, Overwrite, Resume, Seed, SkipBad
from retgen.cli.recipe_progress import duration
from retgen.cli.running import counted, messages, results, write_json
from retgen.cli.train.gains_report import gains_table
from retgen.cli.train.places import check_free
from retgen.cli.train.preparing import check_extra, triplets_of
from retgen.cli.train.processes import number_of_processes
from retgen.cli.training_progress import quiet_transformers, training_progress
from retgen.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.train.bi_encoder import BiEncoderTraining
    from retgen.train.dense_collection import DensePlan
    from retgen.train.questions import CollectionQuestions

INTERRUPTED = 130
_DEV_QUESTIONS = 100


def bi_encoder(
    corpus: CorpusOrIndex,
    out: ModelOut,
    questions: Annotated[
        str | None,
        typer.Option(
            help="Questions with documents or answers: JSONL, SQuAD, DPR, MS MARCO QnA; with --qrels any queries. "
            "None: made up.",
            metavar="FILE",
        ),
    ] = None,
    qrels: Annotated[
        str | None, typer.Option(help="Judgements of the questions: TREC or BEIR.", metavar="FILE")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="minilm (the packaged one), a folder or hub id of a bi-encoder; warm:<BERT-like encoder>, e.g. "
            "warm:bert-base-uncased, the papers' way; scratch:tiny, scratch:mini or scratch:small "
            "[minilm where its package is installed, else scratch:mini]."
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(help="Of ANCE, behind DPR: search with the model itself, and train on what it confuses.", min=0),
    ] = 0,
    round_steps: Annotated[int, typer.Option(help="Of each round; 0 shares out what --steps says.", min=0)] = 0,
    negatives: Annotated[
        int, typer.Option(help="Hard negatives of a question; the batch's other passages are negatives too.", min=0)
    ] = 1,
    top: Annotated[int, typer.Option(help="BM25's best so many are what they are drawn from.", min=1)] = 20,
    own_top: Annotated[int, typer.Option(help="In ANCE's rounds, the model's own best so many.", min=1)] = 100,
    steps: Annotated[int, typer.Option(help="0 trains for --epochs.", min=0)] = 0,
    epochs: Annotated[float, typer.Option(help="Passes over the questions (DPR: 40).")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Questions a step (DPR: 128).", min=1)] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="[what suits the source]", show_default=False)] = None,
    towers: Annotated[int, typer.Option(help="2 trains an encoder for questions and one for documents, as DPR.")] = 1,
    pooling: Annotated[str, typer.Option(help="Of warm: and scratch: sources: mean, or cls as DPR and ANCE.")] = "mean",
    similarity: Annotated[
        str, typer.Option(help="Of warm: and scratch: sources: cosine, or dot as DPR and ANCE.")
    ] = "cosine",
    max_length: Annotated[int, typer.Option(help="Tokens of a text; 0 is the source's own.", min=0)] = 0,
    frozen_layers: Annotated[int, typer.Option(help="Lowest layers that are not trained: quicker.", min=0)] = 0,
    keep_best: Annotated[
        bool, typer.Option("--keep-best/--keep-last", help="End with what did best on dev questions, or the last.")
    ] = False,
    held_out: Annotated[int, typer.Option(help="Held-out questions that are measured at most.", min=0)] = 500,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a bi-encoder for dense retrieval (DPR; with --rounds ANCE), and measure it against BM25.

    Without --questions it trains on questions made from the documents' own sentences. Four fifths are trained on (a
    tenth of these, at most 100, is asked while training goes on instead, in a pool of their candidates), the rest is
    for measuring, over all documents. Stopped, it goes on when the same command is given again: checkpoints are kept
    in MODEL.training/ until it is done.

    Examples:

      retgen train bi-encoder my-index --out my-bi-encoder

      retgen train bi-encoder corpus.jsonl --questions train.jsonl --rounds 3 --out my-ance

      retgen train bi-encoder my-index --questions nq-train.json --source warm:bert-base-uncased --towers 2
        --pooling cls --similarity dot --epochs 40 --batch-size 128 --out dpr

    Then: retgen index corpus.jsonl --out my-index --dense my-bi-encoder --dense-index hnsw
      retgen search my-index "who discovered oxygen?" --with dense
    """
    if number_of_processes() > 1:
        raise UsageError(
            "a bi-encoder is trained by one process here", mend="Start it without torchrun; it takes one GPU"
        )
    check_extra()
    from retgen.train.cross_encoder import require_extras

    require_extras()
    from retgen.dense.encoder import KIND, save_encoder
    from retgen.train.bi_encoder import BiEncoderTraining
    from retgen.train.collection_plan import remove_training
    from retgen.train.dense_collection import DensePlan, dense_gains, train_bi_encoder_on_collection
    from retgen.train.improvement import sentence
    from retgen.train.questions import collection_questions

    quiet_transformers()
    check_free(out, KIND, overwrite=overwrite)
    chosen = source or _usual_source()
    training = BiEncoderTraining(
        max_steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        negatives=negatives,
        learning_rate=_usual_rate(chosen) if learning_rate is None else learning_rate,
        frozen_layers=frozen_layers,
        seed=seed,
    )
    plan = DensePlan(
        chosen,
        training,
        pooling=pooling,  # type: ignore[arg-type]  # checked there
        similarity=similarity,  # type: ignore[arg-type]
        towers=towers,
        max_length=max_length,
        depth=top,
        rounds=rounds,
        round_steps=round_steps,
        own_depth=own_top,
    )
    place = out.with_name(f"{out.name}.training")
    if not resume:
        remove_training(place)
    documents, retriever = corpus_and_bm25(corpus, skip_bad=skip_bad)
    asked = collection_questions(
        documents, triplets_of(questions, qrels, skip_bad=skip_bad), seed=seed, dev_questions=_DEV_QUESTIONS
    )
    plan = replace(plan, training=_measured(training, asked, keep_best=keep_best))
    _introduce(plan, documents, asked, resumes=place.exists())
    start = time.monotonic()
    try:
        with training_progress(messages()) as listen:
            made = train_bi_encoder_on_collection(
                documents, retriever, asked, place, plan=plan, device=device, progress=listen
            )
            listen("Measure", 0, 0, "")
            gains = dense_gains(made.encoder, documents, retriever, asked.held_out, held_out)
        about = {**asdict(plan), "corpus": documents.fingerprint, "pseudo": asked.pseudo, "steps_done": made.steps}
        save_encoder(made.encoder, out, made_by=about, overwrite=overwrite)
        remove_training(place)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is done is kept in {place}: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - start
    if as_json:
        write_json(
            {
                "model": str(out),
                "options": asdict(plan),
                "passages": len(documents),
                "pseudo": asked.pseudo,
                "trained_on": len(asked.train),
                "dev": len(asked.dev),
                "steps": made.steps,
                "measures": {name: {**asdict(gain), "verdict": gain.verdict} for name, gain in gains.items()},
                "summary": sentence(gains, "BM25"),
                "seconds": round(seconds, 3),
            }
        )
        return
    if gains:
        table = gains_table(asked, gains, "BM25", "bi-encoder", than="BM25", also="; all documents searched")
        sys.stdout.write(table.to_markdown() + "\n")
    results().print(sentence(gains, "BM25"), markup=False)
    typer.echo(
        f"{out}: {made.steps} steps, trained and measured in {duration(seconds)}\n"
        f"Use it: retgen index {corpus} --out INDEX --dense {out}; then retgen search INDEX QUESTION --with dense",
        err=True,
    )


def _usual_source() -> str:
    from retgen.dense.encoder import PACKAGED, packaged_folder

    try:
        packaged_folder()
    except MissingExtraError:
        return "scratch:mini"
    return PACKAGED


def _usual_rate(source: str) -> float:
    from retgen.models.sources import SCRATCH, WARM

    if source.startswith(SCRATCH):
        return 5e-4
    # DPR's own for a plain encoder; the small packaged model can bear more.
    return 2e-5 if source.startswith(WARM) else 5e-5


def _measured(training: BiEncoderTraining, asked: CollectionQuestions, *, keep_best: bool) -> BiEncoderTraining:
    """The options with checkpoints and dev measures at every quarter of the training."""
    if keep_best and not asked.dev:
        raise UsageError("the best weights cannot be told without dev questions", mend="Give more questions")
    steps = training.max_steps or max(1, round(training.epochs * len(asked.train) / training.batch_size))
    every = max(1, steps // 4)
    return replace(training, eval_steps=every if asked.dev else 0, save_steps=min(every, 100), keep_best=keep_best)


def _introduce(plan: DensePlan, corpus: Corpus, asked: CollectionQuestions, *, resumes: bool) -> None:
    kind = "pseudo questions made from them" if asked.pseudo else "questions"
    dev = f"{len(asked.dev)} to ask meanwhile, " if asked.dev else ""
    training = plan.training
    length = counted(training.max_steps, "step", "steps") if training.max_steps else f"{training.epochs:g} epochs"
    ance = f", then {counted(plan.rounds, 'round', 'rounds')} of ANCE" if plan.rounds else ""
    typer.echo(
        f"{counted(len(corpus), 'passage', 'passages')}; {len(asked.train)} {kind} to train on, {dev}"
        f"{len(asked.held_out)} held out\n"
        f"Bi-encoder from {plan.source}: {length} of {training.batch_size}{ance}"
        + (", going on where it was stopped" if resumes else ""),
        err=True,
    )
