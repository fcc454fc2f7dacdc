"""Stages of readers: training and answering. One of each serves closed book, FiD and RAG (`retgen.train.reader`).

Which passages are read is another stage's: any whose folder holds runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retgen.corpus import Corpus
from retgen.models.sources import WARM
from retgen.recipes.collections import Split, read_questions
from retgen.recipes.context import StageContext, StageError
from retgen.recipes.measuring import answer_of, answer_record, read_outcome, write_outcome
from retgen.recipes.ranking import choose, outcome_of
from retgen.recipes.reranker_training import reporter
from retgen.recipes.reranking import named_model
from retgen.recipes.stages import stage
from retgen.store import write_atomic
from retgen.types import Answer, Query, Run, Triplet

if TYPE_CHECKING:
    from retgen.answer.reading import ReadingAnswerer
    from retgen.train.reader import ReaderDev
    from retgen.train.reader_examples import ReaderExample

Method = Literal["closed-book", "fid", "rag-sequence", "rag-token"]
READER = "reader"
"""Where a stage that trains a reader keeps it."""
_BLOCK = 200
"""Questions that are answered before their answers are kept, for a stage that is stopped and started again."""


@stage("reader-train", version="1", seeded=True, isolated=True, needs=["collection", "run?", "dev?"])
def reader_train(
    context: StageContext,
    method: Method,
    source: str = "warm:minilm",
    copy_head: bool = True,
    frozen_encoder: bool = False,
    encoder_layers: int = 0,
    decoder_layers: int = 2,
    passages: int = 10,
    with_relevant: bool = False,
    temperature: float = 1.0,
    max_input_tokens: int = 250,
    max_question_tokens: int = 100,
    max_answer_tokens: int = 32,
    num_beams: int = 1,
    steps: int = 0,
    epochs: float = 3.0,
    batch_size: int = 64,
    accumulation_steps: int = 1,
    learning_rate: float = 5e-5,
    fresh_learning_rate: float = 1e-3,
    warmup: float = 0.1,
    gradient_checkpointing: bool = False,
    sample_answers: bool = True,
    train_questions: int = 0,
    eval_steps: int = 0,
    dev_questions: int = 100,
    save_steps: int = 100,
) -> None:
    """Train a reader by −log p(answer) per token: closed book, FiD, RAG-Sequence or RAG-Token.

    Args:
        context: of the stage. ``run`` holds a run of the training questions, ``dev`` one of dev questions for
            ``eval_steps``; closed book, which reads no passage, takes neither.
        method: which of them.
        source: of the weights: a hub id (T5, BART), a folder inside the data, ``warm:minilm``, ``scratch:tiny``.
        copy_head: of a ``warm:`` source.
        frozen_encoder: of a ``warm:`` source: the encoder keeps its weights.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; 0 keeps all.
        decoder_layers: of a ``warm:`` source.
        passages: that are read, in training and later.
        with_relevant: show a relevant passage in the last one's place where none was found.
        temperature: of RAG's prior; 1 is its definition, for scores that are inner products.
        max_input_tokens: of the question with one passage.
        max_question_tokens: of the question alone.
        max_answer_tokens: of an answer.
        num_beams: of the search for an answer.
        steps: of the optimiser; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: questions of a batch.
        accumulation_steps: batches of a step.
        learning_rate: of weights that were trained before.
        fresh_learning_rate: of the others.
        warmup: share of the steps in which the rates rise.
        gradient_checkpointing: less memory, more time.
        sample_answers: one of the accepted answers at random, else always the first.
        train_questions: so many, chosen by a hash of their ids; 0 takes all.
        eval_steps: between measurements on dev questions; 0 measures none.
        dev_questions: how many are asked then.
        save_steps: between checkpoints.
    """
    import torch

    from retgen.answer.folder import ANSWERERS
    from retgen.models.reader_format import ReaderFormat
    from retgen.train.reader import ReaderTraining, train_reader

    kind, options = _made_by(method, temperature)
    closed = method == "closed-book"
    if closed == ("run" in context.inputs):
        raise StageError(
            "a closed-book reader reads no run" if closed else f"{method} reads passages, and is given no run",
            where=context.name,
            mend="Leave it out of the stage's needs" if closed else "Let it need run: <a stage of training-search>",
        )
    corpus = None if closed else Corpus.open(context.input("collection") / "corpus")
    triplets, examples = _examples(context, train_questions, passages, with_relevant)
    # Closed book has never seen a passage: not even to count its words.
    texts = [text for triplet in triplets for text in (triplet.query.text, *triplet.answers)]
    texts += [document.contents for document in corpus] if corpus is not None else []
    network: dict[str, Any] = {
        "copy_head": copy_head,
        "frozen_encoder": frozen_encoder,
        "encoder_layers": encoder_layers or None,
        "decoder_layers": decoder_layers,
    }
    torch.manual_seed(context.seed)
    source = str(named_model(context, source))
    answerer = ANSWERERS[kind].from_pretrained(
        source,
        texts=texts,
        format=ReaderFormat(
            max_input_tokens=max_input_tokens,
            max_question_tokens=max_question_tokens,
            max_answer_tokens=max_answer_tokens,
        ),
        passages=passages,
        num_beams=num_beams,
        reader_options=options,
        **(network if source.startswith(WARM) else {}),
    )
    record = train_reader(
        answerer,
        examples,
        corpus,
        context.scratch / "training",
        options=ReaderTraining(
            max_steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            accumulation_steps=accumulation_steps,
            learning_rate=learning_rate,
            fresh_learning_rate=fresh_learning_rate,
            warmup_steps=warmup,
            gradient_checkpointing=gradient_checkpointing,
            sample_answers=sample_answers,
            eval_steps=eval_steps,
            save_steps=save_steps,
            seed=context.seed,
        ),
        dev=_dev(context, corpus, dev_questions) if eval_steps else None,
        progress=reporter(context),
    )
    answerer.history = record.history
    answerer.save(context.folder / READER)
    context.report(
        {
            "parameters": sum(weights.numel() for weights in answerer.model.parameters()),
            "train_seconds": record.seconds,
            "train_steps": record.steps,
        }
    )


@stage("reader-answers", version="1", seeded=True, isolated=True, needs=["collection", "model", "outcome?"])
def reader_answers(context: StageContext, num_beams: int = 0, dev_questions: int = 0) -> None:
    """A trained reader's answers to the dev and test questions, with scores and citations.

    Args:
        context: of the stage; ``outcome`` has the runs of the passages to be read, and is left out for a closed-book
            reader. Where it has no run of dev questions, none are answered.
        num_beams: of the search; 0 is the model's own.
        dev_questions: so many, chosen by a hash of their ids: those that a calibration is fitted on; 0 takes all.
    """
    from retgen.answer.folder import open_reader

    answerer = open_reader(context.input("model") / READER)
    answerer.num_beams = num_beams or answerer.num_beams
    if answerer.reader.reads_passages != ("outcome" in context.inputs):
        raise StageError(
            "this reader reads passages, and is given none"
            if answerer.reader.reads_passages
            else "a closed-book reader reads no passages, and is given some",
            where=context.name,
            mend="Let the stage need outcome: <a stage with runs> exactly where its reader reads them",
        )
    corpus = Corpus.open(context.input("collection") / "corpus") if answerer.reader.reads_passages else None
    asked: dict[Split, int] = {"dev": dev_questions, "test": 0}
    for split, most in asked.items():
        triplets = read_questions(context.input("collection"), split)
        run, before = _passages(context, split)
        if corpus is not None and run is None:
            if split == "test":
                raise StageError("there is no run of the test questions", where=context.input("outcome"))
            context.log("no dev question has passages: nothing to calibrate by")
            continue
        if run is not None and split == "dev":
            triplets = [triplet for triplet in triplets if triplet.query.id in run]
        chosen = [triplet.query for triplet in choose(triplets, most)]
        found = None if run is None else run.select(query.id for query in chosen).top(max(10, answerer.passages))
        answers, seconds = _answered(context, answerer, split, chosen, found, corpus)
        share = 0.0 if run is None else before * len(chosen) / max(1, len(run))
        write_outcome(context.folder, found, answers, share + seconds, split, cited=True)


def _made_by(method: Method, temperature: float) -> tuple[str, dict[str, Any]]:
    """A method's name among answerers, and the options of its reader."""
    if not method.startswith("rag-"):
        return method, {}
    return "rag", {"marginal": method.removeprefix("rag-"), "temperature": temperature}


