"""Systems against a baseline, by name: test, interval and Holm's correction in one call.

Everything is over questions, on the mean of a system's seeds per question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from retgen.errors import UsageError
from retgen.evaluate.bootstrap import CorpusMeasure, Interval, bootstrap_corpus, bootstrap_difference
from retgen.evaluate.pairing import PerQuestion, Statistics, mean_over_seeds, paired, stacked
from retgen.evaluate.significance import (
    PairedTest,
    corpus_randomisation_test,
    holm,
    paired_t_test,
    randomisation_test,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system against the baseline, on one measure.

    Args:
        interval: the difference, system minus baseline, with its bootstrap interval over questions.
        p_value: of the test alone.
        p_adjusted: after Holm's correction over all systems compared together.
        test: ``"t-test"`` or ``"randomisation"``.
        num_questions: pairs.
    """

    interval: Interval
    p_value: float
    p_adjusted: float
    test: str
    num_questions: int

    @property
    def difference(self) -> float:
        """System minus baseline."""
        return self.interval.estimate

    def is_significant(self, level: float = 0.05) -> bool:
        """Whether the corrected p-value is below the level."""
        return self.p_adjusted < level


def compare(
    systems: Mapping[str, Sequence[PerQuestion]],
    baseline: str,
    *,
    test: Literal["t-test", "randomisation"] = "t-test",
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Every system against a baseline on a per-question measure, Holm-corrected over the systems.

    Args:
        systems: name → its runs (one per training seed), each question id → value. Runs are averaged per question, so
            that systems may have different numbers of them.
        baseline: the name of the system the others are compared with.
        test: ``"t-test"`` as tables of the field use it, or ``"randomisation"``, which assumes no distribution.
        confidence: of the intervals.
        resamples: of the intervals and of the randomisation.
        seed: the same seed gives the same result.

    Returns:
        Name → comparison, for every system but the baseline, in their order.

    Raises:
        UsageError: an unknown baseline, a system without runs, or too few questions.
        MismatchError: the systems were scored on different questions.

    Example:
        >>> runs = {"bm25": [{"q1": 0.1, "q2": 0.5, "q3": 0.2}], "ours": [{"q1": 0.3, "q2": 0.8, "q3": 0.5}]}
        >>> round(compare(runs, "bm25")["ours"].p_adjusted, 4)
        0.0153
    """
    means = {name: mean_over_seeds(runs) for name, runs in systems.items()}
    tests: dict[str, tuple[PairedTest, Interval]] = {}
    for name in _others(systems, baseline):
        left, right = paired(means[name], means[baseline])
        interval = bootstrap_difference(left, right, confidence=confidence, resamples=resamples, seed=seed)
        if test == "t-test":
            outcome = paired_t_test(left, right)
        else:
            outcome = randomisation_test(left, right, resamples=resamples, seed=seed)
        tests[name] = (outcome, interval)
    return _corrected(tests, test)


def compare_corpus(
    systems: Mapping[str, Sequence[Statistics]],
    baseline: str,
    measure: CorpusMeasure,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Every system against a baseline on a corpus-level measure such as BLEU-1, Holm-corrected over the systems.

    Args:
        systems: name → its runs, each question id → sufficient statistics (`AnswerResult.statistics`). All systems
            need as many runs: the test swaps them question by question. Where a deterministic system (BM25 and
            a fixed reader) meets one with several seeds, repeat its run.
        baseline: the name of the system the others are compared with.
        measure: from summed statistics to values, e.g. `bleu1`.
        confidence: of the intervals.
        resamples: of the intervals and of the randomisation.
        seed: the same seed gives the same result.

    Returns:
        Name → comparison, for every system but the baseline, in their order.

    Raises:
        UsageError: an unknown baseline, or systems with different numbers of runs.
        MismatchError: the systems were scored on different questions.
    """
    others = _others(systems, baseline)
    order = [] if not systems[baseline] else list(systems[baseline][0])
    reference = stacked(order, systems[baseline])
    tests: dict[str, tuple[PairedTest, Interval]] = {}
    for name in others:
        values = stacked(order, systems[name])
        outcome = corpus_randomisation_test(values, reference, measure, resamples=resamples, seed=seed)
        interval = bootstrap_corpus(
            values, measure, minus=reference, confidence=confidence, resamples=resamples, seed=seed
        )
        tests[name] = (outcome, interval)
    return _corrected(tests, "randomisation")


def _others(systems: Mapping[str, object], baseline: str) -> list[str]:
    if baseline not in systems:
        raise UsageError(f"the baseline {baseline!r} is not among the systems", mend=f"Choose from {list(systems)}")
    return [name for name in systems if name != baseline]


def _corrected(tests: Mapping[str, tuple[PairedTest, Interval]], test: str) -> dict[str, Comparison]:
    adjusted = holm([outcome.p_value for outcome, _ in tests.values()])
    return {
        name: Comparison(interval, outcome.p_value, p_adjusted, test, outcome.num_questions)
        for (name, (outcome, interval)), p_adjusted in zip(tests.items(), adjusted, strict=True)
    }
