"""Answers against gold answers: exact match and F1 (SQuAD), has-answer (DPR), BLEU-1 and ROUGE-L (MS MARCO QnA).

Exact match, F1 and has-answer live here; BLEU-1 and ROUGE-L have their own files. `evaluate_answers` runs them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from retgen.errors import UsageError
from retgen.evaluate.bleu import bleu1, bleu1_statistics
from retgen.evaluate.rouge import rouge_l
from retgen.text import has_answer, normalise_answer

ANSWER_MEASURES = ("EM", "F1", "has_answer", "BLEU-1", "ROUGE-L")
"""The measures `evaluate_answers` knows. Upper or lower case, hyphens and underscores do not matter."""


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Whether the prediction equals one of the gold answers, after SQuAD's normalisation.

    Lower case, punctuation and the articles a, an, the removed, white space collapsed. As in SQuAD 2.0's scorer, gold
    answers that normalise to nothing are left out when there are others, and where none is left (an unanswerable
    question) only a prediction that normalises to nothing is right.

    Args:
        prediction: the answer to score.
        answers: the gold answers; empty for an unanswerable question.

    Returns:
        1.0 or 0.0.

    Reference:
        Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016.

    Example:
        >>> exact_match("The Eiffel-Tower!", ["tower", "an eiffeltower"])
        1.0
    """
    return float(normalise_answer(prediction) in _normalised(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Overlap of tokens with the gold answer that it fits best, after SQuAD's normalisation.

    Args:
        prediction: the answer to score.
        answers: the gold answers; empty for an unanswerable question. Empty texts as in `exact_match`.

    Returns:
        Harmonic mean of token precision and recall, in [0, 1], the maximum over the gold answers.

    Reference:
        Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016.

    Example:
        >>> f1("the cat on the mat", ["a cat"])
        0.5
    """
    tokens = normalise_answer(prediction).split()
    return max(_token_f1(tokens, answer.split()) for answer in _normalised(answers))


def _normalised(answers: Sequence[str]) -> list[str]:
    return [text for text in map(normalise_answer, answers) if text] or [""]


def _token_f1(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    common = (Counter(prediction) & Counter(answer)).total()
    return 2 * common / (len(prediction) + len(answer))


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """What a set of answers scored, in [0, 1].

    Args:
        means: measure, as it was asked for → mean over the questions; for BLEU-1 the value of the whole set.
        per_question: measure → question id → value. BLEU-1 is not here: it has no value per question.
        statistics: BLEU-1 → question id → matches, length, reference length (`bleu1` of their sums is the mean above),
            for tests and intervals over questions.
        num_questions: gold questions.
        missing: gold questions without a prediction: they count 0.
        unjudged: predictions whose question is not among the gold ones: ignored.
        unanswerable: gold questions without gold answers: EM and F1 expect an empty prediction there; the other
            measures leave them out, as their scorers do.
    """

    means: dict[str, float]
    per_question: dict[str, dict[str, float]] = field(repr=False)
    statistics: dict[str, dict[str, tuple[float, ...]]] = field(repr=False)
    num_questions: int
    missing: int
    unjudged: int
    unanswerable: int


def evaluate_answers(
    predictions: Mapping[str, str], gold: Mapping[str, Sequence[str]], measures: Sequence[str] = ("EM", "F1")
) -> AnswerResult:
    """Scores predicted answers against gold answers, over all gold questions.

    Args:
        predictions: question id → predicted answer. A gold question without a prediction counts 0 in every measure,
            unanswerable or not; an empty prediction is a prediction.
        gold: question id → accepted answers; none for an unanswerable question.
        measures: of `ANSWER_MEASURES`. ``has_answer`` is 1 where an accepted answer occurs in the prediction as a
            sequence of tokens.

    Returns:
        Means, and values or statistics per question, keyed by the names as they were asked for.

    Raises:
        UsageError: no measures, an unknown one, no gold questions, gold answers that are not a list, or a measure
            that needs answers when no question has any.

    Example:
        >>> result = evaluate_answers({"q1": "Paris"}, {"q1": ["paris"], "q2": ["Rome"]}, ["EM", "BLEU-1"])
        >>> result.means["EM"], result.missing
        (0.5, 1)
    """
    if not measures:
        raise UsageError("no answer measures were given", mend=f"Choose from {', '.join(ANSWER_MEASURES)}")
    if not gold:
        raise UsageError("there are no gold answers to score against")
    for question_id, answers in gold.items():
        if isinstance(answers, str):
            raise UsageError(
                f"the gold answers of question {question_id!r} are one text, not a list",
                mend="Give a list of accepted answers, even for one",
            )
    answerable = [question_id for question_id, answers in gold.items() if answers]
    means: dict[str, float] = {}
    per_question: dict[str, dict[str, float]] = {}
    statistics: dict[str, dict[str, tuple[float, ...]]] = {}
    for name in measures:
        measure = canonical_answer_measure(name)
        questions = list(gold) if measure in ("EM", "F1") else answerable
        if not questions:
            raise UsageError(f"{name} needs gold answers, and no question has any")
        if measure == "BLEU-1":
            statistics[name] = {q: bleu1_statistics(predictions.get(q, ""), gold[q]) for q in questions}
            means[name] = float(bleu1(np.sum(list(statistics[name].values()), axis=0)))
        else:
            score = _PER_QUESTION[measure]
            values = {q: score(predictions[q], gold[q]) if q in predictions else 0.0 for q in questions}
            per_question[name] = values
            means[name] = sum(values.values()) / len(values)
    return AnswerResult(
        means=means,
        per_question=per_question,
        statistics=statistics,
        num_questions=len(gold),
        missing=sum(1 for question_id in gold if question_id not in predictions),
        unjudged=sum(1 for question_id in predictions if question_id not in gold),
        unanswerable=len(gold) - len(answerable),
    )


def canonical_answer_measure(name: str) -> str:
    """The name in `ANSWER_MEASURES` that is meant.

    Raises:
        UsageError: there is no such measure.

    Example:
        >>> canonical_answer_measure("rouge_l")
        'ROUGE-L'
    """
    plain = _plain(name)
    for measure in ANSWER_MEASURES:
        if _plain(measure) == plain:
            return measure
    raise UsageError(f"unknown answer measure {name!r}", mend=f"Choose from {', '.join(ANSWER_MEASURES)}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


def _has_answer(prediction: str, answers: Sequence[str]) -> float:
    return float(has_answer(answers, prediction))


_PER_QUESTION: dict[str, Callable[[str, Sequence[str]], float]] = {
    "EM": exact_match,
    "F1": f1,
    "has_answer": _has_answer,
    "ROUGE-L": rouge_l,
}
