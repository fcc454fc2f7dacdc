"""``retgen train joint``: fine-tune a cross-encoder and a query generator towards each other (JPR-FT)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import corpus_and_bm25
from retgen.cli.options import AsJson, CorpusOrIndex, Device, Resume, Seed, SkipBad
from retgen.cli.recipe_progress import duration
from retgen.cli.running import counted, messages, results, write_json
from retgen.cli.train.places import check_free, make_checkpoints, remove_checkpoints
from retgen.cli.train.preparing import triplets_of
from retgen.cli.train.processes import leads, number_of_processes, own_device, wait_for_others
from retgen.cli.training_progress import quiet_transformers, training_progress
from retgen.errors import MissingExtraError

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.train.joint import JointRecord, JointTraining
    from retgen.train.joint_collection import JointCandidates

INTERRUPTED = 130
CROSS_ENCODER, GENERATOR = "cross-encoder", "query-generator"
_TRAINING = "joint training"


def joint(
    corpus: CorpusOrIndex,
    questions: Annotated[
        str,
        typer.Option(
            help="Questions with documents or answers: JSONL, SQuAD, DPR, MS MARCO QnA; with --qrels any queries.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    cross_encoder: Annotated[
        str, typer.Option(help="A cross-encoder: folder or hub id.", metavar="MODEL", show_default=False)
    ],
    generator: Annotated[
        str,
        typer.Option(
            help="A query generator: folder or hub id of an encoder-decoder.", metavar="MODEL", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The folder to make, with cross-encoder/ and query-generator/ in it.",
            show_default=False,
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(help="What makes a candidate relevant: gold (a question's documents) or has-answer (as DPR)."),
    ] = "gold",
    qrels: Annotated[
        str | None, typer.Option(help="Judgements of the questions: TREC or BEIR.", metavar="FILE")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Weight of the matching loss; 0 trains each model alone.")] = 5e-4,
    generator_weight: Annotated[
        float, typer.Option(help="λ of the fused order that dev is measured in, 0 to 1.")
    ] = 0.5,
    learning_rate: Annotated[float, typer.Option(help="Of the cross-encoder.")] = 1e-5,
    generator_learning_rate: Annotated[float, typer.Option(help="Of the generator.")] = 2e-5,
    candidates: Annotated[int, typer.Option(help="Of a question in a step.", min=2)] = 24,
    negatives: Annotated[str, typer.Option(help="Which of the others are drawn: random or hardest.")] = "random",
    objective: Annotated[str, typer.Option(help="Of the cross-encoder: binary (the paper's) or ranking.")] = "binary",
    top: Annotated[int, typer.Option(help="BM25's best so many are what candidates are drawn from.", min=2)] = 32,
    steps: Annotated[int, typer.Option(help="0 trains for --epochs.", min=0)] = 0,
    epochs: Annotated[float, typer.Option(help="Passes over the questions.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Questions a step.", min=1)] = 4,
    pairs_at_once: Annotated[
        int, typer.Option(help="Keep memory to so many pairs at once, for more computing; 0 keeps all.", min=0)
    ] = 0,
    preset: Annotated[str, typer.Option(help="How the generator's inputs are written: jpr, jpr-beir, …")] = "jpr",
    keep_best: Annotated[
        bool, typer.Option("--keep-best/--keep-last", help="End with the weights that did best on dev, or the last.")
    ] = True,
    dev_questions: Annotated[int, typer.Option(help="Measured at most; 0 measures none.", min=0)] = 300,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace models that stand there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune both models of JPR with three losses: relevance, generation, and how far they are apart.

    Both should have been trained alone before. Questions are split by the hash of their ids: four fifths are trained
    on, a tenth is dev, and the test tenth is left alone. Dev says how far apart the models are (KL) and how often a
    relevant passage is among the first 1, 5 and 10 of the fused order, before and after. Stopped, it goes on when the
    same command is given again: checkpoints are kept in FOLDER.training/ until it is done. On several GPUs:
    torchrun --nproc-per-node 4 -m retgen train joint …

    Examples:

      retgen train joint my-index --questions train.jsonl --cross-encoder my-ce --generator my-generator --out my-jpr

      retgen train joint scifact --questions scifact --qrels scifact/qrels/train.tsv
        --cross-encoder my-ce --generator my-generator --preset jpr-beir --out my-jpr

    Then: retgen rerank run.trec --corpus my-index --queries queries.jsonl --with jpr
      --cross-encoder my-jpr/cross-encoder --generator my-jpr/query-generator --out jpr.trec
    """
    _check_extra()
    quiet_transformers()
    from retgen.models import cross_encoder_sources, generator_sources
    from retgen.train.joint import JointTraining
    from retgen.train.joint_collection import joint_candidates

    options = JointTraining(
        max_steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        generator_learning_rate=generator_learning_rate,
        alpha=alpha,
        objective=objective,
        candidates_per_question=candidates,
        negatives=negatives,
        generator_weight=generator_weight,
        pairs_at_once=pairs_at_once,
        preset=preset,
        seed=seed,
    )
    place = out.with_name(f"{out.name}.training")
    if leads():
        check_free(out / CROSS_ENCODER, cross_encoder_sources.KIND, overwrite=overwrite)
        check_free(out / GENERATOR, generator_sources.KIND, overwrite=overwrite)
        if not resume:
            remove_checkpoints(place, _TRAINING)
    documents, retriever = corpus_and_bm25(corpus, skip_bad=skip_bad)
    start = time.monotonic()
    with training_progress(messages()) as listen:
        asked = joint_candidates(
            documents,
            retriever,
            triplets_of(questions, qrels, skip_bad=skip_bad) or [],
            labels=labels,
            top_n=top,
            dev_questions=dev_questions,
            progress=lambda done, total: listen("Label candidates", done, total, ""),
        )
    _introduce(asked)
    options = _with_dev(options, asked, keep_best=keep_best)
    record = _train_and_save(
        cross_encoder, generator, asked, documents, place, out, options, device=device, overwrite=overwrite
    )
    if not leads():
        return
    seconds = time.monotonic() - start
    if as_json:
        write_json(_as_json(out, options, asked, record, seconds))
        return
    for line in _told(record):
        results().print(line, markup=False)
    typer.echo(
        f"{out}: {record.steps} steps in {duration(seconds)}\n"
        f"Use it: retgen rerank RUN --with jpr --cross-encoder {out / CROSS_ENCODER} --generator {out / GENERATOR}",
        err=True,
    )


