"""A stage that measures answers: how right, how grounded, how sure, and what was found for them to be read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from retgen.corpus import Corpus
from retgen.evaluate import (
    Calibration,
    evaluate_answers,
    evaluate_citations,
    evaluate_run,
    expected_calibration_error,
    risk_coverage,
)
from retgen.recipes.collections import read_questions
from retgen.recipes.context import Number, StageContext, StageError
from retgen.recipes.measuring import RETRIEVAL, read_answers, read_outcome
from retgen.recipes.stages import stage
from retgen.types import Answer, Run, Triplet

if TYPE_CHECKING:
    from retgen.types import DocumentSource

CALIBRATION = "calibration.json"
"""Where the stage keeps the calibration, the threshold and the curve."""
_FOUND = {column: measure for column, measure in RETRIEVAL.items() if column in ("R@1", "R@5")}


@stage("answer-measures", version="1", needs=["collection", "outcome", "dev?"])
def answer_measures(
    context: StageContext,
    measures: tuple[str, ...] = ("EM", "F1", "BLEU-1", "ROUGE-L"),
    right: str = "EM",
    risk: float = 0.5,
    passages: int = 5,
) -> None:
    """The columns of a row that answers, over the test questions that have accepted answers.

    Beside ``measures``, R@1 and R@5 of what was found: ``answer_in_passages``, ``answer_in_source`` and
    ``citation_precision`` (`retgen.evaluate.evaluate_citations`). Where dev questions were answered with scores, their
    scores are calibrated on them, and on test questions: ``ece_before`` (of exp(score), where scores are
    log-probabilities) and ``ece``, expected calibration errors; ``aurc``, the area under the risk–coverage curve;
    ``threshold``, chosen on dev, with the ``coverage`` and ``selective_risk`` that it has.

    Args:
        context: of the stage; ``dev`` is another outcome with the same system's answers of dev questions.
        measures: of `retgen.evaluate.evaluate_answers`.
        right: what being right means to the calibration: ``EM``, or a measure between 0 and 1.
        risk: that the threshold allows on dev.
        passages: shown with an answer that does not say which were read. Its source is the first of them in which it
            stands, else the first.
    """
    triplets = [triplet for triplet in read_questions(context.input("collection"), "test") if triplet.answers]
    found = read_answers(context.input("outcome"))
    if not triplets or found is None:
        raise StageError(
            "no test question has an accepted answer" if not triplets else "there are no answers to be measured",
            where=context.name,
            mend="Give a collection with answers, and an outcome that has them",
        )
    gold = _gold(triplets)
    corpus = Corpus.open(context.input("collection") / "corpus")
    run, _, seconds = read_outcome(context.input("outcome"))
    answers = [_shown(answer, run, corpus, passages) for answer in found if answer.query_id in gold]
    result = evaluate_answers({answer.query_id: answer.text for answer in answers}, gold, measures)
    values: dict[str, Number] = {
        **result.means,
        "questions": len(gold),
        "ms": 1000 * seconds / max(1, len(found)),
        **evaluate_citations(answers, gold, corpus).means,
    }
    per_question = {name: dict(own) for name, own in result.per_question.items()}
    if run is not None:
        qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in triplets}
        measured = evaluate_run(run, qrels, list(_FOUND.values()), query_ids=list(gold))
        for column, measure in _FOUND.items():
            values[column] = measured.means[measure]
            per_question[column] = dict(measured.per_query[measure])
    values |= _how_sure(context, answers, gold, right, risk)
    context.report(values, per_question=per_question, statistics=result.statistics)


def _how_sure(
    context: StageContext, answers: Sequence[Answer], gold: Mapping[str, Sequence[str]], right: str, risk: float
) -> dict[str, Number]:
    from retgen.answer.answerable import answerable, calibrate, rightness, with_answerable

    triplets = read_questions(context.input("collection"), "dev")
    dev_gold = _gold([triplet for triplet in triplets if triplet.answers])
    place = context.input("dev") if "dev" in context.inputs else context.input("outcome")
    dev = [answer for answer in read_answers(place, "dev") or () if answer.query_id in dev_gold]
    scores = {answer.score for answer in dev if answer.text}
    if len(scores) < 2 or not any(answer.text for answer in answers):
        context.log("not calibrated: no dev questions were answered with scores that differ")
        return {}
    calibration = calibrate(dev, dev_gold, right)
    dev_said, said = with_answerable(dev, calibration), with_answerable(answers, calibration)
    dev_right, is_right = rightness(dev, dev_gold, right), rightness(answers, gold, right)
    curve = risk_coverage([answerable(each) for each in dev_said], [dev_right[each.query_id] for each in dev])
    threshold = curve.threshold(risk)
    shares = [is_right[answer.query_id] for answer in answers]
    sure = [answerable(answer) for answer in said]
    tested = risk_coverage(sure, shares)
    # No threshold that keeps the risk: nothing is answered.
    coverage, selective = (0.0, None) if threshold is None else tested.at(threshold)
    values: dict[str, Number] = {
        "ece": expected_calibration_error(sure, shares),
        "ece_before": _before(answers, shares),
        "aurc": tested.area,
        "threshold": threshold,
        "coverage": coverage,
        "selective_risk": selective if coverage else None,
        "calibrated_on": calibration.questions,
    }
    _keep(context, calibration, values, tested.coverage.tolist(), tested.risk.tolist())
    return values


def _before(answers: Sequence[Answer], shares: Sequence[float]) -> float | None:
    """The calibration error of exp(score), where all scores are log-probabilities; 0 for an empty answer."""
    if any(answer.score > 0 for answer in answers):
        return None
    return expected_calibration_error([math.exp(answer.score) if answer.text else 0.0 for answer in answers], shares)


def _keep(
    context: StageContext,
    calibration: Calibration,
    values: Mapping[str, Number],
    coverage: Sequence[float],
    risk: Sequence[float],
) -> None:
    content = {
        "calibration": asdict(calibration),
        "threshold": values["threshold"],
        "test_curve": {"coverage": list(coverage), "risk": list(risk)},
    }
    (context.folder / CALIBRATION).write_text(json.dumps(content) + "\n", encoding="utf-8")


def _gold(triplets: Sequence[Triplet]) -> dict[str, tuple[str, ...]]:
    return {triplet.query.id: triplet.answers for triplet in triplets}


def _shown(answer: Answer, run: Run | None, documents: DocumentSource, most: int) -> Answer:
    """An answer with its passages and source; one that names no passages is given the first of the run."""
    if answer.source is not None or run is None or answer.query_id not in run:
        return answer
    from retgen.answer.citations import cite

    ids = answer.passages or tuple(run.doc_ids(answer.query_id)[:most])
    if not ids:
        return answer
    order = [1.0 / rank for rank in range(1, len(ids) + 1)]
    source = cite(answer.text, [documents[doc_id] for doc_id in ids], order)[0].doc_id
    return replace(answer, passages=ids, source=source if answer.text else None)
