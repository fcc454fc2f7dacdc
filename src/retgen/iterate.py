"""UniGen-Iter: rounds of retrieve, answer, enhance, and again (paper, "Iterative Enhancement Strategy")."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retgen.connect.rounds import enhanced
from retgen.connect.writer import Enhancer
from retgen.errors import UsageError
from retgen.generative.unigen import UniGen
from retgen.types import Answer, DocumentSource, Query, Run

Refit = Callable[[int, UniGen], UniGen]
"""Called before each round with its number and the last round's system; returns the system to use."""
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round saw and said.

    Args:
        number: 0 is UniGen-Base, 2 the paper's UniGen-Iter.
        queries: with the connectors this round read.
        run: documents found.
        answers: one for every query.
        seconds: that it took, its connectors and any refit included.
    """

    number: int
    queries: list[Query]
    run: Run
    answers: list[Answer]
    seconds: float = 0.0


def iterate(
    system: UniGen,
    queries: Sequence[Query],
    documents: DocumentSource,
    writer: Enhancer,
    *,
    rounds: int = 2,
    feedback_documents: int = 3,
    words: int = 60,
    k: int = 10,
    refit: Refit | None = None,
    progress: Progress | None = None,
) -> list[Round]:
    """Every round's run and answers, the first being round 0.

    Args:
        system: finds and answers; its own writer gives round 0's connectors to queries without one.
        queries: the questions.
        documents: texts of what is found.
        writer: its ``enhance`` writes the next round's connectors.
        rounds: iterations on top of round 0; the paper's UniGen-Iter has 2.
        feedback_documents: how many of the found documents the writer is given (left open in the paper).
        words: length n asked of the writer.
        k: documents found in a round.
        refit: trains the model again between rounds, e.g. `retgen.train.refit.refit_unigen`; the paper leaves open
            whether it does. None does not.
        progress: called with (round, questions done, questions).

    Raises:
        UsageError: a negative number of rounds; no documents to find or feed back, or no words to write.
    """
    if rounds < 0:
        raise UsageError(f"cannot run {rounds} rounds", mend="Pass 0 for round 0 alone, or more")
    for name, value in (("feedback_documents", feedback_documents), ("words", words), ("k", k)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    begin = time.perf_counter()
    current = system.with_connectors(queries)
    done: list[Round] = []
    for number in range(rounds + 1):
        if number > 0:
            begin = time.perf_counter()
            if refit is not None:
                system = refit(number, system)
            last = done[-1]
            current = enhanced(
                last.queries,
                last.run,
                last.answers,
                documents,
                writer,
                feedback_documents=feedback_documents,
                words=words,
                number=number,
            )
        report = None if progress is None else _at(progress, number)
        run, answers = system.search_and_answer(current, k=k, progress=report)
        done.append(Round(number, list(current), run, answers, time.perf_counter() - begin))
    return done


def _at(progress: Progress, number: int) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        progress(number, done, total)

    return report
