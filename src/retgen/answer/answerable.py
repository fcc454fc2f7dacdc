"""How likely an answer is right, calibrated on dev questions; and giving none where that is not likely enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from retgen.errors import UsageError
from retgen.evaluate import Calibration, evaluate_answers, fit_calibration
from retgen.pipeline import Component
from retgen.types import Answer, Answerer, DocumentSource, Query, Run

ANSWERABLE = "answerable"
"""Under which name an answer's details hold its calibrated probability of being right."""


def calibrate(answers: Sequence[Answer], gold: Mapping[str, Sequence[str]], measure: str = "EM") -> Calibration:
    """Fit an answerer's scores to how often its answers are right, on dev questions.

    Empty answers are left out: they are never held to be right.

    Args:
        answers: of the dev questions, by the answerer as it will be used.
        gold: question id → accepted answers.
        measure: what right means: ``EM``, or a measure with values between 0 and 1, such as ``F1`` or ``ROUGE-L``.

    Raises:
        UsageError: fewer than two answers, one whose question has no gold, or a measure without values per question.
    """
    said = {answer.query_id: answer for answer in answers if answer.text}
    unknown = sorted(set(said) - set(gold))
    if unknown:
        raise UsageError(f"there are no gold answers of question {unknown[0]!r}", mend="Calibrate on judged questions")
    if len(said) < 2:
        raise UsageError(f"a calibration needs at least two answers that are not empty; got {len(said)}")
    right = rightness(list(said.values()), gold, measure)
    return fit_calibration([answer.score for answer in said.values()], [right[query_id] for query_id in said])


def rightness(answers: Sequence[Answer], gold: Mapping[str, Sequence[str]], measure: str = "EM") -> dict[str, float]:
    """Question id → how right its answer is, 0 to 1, by a measure of `retgen.evaluate.evaluate_answers`.

    Raises:
        UsageError: the measure has no value per question.
    """
    texts = {answer.query_id: answer.text for answer in answers}
    result = evaluate_answers(texts, {query_id: gold[query_id] for query_id in texts}, [measure])
    if measure not in result.per_question:
        raise UsageError(f"{measure} has no value per question", mend="Use EM, F1 or ROUGE-L")
    return result.per_question[measure]


def with_answerable(answers: Sequence[Answer], calibration: Calibration) -> list[Answer]:
    """The answers, each with the probability of being right in its details, as ``answerable``; 0 for empty ones."""
    return [
        replace(
            answer,
            details={
                **answer.details,
                ANSWERABLE: calibration.probability(answer.score) if answer.text else 0.0,
            },
        )
        for answer in answers
    ]


def answerable(answer: Answer) -> float:
    """An answer's calibrated probability of being right.

    Raises:
        UsageError: it has none.
    """
    value = answer.details.get(ANSWERABLE)
    if not isinstance(value, float):
        raise UsageError(
            f"the answer to {answer.query_id!r} has no calibrated probability",
            mend="Calibrate its answerer first: see retgen.answer.answerable.calibrate",
        )
    return value


def abstain(answers: Sequence[Answer], threshold: float) -> list[Answer]:
    """The answers; those whose probability of being right is below the threshold with an empty text and no source.

    What was withheld is kept in the details, as ``withheld``.

    Args:
        answers: with ``answerable``.
        threshold: e.g. of `retgen.evaluate.RiskCoverage.threshold`, chosen on dev questions.

    Raises:
        UsageError: an answer has no calibrated probability.
    """
    return [
        answer
        if answerable(answer) >= threshold or not answer.text
        else replace(answer, text="", source=None, details={**answer.details, "withheld": answer.text})
        for answer in answers
    ]


class Calibrated(Component):
    """Any answerer with calibrated answers: each says how likely it is right, and unlikely ones are withheld.

    Args:
        answerer: whose scores were calibrated.
        calibration: of `calibrate`.
        threshold: answers below it are withheld; None gives them all.
    """

    def __init__(self, answerer: Answerer, calibration: Calibration, threshold: float | None = None) -> None:
        self.answerer = answerer
        self.calibration = calibration
        self.threshold = threshold

    def answer(self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None) -> list[Answer]:
        """One answer for every query, with ``answerable`` in its details."""
        found = with_answerable(self.answerer.answer(queries, run, documents), self.calibration)
        return found if self.threshold is None else abstain(found, self.threshold)
