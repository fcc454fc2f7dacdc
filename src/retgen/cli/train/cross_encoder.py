"""``retgen train cross-encoder``: a re-ranker for a collection, with or without labels."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import corpus_and_bm25
from retgen.cli.options import AsJson, CorpusOrIndex, Device, ModelOut, Overwrite, Resume, Seed, SkipBad
from retgen.cli.recipe_progress import duration
from retgen.cli.running import counted, messages, results, write_json
from retgen.cli.train.gains_report import as_object, gains_table
from retgen.cli.train.places import check_free, make_checkpoints, remove_checkpoints
from retgen.cli.train.preparing import triplets_of, usual_source
from retgen.cli.train.processes import leads, own_device, wait_for_others
from retgen.cli.training_progress import quiet_transformers, training_progress
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.cli.training_progress import Listener
    from retgen.corpus import Corpus
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.train.cross_encoder import CrossEncoderTraining
    from retgen.train.questions import CollectionQuestions
    from retgen.train.rerank_collection import RerankingQuestions
    from retgen.train.resumable import TrainingRecord

INTERRUPTED = 130
_DEV_QUESTIONS = 100
_TRAINING = "cross-encoder training"
_LOCAL_JOIN = {"warm:minilm": 5}
"""Of models that a laptop shall train: the layer up to which they read question and passage apart."""


def cross_encoder(
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
    labels: Annotated[
        str,
        typer.Option(help="What makes a candidate relevant: gold (a question's documents) or has-answer (as DPR)."),
    ] = "gold",
    source: Annotated[
        str | None,
        typer.Option(
            help="A cross-encoder's folder or hub id; warm:minilm or warm:<BERT-like encoder>; scratch:tiny, "
            "scratch:mini or scratch:small [warm:minilm where its package is installed, else scratch:mini]."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="BM25's best so many are a question's candidates.", min=2)] = 32,
    negatives: Annotated[
        int, typer.Option(help="Of a question in an epoch, drawn anew for each; 0 takes all, as the paper does.", min=0)
    ] = 7,
    objective: Annotated[str, typer.Option(help="binary (the paper's) or ranking.")] = "binary",
    steps: Annotated[int, typer.Option(help="0 trains for --epochs.", min=0)] = 0,
    epochs: Annotated[float, typer.Option(help="Passes over the questions.")] = 2.0,
    batch_size: Annotated[int, typer.Option(help="Pairs a step (the paper: 128).", min=1)] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="[what suits the source]", show_default=False)] = None,
    join_layer: Annotated[
        int | None,
        typer.Option(
            help="Of a warm: BERT: up to this layer it reads question and passage apart, frozen, so that a passage is "
            "read once; 0 joins them from the start. [5 of warm:minilm, else 0]",
            min=0,
            show_default=False,
        ),
    ] = None,
    match_marks: Annotated[
        bool | None,
        typer.Option(
            help="Mark the words that question and passage share: learnt from far fewer questions, but only retgen "
            "reads such models rightly. [of warm:minilm and scratch: sources]",
            show_default=False,
        ),
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens of a pair; the passage is cut.", min=16)] = 512,
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
    """Train a cross-encoder on BM25's candidates, and measure the order it gives them against BM25's.

    Without --questions it trains on questions made from the documents' own sentences. Four fifths are trained on (a
    tenth of these, at most 100, is asked while training goes on instead), the rest is for measuring. Stopped, it goes
    on when the same command is given again: checkpoints are kept in MODEL.training/ until it is done. On several GPUs:
    torchrun --nproc-per-node 4 -m retgen train cross-encoder …

    Examples:

      retgen train cross-encoder my-index --out my-cross-encoder

      retgen train cross-encoder corpus.jsonl --questions train.jsonl --labels has-answer --steps 500 --out my-model

      retgen train cross-encoder scifact --questions scifact --qrels scifact/qrels/train.tsv --out my-model

      retgen train cross-encoder my-index --questions train.json --source cross-encoder/ms-marco-MiniLM-L6-v2
        --negatives 0 --batch-size 128 --out paper

    Then: retgen rerank run.trec --corpus my-index --queries queries.jsonl --with cross-encoder
      --cross-encoder my-cross-encoder --out reranked.trec
    """
    from retgen.train.cross_encoder import CrossEncoderTraining, require_extras

    require_extras()
    from retgen.models.cross_encoder_sources import KIND
    from retgen.train.improvement import sentence
    from retgen.train.questions import collection_questions
    from retgen.train.rerank_collection import gained, reranking_questions

    quiet_transformers()
    chosen = source or usual_source()
    options = CrossEncoderTraining(
        objective=objective,
        max_steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        negatives=negatives or None,
        learning_rate=_usual_rate(chosen) if learning_rate is None else learning_rate,
        seed=seed,
    )
    place = out.with_name(f"{out.name}.training")
    if leads():
        check_free(out, KIND, overwrite=overwrite)
        if not resume:
            remove_checkpoints(place, _TRAINING)
    documents, retriever = corpus_and_bm25(corpus, skip_bad=skip_bad)
    asked = collection_questions(
        documents, triplets_of(questions, qrels, skip_bad=skip_bad), seed=seed, dev_questions=_DEV_QUESTIONS
    )
    start = time.monotonic()
    try:
        with training_progress(messages()) as listen:
            found = reranking_questions(
                documents,
                retriever,
                asked,
                labels=labels,
                top_n=top,
                most_held_out=held_out,
                progress=lambda done, total: listen("Label candidates", done, total, ""),
            )
            _introduce(chosen, documents, asked, found, resumes=place.exists())
            options = _with_dev(options, found, keep_best=keep_best)
            joined = _LOCAL_JOIN.get(chosen, 0) if join_layer is None else join_layer
            marked = _usual_marks(chosen, match_marks)
            model = _untrained(chosen, documents, max_length, seed, device, joined, marked)
            record = _trained(model, found, documents, place, options, listen)
            if not leads():
                wait_for_others()
                return
            gains = gained(model, found.held_out)
        about = {"source": chosen, "labels": labels, "top": top, "corpus": documents.fingerprint, **asdict(options)}
        model.save(out, made_by=about, overwrite=overwrite)
        wait_for_others()
        remove_checkpoints(place, _TRAINING)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is done is kept in {place}: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - start
    if as_json:
        write_json(as_object(out, chosen, options, asked, found, record, gains, seconds))
        return
    if gains:
        table = gains_table(asked, gains, "BM25", "cross-encoder", than="BM25's order", also=f"; BM25's top {top}")
        sys.stdout.write(table.to_markdown() + "\n")
    results().print(sentence(gains, "BM25"), markup=False)
    typer.echo(
        f"{out}: {record.steps} steps, trained and measured in {duration(seconds)}\n"
        f"Use it: retgen rerank RUN --corpus CORPUS --queries FILE --with cross-encoder --cross-encoder {out}",
        err=True,
    )


def _untrained(
    source: str, documents: Corpus, max_length: int, seed: int, device: str, join_layer: int, match_marks: bool
) -> CrossEncoder:
    import torch

    from retgen.models.cross_encoder_sources import load_cross_encoder
    from retgen.rerank.cross_encoder import CrossEncoder

    torch.manual_seed(seed)
    model, tokenizer = load_cross_encoder(
        source,
        texts=(document.contents for document in documents),
        join_layer=join_layer or None,
        match_marks=match_marks,
    )
    return CrossEncoder(model, tokenizer, max_length=max_length, device=own_device(device), dtype="fp32")


def _trained(
    model: CrossEncoder,
    found: RerankingQuestions,
    documents: Corpus,
    place: Path,
    options: CrossEncoderTraining,
    listen: Listener,
) -> TrainingRecord:
    from retgen.train.cross_encoder import train_cross_encoder

    make_checkpoints(place, _TRAINING)
    return train_cross_encoder(
        model,
        found.train,
        documents,
        place,
        options=options,
        dev=found.dev,
        progress=lambda step, steps, said: listen("Train", step, steps, said),
    )


def _usual_rate(source: str) -> float:
    from retgen.models.sources import SCRATCH, WARM

    if source in _LOCAL_JOIN or source.startswith(SCRATCH):
        return 5e-4
    return 1e-4 if source.startswith(WARM) else 5e-5


def _usual_marks(source: str, wanted: bool | None) -> bool:
    from retgen.models.sources import SCRATCH

    return source in _LOCAL_JOIN or source.startswith(SCRATCH) if wanted is None else wanted


def _with_dev(options: CrossEncoderTraining, found: RerankingQuestions, *, keep_best: bool) -> CrossEncoderTraining:
    from retgen.train.pair_stream import RANKING

    if keep_best and found.dev is None:
        raise UsageError("the best weights cannot be told without dev questions", mend="Give more questions")
    statistics = found.statistics
    pairs = statistics.positives + min(statistics.negatives, statistics.kept * (options.negatives or 10**9))
    if options.objective == RANKING:
        pairs = statistics.kept * max(map(len, found.train))
    steps = options.max_steps or max(1, round(options.epochs * pairs / options.batch_size))
    every = max(1, steps // 4)
    return replace(
        options,
        eval_steps=every if found.dev is not None else 0,
        save_steps=min(every, 100),
        keep_best=keep_best,
    )


def _introduce(
    source: str, corpus: Corpus, asked: CollectionQuestions, found: RerankingQuestions, *, resumes: bool
) -> None:
    if not leads():
        return
    kind = "pseudo questions made from them" if asked.pseudo else "questions"
    dev = f"{len(found.dev.queries)} to ask meanwhile, " if found.dev is not None else ""
    measured = len(found.held_out.queries) if found.held_out is not None else 0
    typer.echo(
        f"{counted(len(corpus), 'passage', 'passages')}; {kind}: {found.statistics}; {dev}{measured} held out\n"
        f"Cross-encoder from {source}" + (", going on where it was stopped" if resumes else ""),
        err=True,
    )
