"""Scores made probabilities: Platt scaling fitted on dev questions, and how well calibrated probabilities are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.types import FloatArray

_STEPS = 200
_PRECISION = 1e-10
_SAME = 1e-12
"""Scores that differ by no more, as a share of their size, are one score: the rest is rounding."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """p(right | score) = σ(slope · score + intercept).

    Args:
        slope: above 0 where higher scores are more often right.
        intercept: the log-odds at a score of 0.
        questions: that it was fitted on.

    Example:
        >>> Calibration(1.0, 0.0, 10).probability(0.0)
        0.5
    """

    slope: float
    intercept: float
    questions: int

    def probabilities(self, scores: npt.ArrayLike) -> FloatArray:
        """Of each score, in [0, 1]; the shape stays."""
        return _sigmoid(self.slope * np.asarray(scores, dtype=np.float64) + self.intercept)

    def probability(self, score: float) -> float:
        """Of one score."""
        return float(self.probabilities(score))


def fit_calibration(scores: npt.ArrayLike, right: npt.ArrayLike) -> Calibration:
    """Platt scaling: the logistic regression of being right on the score, by maximum likelihood.

    Targets are drawn a little inwards, as Platt does, so that scores that tell right from wrong without fail still give
    finite weights.

    Args:
        scores: (questions,) finite; of any scale, e.g. log-probabilities.
        right: (questions,) 1 where the answer is right, 0 where not, or a share between (such as F1).

    Raises:
        UsageError: fewer than two questions, a score that is not finite, or a share outside [0, 1].

    Reference:
        Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods",
        1999.

    Example:
        >>> fitted = fit_calibration([-3.0, -2.0, -1.0, -0.5], [0, 0, 1, 1])
        >>> fitted.slope > 0, fitted.probability(-0.1) > 0.5
        (True, True)
    """
    values, shares = _checked(scores, right)
    if len(values) < 2:
        raise UsageError("a calibration needs at least two questions", mend="Give more dev questions")
    if not np.isfinite(values).all():
        raise UsageError("a calibration needs scores that are finite numbers")
    positive = float(shares.sum())
    negative = len(shares) - positive
    targets = shares * (positive + 1) / (positive + 2) + (1 - shares) / (negative + 2)
    # On standardised scores, so that Newton's steps are as good for log-probabilities of -80 as for logits.
    centre, spread = float(values.mean()), float(values.std())
    if spread <= _SAME * max(1.0, float(np.abs(values).max())):
        share = float(targets.mean())
        return Calibration(0.0, float(np.log(share / (1 - share))), len(values))
    design = np.stack([(values - centre) / spread, np.ones(len(values))], axis=1)
    slope, intercept = _newton(design, targets)
    return Calibration(slope / spread, intercept - slope * centre / spread, len(values))


def expected_calibration_error(probabilities: npt.ArrayLike, right: npt.ArrayLike, *, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighed by the questions in them.

    Args:
        probabilities: (questions,) in [0, 1].
        right: (questions,) 1, 0, or a share between.
        bins: over [0, 1].

    Returns:
        In [0, 1]; 0 is perfectly calibrated.

    Raises:
        UsageError: no questions, or a value outside [0, 1].

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", 2017, section 2.

    Example:
        >>> expected_calibration_error([0.75, 0.75, 0.75, 0.75], [1, 1, 1, 0])
        0.0
    """
    values, shares = _checked(probabilities, right)
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise UsageError("a calibration error needs probabilities, in [0, 1], of at least one question")
    if bins < 1:
        raise UsageError(f"a calibration error needs at least one bin; got {bins}")
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    distance = np.bincount(place, weights=values - shares, minlength=bins)
    return float(np.abs(distance).sum() / len(values))


def _newton(design: FloatArray, targets: FloatArray) -> tuple[float, float]:
    """Weights of a logistic regression with soft targets; a step that does not help is halved."""
    weights = np.zeros(2)
    loss = _loss(design, targets, weights)
    for _ in range(_STEPS):
        predicted = _sigmoid(design @ weights)
        gradient = design.T @ (predicted - targets)
        curvature = (design * (predicted * (1 - predicted))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (new := _loss(design, targets, weights - size * step)) > loss and size > _PRECISION:
            size /= 2
        weights = weights - size * step
        if loss - new <= _PRECISION * max(1.0, abs(loss)) and float(np.abs(size * step).max()) < 1e-8:
            break
        loss = min(loss, new)
    return float(weights[0]), float(weights[1])


def _loss(design: FloatArray, targets: FloatArray, weights: FloatArray) -> float:
    logits = design @ weights
    return float((np.logaddexp(0.0, logits) - targets * logits).sum())


def _sigmoid(logits: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits))), dtype=np.float64)


def _checked(values: npt.ArrayLike, right: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    one, other = np.asarray(values, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise UsageError(f"one value per question is needed for both; got shapes {one.shape} and {other.shape}")
    if len(other) and not ((other >= 0) & (other <= 1)).all():
        raise UsageError("whether an answer is right is 0, 1 or a share between")
    return one, other
