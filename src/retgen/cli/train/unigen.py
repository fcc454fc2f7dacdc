"""``retgen train unigen``: a UniGen for a collection, with or without labels."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import corpus_and_bm25, is_index
from retgen.cli.options import AsJson, CorpusOrIndex, Device, ModelOut, Overwrite, Resume, Seed, SkipBad
from retgen.cli.recipe_progress import duration
from retgen.cli.running import counted, messages, results, write_json
from retgen.cli.train.gains_report import gains_table
from retgen.cli.train.places import check_free
from retgen.cli.train.preparing import check_extra, triplets_of, usual_source
from retgen.cli.training_progress import quiet_transformers, training_progress
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.docids.table import DocidTable
    from retgen.train.collection_plan import CollectionTraining
    from retgen.train.improvement import Gain
    from retgen.train.questions import CollectionQuestions

INTERRUPTED = 130
_DEV_QUESTIONS = 100


def unigen(
    corpus: CorpusOrIndex,
    out: ModelOut,
    questions: Annotated[
        str | None,
        typer.Option(help="Questions with answers and documents: JSONL, SQuAD, DPR or MS MARCO QnA. None: made up."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="scratch:tiny, scratch:mini or scratch:small; warm:minilm or warm:<BERT-like encoder>; a T5 folder or "
            "hub id [warm:minilm where its package is installed, else scratch:mini].",
        ),
    ] = None,
    docids: Annotated[
        str | None, typer.Option(help="What names a passage: lead (its first words) or title [lead].")
    ] = None,
    connectors: Annotated[
        Path | None,
        typer.Option(help="Name passages by these D-Connectors instead: what retgen connect --job summarise wrote."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Of training on questions with their contexts.", min=1)] = 300,
    pretraining_steps: Annotated[
        int, typer.Option(help="Before that, on questions beside their documents.", min=0)
    ] = 50,
    batch_size: Annotated[int, typer.Option(help="Examples a step.", min=1)] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of weights trained before [what suits the source].", min=0.0)
    ] = None,
    answer_strategy: Annotated[
        str, typer.Option(help="span (pointed at), constrained (written from the input's spans) or free (the paper).")
    ] = "span",
    eval_steps: Annotated[
        int | None,
        typer.Option(help="Ask dev questions every so many steps; 0 never [about 5 times].", min=0),
    ] = None,
    keep_best: Annotated[
        bool, typer.Option("--keep-best/--no-keep-best", help="End with what did best on dev questions, not the last.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = True,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a UniGen, and measure it against what needs no training: BM25 and the best extracted span.

    Without --questions it trains on questions made from the documents' own sentences. Four fifths are trained on, the
    rest is for measuring. A tenth of those four fifths, at most 100, is not trained on but asked while training goes
    on: retgen curves draws what that measured. It uses a copy head and a span head, which the paper has not, and
    BM25's contexts in place of the paper's Q-Connectors. Stopped, it goes on when the same command is given again:
    checkpoints are kept beside the model, in MODEL.training/, until it is done.

    Examples:

      retgen train unigen my-index --out my-model

      retgen train unigen corpus.jsonl --questions train.jsonl --source google/t5-v1_1-base --steps 3000 --out my-model

      retgen connect my-index --job summarise --out names.jsonl
      retgen train unigen my-index --connectors names.jsonl --out my-model

      retgen train unigen my-index --out best --eval-steps 50 --keep-best && retgen curves best --out dev.svg

      retgen train unigen my-index --out tiny-model --source scratch:tiny --steps 50 --json
    """
    if connectors is not None and docids is not None:
        raise UsageError("passages have one name", where="--docids", mend="Leave out --docids or --connectors")
    if docids not in (None, "lead", "title"):
        raise UsageError(f"passages cannot be named by their {docids!r}", where="--docids", mend="lead or title")
    check_extra()

    from retgen.connect.files import read_texts
    from retgen.generative.history import KIND
    from retgen.train.collection import measured, train_on_collection
    from retgen.train.collection_plan import CollectionTraining, remove_training
    from retgen.train.improvement import sentence
    from retgen.train.questions import collection_questions

    quiet_transformers()
    chosen = source or usual_source()
    check_free(out, KIND, overwrite=overwrite)
    options = CollectionTraining(
        chosen,
        docids="connector" if connectors is not None else docids or "lead",
        steps=steps,
        pretraining_steps=pretraining_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        answer_strategy=answer_strategy,
        save_steps=max(5, min(50, steps // 4)),
        eval_steps=eval_steps,
        keep_best=keep_best,
        seed=seed,
    )
    place = out.with_name(f"{out.name}.training")
    if not resume:
        remove_training(place)
    documents, retriever = corpus_and_bm25(corpus, skip_bad=skip_bad)
    asked = collection_questions(
        documents,
        triplets_of(questions, skip_bad=skip_bad),
        per_document=options.pseudo_per_document,
        seed=seed,
        dev_questions=_DEV_QUESTIONS if options.measured_every else 0,
    )
    texts = None
    if connectors is not None:
        texts = {doc_id: written.text for doc_id, written in read_texts(connectors).items()}
    start = time.monotonic()
    _introduce(options, source, documents, asked, resumes=place.exists())
    try:
        with training_progress(messages()) as listen:
            system = train_on_collection(
                documents,
                retriever,
                asked,
                place,
                options=options,
                connectors=texts,
                device=device,
                progress=listen,
            )
            found = measured(system, retriever, documents, asked, progress=listen)
        system.made_by = {**asdict(options), "corpus": documents.fingerprint, "pseudo": asked.pseudo}
        system.save(out, overwrite=overwrite)
        remove_training(place)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. What is done is kept in {place}: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - start
    docids_made = _docid_counts(system.table)
    typer.echo(_docids_told(docids_made), err=True)
    if as_json:
        write_json(_as_json(out, options, documents, asked, docids_made, found, seconds))
        return
    if found:
        sys.stdout.write(
            gains_table(asked, found, "BM25 + best span (no training)", "UniGen", than="without training").to_markdown()
            + "\n"
        )
    results().print(sentence(found), markup=False)
    typer.echo(f"{out}: trained and measured in {duration(seconds)}", err=True)
    where = corpus if is_index(corpus) else "INDEX"
    typer.echo(f'Ask it: retgen ask {where} "your question" --model {out}', err=True)


def _introduce(
    options: CollectionTraining,
    source: str | None,
    corpus: Corpus,
    asked: CollectionQuestions,
    *,
    resumes: bool,
) -> None:
    taken = options.source if source is not None else f"{options.source}, as no --source was given"
    kind = "pseudo questions made from them" if asked.pseudo else "questions"
    dev = f"{len(asked.dev)} to ask meanwhile, " if asked.dev else ""
    typer.echo(
        f"{len(corpus)} passages; {len(asked.train)} {kind} to train on, {dev}{len(asked.held_out)} held out\n"
        f"UniGen from {taken}: {options.pretraining_steps} + {options.steps} steps"
        + (", going on where it was stopped" if resumes else ""),
        err=True,
    )


def _docid_counts(table: DocidTable) -> dict[str, int]:
    """How many passages of a docid table share their docid with another, in how many groups, and were cut."""
    groups = table.collisions
    return {
        "documents": len(table),
        "sharing": sum(map(len, groups)),
        "groups": len(groups),
        "cut": table.make_up.cut,
    }


def _docids_told(counts: Mapping[str, int]) -> str:
    shared = "none shares one with another"
    if counts["sharing"]:
        # Passages of one docid are found together, in corpus order: no model can tell them apart.
        shared = f"{counts['sharing']} share one with another, in {counted(counts['groups'], 'group', 'groups')}"
    return f"Docids of {counted(counts['documents'], 'passage', 'passages')}: {shared}; {counts['cut']} cut"


def _as_json(
    out: Path,
    options: CollectionTraining,
    corpus: Corpus,
    asked: CollectionQuestions,
    docids_made: Mapping[str, int],
    found: Mapping[str, Gain],
    seconds: float,
) -> dict[str, object]:
    from retgen.train.improvement import sentence

    return {
        "model": str(out),
        "options": asdict(options),
        "passages": len(corpus),
        "fingerprint": corpus.fingerprint,
        "pseudo": asked.pseudo,
        "trained_on": len(asked.train),
        "dev": len(asked.dev),
        "held_out": len(asked.held_out),
        "docids": dict(docids_made),
        "measures": {name: {**asdict(gain), "verdict": gain.verdict} for name, gain in found.items()},
        "summary": sentence(found),
        "seconds": round(seconds, 3),
    }