def _examples(
    context: StageContext, most: int, passages: int, with_relevant: bool
) -> tuple[list[Triplet], list[ReaderExample]]:
    from retgen.train.reader_examples import reader_examples

    triplets = read_questions(context.input("collection"), "train")
    run = None
    if "run" in context.inputs:
        run, _ = outcome_of(context.input("run"), "train")
        triplets = [triplet for triplet in triplets if triplet.query.id in run]
    triplets = choose([triplet for triplet in triplets if triplet.answers], most)
    return triplets, reader_examples(triplets, run, passages=passages, with_relevant=with_relevant)


def _dev(context: StageContext, corpus: Corpus | None, most: int) -> ReaderDev:
    from retgen.train.reader import ReaderDev

    triplets = [triplet for triplet in read_questions(context.input("collection"), "dev") if triplet.answers]
    run = None
    if corpus is not None:
        run, _ = outcome_of(context.input("dev"), "dev")
        triplets = [triplet for triplet in triplets if triplet.query.id in run]
    chosen = choose(triplets, most)
    gold = {triplet.query.id: triplet.answers for triplet in chosen}
    return ReaderDev([triplet.query for triplet in chosen], gold, run, corpus)


def _passages(context: StageContext, split: Split) -> tuple[Run | None, float]:
    """What a reader is given to read of a split, and the seconds that it took to find."""
    if "outcome" not in context.inputs or not (context.input("outcome") / f"{split}.run").exists():
        return None, 0.0
    run, _, seconds = read_outcome(context.input("outcome"), split)
    return run, seconds


def _answered(
    context: StageContext,
    answerer: ReadingAnswerer,
    split: Split,
    queries: Sequence[Query],
    run: Run | None,
    corpus: Corpus | None,
) -> tuple[list[Answer], float]:
    """Answers, and the seconds they took; what was answered before an interruption is not answered again."""
    answers: list[Answer] = []
    seconds = 0.0
    for first in range(0, len(queries), _BLOCK):
        kept = context.scratch / f"{split}-{first}.json"
        if not kept.exists():
            start = time.perf_counter()
            found = answerer.answer(queries[first : first + _BLOCK], run, corpus)
            _keep(kept, found, time.perf_counter() - start)
        content = json.loads(kept.read_text(encoding="utf-8"))
        answers += [answer_of(record) for record in content["answers"]]
        seconds += content["seconds"]
        context.progress(min(first + _BLOCK, len(queries)), len(queries), split)
    return answers, seconds


def _keep(path: Path, answers: Sequence[Answer], seconds: float) -> None:
    content = {"seconds": seconds, "answers": [answer_record(answer) for answer in answers]}
    write_atomic(path, json.dumps(content, ensure_ascii=False))
