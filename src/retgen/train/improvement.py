"""Did training improve on what needs none? Two systems on the same questions, measure by measure, with a test each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retgen.answer.extractive import BestSpan
from retgen.evaluate import compare, evaluate_answers, evaluate_run, holm
from retgen.types import Answer, DocumentSource, Qrels, Query, Retriever, Run, Triplet

RETRIEVAL = ("R@1", "R@10", "MRR@10")
ANSWERS = ("EM", "F1")
LEVEL = 0.05
"""Of significance, after Holm's correction over the measures."""


@dataclass(frozen=True, slots=True)
class Gain:
    """One measure of two systems.

    Args:
        before: mean of the system without training, 0 to 1.
        after: mean of the trained one.
        low: lower end of the 95 % bootstrap interval of the difference, over questions; None for a single question.
        high: its upper end.
        p_value: of the paired randomisation test, Holm-corrected over the measures; None for a single question.
        questions: that the measure is over.
    """

    before: float
    after: float
    low: float | None
    high: float | None
    p_value: float | None
    questions: int

    @property
    def verdict(self) -> str:
        """``improved`` or ``worse`` where the test tells a difference, else ``no clear difference``."""
        if self.p_value is None or self.p_value >= LEVEL or self.after == self.before:
            return "no clear difference"
        return "improved" if self.after > self.before else "worse"


Outcome = tuple[Run, Sequence[Answer]]
"""What a system found and said."""


def first_minute(queries: Sequence[Query], retriever: Retriever, documents: DocumentSource, k: int = 10) -> Outcome:
    """What ``retgen ask`` gives without a model: BM25, and the best span of its first three passages."""
    run = retriever.search(queries, k=k)
    return run, BestSpan(3, background=10).answer(queries, run, documents)


def gains(before: Outcome, after: Outcome, triplets: Sequence[Triplet]) -> dict[str, Gain]:
    """Measure → gain, over the questions that have what the measure needs.

    Args:
        before: of the system without training.
        after: of the trained one.
        triplets: the questions, with accepted answers (EM, F1) and relevant documents (R@1, R@10, MRR@10).

    Returns:
        The measures that some question can be scored by; empty where there are no questions.
    """
    scored: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {}
    qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in triplets if triplet.doc_ids}
    if qrels:
        one, two = (evaluate_run(run, qrels, RETRIEVAL).per_query for run, _ in (before, after))
        scored |= {name: (one[name], two[name]) for name in RETRIEVAL}
    gold = {triplet.query.id: triplet.answers for triplet in triplets if triplet.answers}
    if gold:
        one, two = (_answer_scores(answers, gold) for _, answers in (before, after))
        scored |= {name: (one[name], two[name]) for name in ANSWERS}
    return _tested(scored)


def run_gains(before: Run, after: Run, qrels: Qrels, measures: Sequence[str] = RETRIEVAL) -> dict[str, Gain]:
    """Measure → gain of one run over another, over the judged questions; empty where there are none."""
    if not qrels:
        return {}
    one, two = (evaluate_run(run, qrels, measures).per_query for run in (before, after))
    return _tested({name: (one[name], two[name]) for name in measures})


def _answer_scores(answers: Sequence[Answer], gold: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    said = {answer.query_id: answer.text for answer in answers if answer.query_id in gold}
    return evaluate_answers(said, gold, ANSWERS).per_question


def _tested(scored: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Gain]:
    # A randomisation test: exact on few questions, where a t-test would call two equal gains certain.
    tests = {
        name: compare({"before": [one], "after": [two]}, "before", test="randomisation")["after"]
        for name, (one, two) in scored.items()
        if len(one) > 1
    }
    adjusted = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    return {
        name: Gain(
            _mean(one),
            _mean(two),
            tests[name].interval.low if name in tests else None,
            tests[name].interval.high if name in tests else None,
            adjusted.get(name),
            len(one),
        )
        for name, (one, two) in scored.items()
    }


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def sentence(found: Mapping[str, Gain], against: str = "the first-minute answerer") -> str:
    """Whether training improved on what it is compared with, in a sentence that names every measure.

    Example:
        >>> print(sentence({"R@1": Gain(0.9, 0.9, -0.1, 0.1, 1.0, 40), "F1": Gain(0.2, 0.5, 0.1, 0.5, 0.004, 40)}))
        Against the first-minute answerer, training improved F1 (0.200 to 0.500, p = 0.004); did not clearly change R@1.
    """
    if not found:
        return f"There is no held-out question to tell whether training improved on {against}."
    named: dict[str, list[str]] = {"improved": [], "no clear difference": [], "worse": []}
    for name, gain in found.items():
        named[gain.verdict].append(f"{name}{'' if gain.verdict == 'no clear difference' else _told(gain)}")
    clauses = []
    if named["improved"]:
        clauses.append(f"improved {_joined(named['improved'])}")
    if named["no clear difference"]:
        clauses.append(f"did not clearly change {_joined(named['no clear difference'])}")
    if named["worse"]:
        clauses.append(f"made {_joined(named['worse'])} worse")
    return f"Against {against}, training {'; '.join(clauses)}."


def _told(gain: Gain) -> str:
    return f" ({gain.before:.3f} to {gain.after:.3f}, p = {gain.p_value:.3f})" if gain.p_value is not None else ""


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
