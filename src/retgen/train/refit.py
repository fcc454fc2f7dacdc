"""Fitting UniGen again between rounds, on the connectors that the training questions have in each round."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from retgen.connect.rounds import enhanced
from retgen.connect.writer import Writer
from retgen.errors import UsageError
from retgen.generative.unigen import UniGen
from retgen.train.examples import finetuning_examples
from retgen.train.resumable import Progress
from retgen.train.unigen import DevSet, UniGenTraining, train_unigen
from retgen.types import DocumentSource, Query, Triplet


def refit_unigen(
    triplets: Sequence[Triplet],
    documents: DocumentSource,
    writer: Writer,
    place: str | Path,
    *,
    queries: Sequence[Query] | None = None,
    options: UniGenTraining | None = None,
    feedback_documents: int = 3,
    words: int = 60,
    k: int = 10,
    dev: DevSet | None = None,
    progress: Progress | None = None,
) -> Callable[[int, UniGen], UniGen]:
    """What `retgen.iterate.iterate` takes as ``refit``: before round n, fine-tune on round n's training questions.

    Before round n the last round's system is asked the training questions as round n − 1 asked them. The writer makes
    their connectors of round n from what it found and said, as it does for the questions that are iterated on, and a
    copy of the system is fine-tuned on ⟨q_c → d_c⟩, ⟨q_c → a⟩ with them. The system that was given keeps its weights.

    Only ``triplets`` are ever trained on, and only ``dev`` is ever measured: the questions that are iterated on never
    come here. Give no test question among them. A model has seen its training questions before, so that it answers
    them better than test questions, and their later connectors are better than those of test questions will be.

    Args:
        triplets: the training questions, with accepted answers and relevant documents.
        documents: texts of what is found.
        writer: its ``enhance`` writes the connectors of later rounds; the one that `iterate` is given.
        place: a folder for checkpoints, ``round1/`` and so on in it; the same again goes on where it was stopped.
        queries: the training questions with their connectors of round 0, as the model was trained on them; by default
            the questions, whose connectors the system's own writer then writes.
        options: of each round's training; the rates and steps of the first training are a good start.
        feedback_documents: as `iterate` is given.
        words: as `iterate` is given.
        k: documents found in a round.
        dev: asked while it trains, with the connectors it comes with.
        progress: of each round's training.

    Raises:
        UsageError: there are no training questions, or one of them has no query.

    Example:
        ``iterate(system, test, corpus, writer, refit=refit_unigen(train, corpus, writer, "refits"))``
    """
    if not triplets:
        raise UsageError("there is nothing to fit again on", mend="Give training questions")
    asked = [triplet.query for triplet in triplets] if queries is None else list(queries)
    missing = {triplet.query.id for triplet in triplets} - {query.id for query in asked}
    if missing:
        raise UsageError(
            f"question {min(missing)!r} has no input",
            where="queries",
            mend="Give the queries of all of them",
        )
    rounds: dict[int, list[Query]] = {}

    def refit(number: int, last: UniGen) -> UniGen:
        before = rounds[number - 1] if number > 1 else last.with_connectors(asked)
        run, answers = last.search_and_answer(before, k=k)
        rounds[number] = enhanced(
            before,
            run,
            answers,
            documents,
            writer,
            feedback_documents=feedback_documents,
            words=words,
            number=number,
        )
        system = copied(last)
        examples = finetuning_examples(triplets, rounds[number], system.table)
        train_unigen(system, examples, Path(place) / f"round{number}", options=options, dev=dev, progress=progress)
        return system

    return refit


def copied(system: UniGen) -> UniGen:
    """The same system with weights of its own."""
    copy_of = UniGen(
        copy.deepcopy(system.model),
        system.tokenizer,
        system.table,
        writer=system.writer,
        settings=replace(system.settings),
        device=system.device,
    )
    copy_of.history = list(system.history)
    return copy_of
