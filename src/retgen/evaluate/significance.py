"""Whether a difference between two systems could be chance: paired tests over questions, and Holm's correction.

Per-question measures take the t-test or the sign-flip randomisation; corpus-level ones (BLEU-1) take the randomisation
that swaps the two systems' statistics. Arrays in, p-values out: `retgen.evaluate.comparison` runs them over systems by
name, `retgen.evaluate.bootstrap` has the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.evaluate.bootstrap import CorpusMeasure, as_runs, weighted_sums
from retgen.evaluate.student import t_two_sided
from retgen.types import FloatArray

# Flips are drawn in blocks of at most this many numbers, so that memory does not grow with their number.
_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The outcome of a two-sided paired test.

    Args:
        difference: mean of the first system minus mean of the second.
        p_value: probability of a difference at least as large if the systems were exchangeable.
        num_questions: pairs.
        statistic: t, or the difference again for randomisation.
    """

    difference: float
    p_value: float
    num_questions: int
    statistic: float


def paired_t_test(first: npt.ArrayLike, second: npt.ArrayLike) -> PairedTest:
    """Student's paired t-test, two-sided.

    Args:
        first: shape (questions,); the seeds' mean per question where there are several.
        second: shape (questions,), in the same order.

    Returns:
        The difference of means and its p-value. Without any variance in the differences p is 1 where they are all 0,
        and 0 where they are all alike but not 0.

    Raises:
        UsageError: different lengths, or fewer than two questions.

    Example:
        >>> round(paired_t_test([0.9, 0.8, 0.7, 0.9], [0.5, 0.6, 0.6, 0.7]).p_value, 4)
        0.0374
    """
    differences = _differences(first, second)
    number = len(differences)
    if number < 2:
        raise UsageError(f"a t-test needs at least two questions; got {number}")
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(number)
    # Rounding leaves a trace of variance in differences that are all alike.
    if error <= 1e-14 * abs(mean):
        t = 0.0 if mean == 0.0 else math.copysign(math.inf, mean)
    else:
        t = mean / error
    return PairedTest(mean, t_two_sided(t, number - 1), number, t)


def randomisation_test(
    first: npt.ArrayLike, second: npt.ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Fisher's paired randomisation test, two-sided: the sign of every question's difference is flipped at random.

    Where all sign patterns are no more than ``resamples`` they are all tried, and the p-value is exact. Otherwise it is
    (1 + patterns at least as extreme) / (1 + resamples), which is never 0.

    Args:
        first: shape (questions,); the seeds' mean per question where there are several.
        second: shape (questions,), in the same order.
        resamples: sign patterns to draw; 10,000 tells p = .05 from p = .055.
        seed: the same seed gives the same p-value.

    Returns:
        The difference of means and its p-value.

    Raises:
        UsageError: different lengths, no questions, or no resamples.

    Reference:
        Smucker, Allan & Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval
        Evaluation", CIKM 2007.

    Example:
        >>> randomisation_test([0.9, 0.8, 0.7, 0.9], [0.5, 0.6, 0.6, 0.7]).p_value
        0.125
    """
    differences = _differences(first, second)
    observed = float(differences.mean())

    def difference(swaps: npt.NDArray[np.bool_]) -> FloatArray:
        return np.asarray((1.0 - 2.0 * swaps) @ differences / len(differences), dtype=np.float64)

    p_value = _randomisation_p(observed, difference, len(differences), resamples, seed)
    return PairedTest(observed, p_value, len(differences), observed)


def corpus_randomisation_test(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    measure: CorpusMeasure,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """The paired randomisation test of a corpus-level measure: the systems swap questions at random.

    A swapped question's sufficient statistics change sides, and the measure is computed anew from the sums. With
    several runs (the same number on both sides) a question is swapped in all of them at once, and the value of a side
    is the mean of its runs' measures.

    Args:
        first: shape (questions, statistics) or (runs, questions, statistics).
        second: the same shape, questions in the same order.
        measure: from summed statistics to values, e.g. `bleu1`.
        resamples: swap patterns to draw; all are tried where they are no more than this.
        seed: the same seed gives the same p-value.

    Returns:
        The difference of the measure and its p-value.

    Raises:
        UsageError: different shapes, no questions, or no resamples.

    Reference:
        Riezler & Maxwell, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT", 2005.

    Example:
        >>> from retgen.evaluate.bleu import bleu1
        >>> better, worse = [[2.0, 2.0, 2.0]] * 6, [[1.0, 2.0, 2.0]] * 6
        >>> corpus_randomisation_test(better, worse, bleu1).p_value
        0.03125
    """
    left, right = as_runs(first), as_runs(second)
    if left.shape != right.shape:
        raise UsageError(
            f"the randomisation test swaps questions between systems, so that both need as many runs and questions; "
            f"got shapes {left.shape} and {right.shape}"
        )
    questions = left.shape[1]

    def difference(swaps: npt.NDArray[np.bool_]) -> FloatArray:
        moved = weighted_sums(swaps, right - left)
        one = left.sum(axis=1)[:, None] + moved
        other = right.sum(axis=1)[:, None] - moved
        return np.asarray((measure(one) - measure(other)).mean(axis=0), dtype=np.float64)

    observed = float(difference(np.zeros((1, questions), dtype=np.bool_))[0])
    return PairedTest(observed, _randomisation_p(observed, difference, questions, resamples, seed), questions, observed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests of one family.

    Args:
        p_values: one per test, in [0, 1].

    Returns:
        Adjusted p-values in the same order: reject where they are at most the level of the whole family.

    Raises:
        UsageError: a value outside [0, 1].

    Reference:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    for p_value in p_values:
        if not 0.0 <= p_value <= 1.0:
            raise UsageError(f"a p-value lies between 0 and 1; got {p_value}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def _differences(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape or not left.size:
        raise UsageError(
            f"a paired test needs one value per question on both sides; got shapes {left.shape} and {right.shape}"
        )
    return np.asarray(left - right, dtype=np.float64)


def _randomisation_p(
    observed: float,
    difference: Callable[[npt.NDArray[np.bool_]], FloatArray],
    questions: int,
    resamples: int,
    seed: int,
) -> float:
    if resamples < 1:
        raise UsageError(f"a randomisation test needs at least one resample; got {resamples}")
    # Patterns as extreme as the observed one must count although their sums round differently.
    threshold = abs(observed) * (1 - 1e-9) - 1e-13
    if questions < 31 and 2**questions <= resamples:
        patterns = np.arange(2**questions)[:, None] >> np.arange(questions) & 1
        return float(np.mean(np.abs(difference(patterns.astype(np.bool_))) >= threshold))
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // questions)
    extreme = 0
    for start in range(0, resamples, block):
        swaps = generator.random((min(block, resamples - start), questions)) < 0.5
        extreme += int(np.count_nonzero(np.abs(difference(swaps)) >= threshold))
    return (1 + extreme) / (1 + resamples)