def _train_and_save(
    cross_encoder: str,
    generator: str,
    asked: JointCandidates,
    documents: Corpus,
    place: Path,
    out: Path,
    options: JointTraining,
    *,
    device: str,
    overwrite: bool,
) -> JointRecord:
    import torch

    from retgen.devices import pick_device
    from retgen.models.cross_encoder_sources import load_cross_encoder
    from retgen.models.generator_sources import load_generator, save_generator
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.train.joint import train_joint

    torch.manual_seed(options.seed)
    reader, pair_tokenizer = load_cross_encoder(cross_encoder, texts=(passage.contents for passage in documents))
    writer, tokenizer = load_generator(generator, texts=(passage.contents for passage in documents))
    reader.to(pick_device(own_device(device)))  # type: ignore[arg-type]
    make_checkpoints(place, _TRAINING)
    try:
        with training_progress(messages()) as listen:
            record = train_joint(
                reader,
                pair_tokenizer,
                writer,
                tokenizer,
                asked.train,
                documents,
                place,
                options=options,
                dev=asked.dev or None,
                progress=lambda step, steps, said: listen("Train", step, steps, said),
            )
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is done is kept in {place}: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if leads():
        about = {"training": "joint", "cross_encoder": cross_encoder, "generator": generator}
        made_by = {**about, "corpus": documents.fingerprint, **asdict(options)}
        CrossEncoder(reader, pair_tokenizer, device=str(reader.device), dtype="fp32").save(
            out / CROSS_ENCODER, made_by=made_by, overwrite=overwrite
        )
        save_generator(writer, tokenizer, out / GENERATOR, made_by=made_by, overwrite=overwrite)
    wait_for_others()
    if leads():
        remove_checkpoints(place, _TRAINING)
    return record


def _with_dev(options: JointTraining, asked: JointCandidates, *, keep_best: bool) -> JointTraining:
    batch = options.batch_size * number_of_processes()
    total = options.max_steps or max(1, round(options.epochs * -(-len(asked.train) // batch)))
    every = max(1, total // 4)
    return replace(
        options,
        eval_steps=every if asked.dev else 0,
        save_steps=min(every, 200),
        keep_best=keep_best and bool(asked.dev),
    )


def _introduce(asked: JointCandidates) -> None:
    if leads():
        dev = counted(len(asked.dev), "dev question", "dev questions") if asked.dev else "no dev questions"
        typer.echo(f"{asked.statistics}; {dev}", err=True)


def _told(record: JointRecord) -> Sequence[str]:
    if not record.after:
        return ["No dev questions: nothing was measured"]
    names = {"kl": "KL (nats)"}
    return [
        f"{names.get(name, name):<11} {record.before[name]:.4f} → {value:.4f}"
        for name, value in record.after.items()
        if name != "score"
    ]


def _as_json(
    out: Path, options: JointTraining, asked: JointCandidates, record: JointRecord, seconds: float
) -> Mapping[str, object]:
    return {
        "cross_encoder": str(out / CROSS_ENCODER),
        "generator": str(out / GENERATOR),
        "options": asdict(options),
        "candidates": asdict(asked.statistics),
        "dev_questions": len(asked.dev),
        "steps": record.steps,
        "before": dict(record.before),
        "after": dict(record.after),
        "seconds": round(seconds, 3),
    }


def _check_extra() -> None:
    from importlib.util import find_spec

    if find_spec("accelerate") is None:
        raise MissingExtraError("accelerate", "train")
