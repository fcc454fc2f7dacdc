"""Bootstrap intervals over questions: of a mean, of a paired difference, and of corpus-level measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.types import FloatArray

CorpusMeasure = Callable[[FloatArray], FloatArray]
"""From summed statistics, shape (..., statistics), to values, shape (...); e.g. `bleu1`."""

# Resamples are drawn in blocks of at most this many numbers, so that memory does not grow with their number.
_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the percentile interval around it.

    Args:
        estimate: on the questions as they are.
        low: lower end.
        high: upper end.
        confidence: share of resamples between the two, e.g. 0.95.
    """

    estimate: float
    low: float
    high: float
    confidence: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


def bootstrap_mean(
    values: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile interval of a mean over questions.

    For a paired difference, give the differences per question: `bootstrap_difference` does.

    Args:
        values: shape (questions,).
        confidence: in (0, 1).
        resamples: 10,000 keeps the ends steady in the third digit of a standard error.
        seed: the same seed gives the same interval.

    Returns:
        The mean and its interval.

    Raises:
        UsageError: no values, or a confidence outside (0, 1).

    Reference:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Example:
        >>> interval = bootstrap_mean([0.0, 1.0, 1.0, 1.0])
        >>> interval.estimate, 0.75 in interval
        (0.75, True)
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size:
        raise UsageError(f"a bootstrap needs one value per question; got an array of shape {data.shape}")
    means = np.concatenate([data[rows].mean(axis=1) for rows in _resampled(data.size, resamples, seed)])
    return _interval(float(data.mean()), means, confidence)


def bootstrap_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of mean(first) − mean(second), questions drawn in pairs.

    Args:
        first: shape (questions,).
        second: shape (questions,), in the same order.
        confidence: in (0, 1).
        resamples: how many.
        seed: the same seed gives the same interval.

    Returns:
        The difference and its interval.

    Raises:
        UsageError: different lengths, no values, or a confidence outside (0, 1).
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape:
        raise UsageError(f"a paired difference needs as many values on both sides; got {left.shape} and {right.shape}")
    return bootstrap_mean(left - right, confidence=confidence, resamples=resamples, seed=seed)


def bootstrap_corpus(
    statistics: npt.ArrayLike,
    measure: CorpusMeasure,
    *,
    minus: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a corpus-level measure, or of a paired difference of it.

    Questions are drawn with replacement and the measure is computed anew from the drawn questions' statistics. With
    several runs the value is the mean of the runs' measures, on the same drawn questions.

    Args:
        statistics: shape (questions, statistics), or (runs, questions, statistics).
        measure: from summed statistics to values.
        minus: another system's statistics on the same questions, to be subtracted; its number of runs may differ.
        confidence: in (0, 1).
        resamples: how many.
        seed: the same seed gives the same interval.

    Returns:
        The measure (or difference) and its interval.

    Raises:
        UsageError: wrong shapes, different numbers of questions, or a confidence outside (0, 1).
    """
    sides = [as_runs(statistics)] + ([] if minus is None else [as_runs(minus)])
    questions = sides[0].shape[1]
    if any(side.shape[1:] != sides[0].shape[1:] for side in sides):
        raise UsageError(f"a paired difference needs the same questions; got shapes {[s.shape for s in sides]}")

    def value(rows: npt.NDArray[np.int64]) -> FloatArray:
        # How often each question was drawn, times its statistics: one matrix product instead of a gather.
        counts = np.apply_along_axis(np.bincount, 1, rows, minlength=questions)
        scores = [measure(weighted_sums(counts, side)).mean(axis=0) for side in sides]
        return np.asarray(scores[0] - scores[1] if len(scores) == 2 else scores[0], dtype=np.float64)

    estimate = float(value(np.arange(questions, dtype=np.int64)[None, :])[0])
    draws = np.concatenate([value(rows) for rows in _resampled(questions, resamples, seed)])
    return _interval(estimate, draws, confidence)


def as_runs(statistics: npt.ArrayLike) -> FloatArray:
    """Statistics of one or several runs as shape (runs, questions, statistics).

    Raises:
        UsageError: neither two nor three dimensions, or no questions.
    """
    data = np.asarray(statistics, dtype=np.float64)
    if data.ndim == 2:
        data = data[None]
    if data.ndim != 3 or not data.size:
        raise UsageError(f"a corpus-level measure needs statistics of shape (questions, statistics); got {data.shape}")
    return data


def weighted_sums(weights: npt.ArrayLike, statistics: FloatArray) -> FloatArray:
    """Sums over questions, each question weighted.

    Args:
        weights: shape (resamples, questions).
        statistics: shape (runs, questions, statistics).

    Returns:
        Shape (runs, resamples, statistics).
    """
    runs, questions, width = statistics.shape
    # All runs side by side: one product with few columns per run is several times slower.
    columns = statistics.transpose(1, 0, 2).reshape(questions, runs * width)
    sums = np.asarray(weights, dtype=np.float64) @ columns
    return np.ascontiguousarray(sums.reshape(-1, runs, width).transpose(1, 0, 2))


def _resampled(questions: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    if resamples < 1:
        raise UsageError(f"a bootstrap needs at least one resample; got {resamples}")
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // questions)
    for start in range(0, resamples, block):
        yield generator.integers(0, questions, size=(min(block, resamples - start), questions))


def _interval(estimate: float, draws: FloatArray, confidence: float) -> Interval:
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"the confidence must lie between 0 and 1; got {confidence}")
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high), confidence)
