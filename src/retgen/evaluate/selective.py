"""Answering only what one is sure of: risk against coverage, and the confidence below which to abstain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.types import FloatArray


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """What answering the surest questions costs, from the surest one to all of them.

    Questions of equal confidence are answered together or not at all, so they make one point.

    Args:
        thresholds: (points,) falling: a question is answered if its confidence is at least this.
        coverage: (points,) share of the questions answered, in (0, 1]; the last is 1.
        risk: (points,) mean loss over those answered: 1 − how right they are, in [0, 1].
        area: under the curve (AURC), in [0, 1]: the mean risk of answering the surest one, two, … questions, where
            equally sure ones come in random order. Lower is better.
    """

    thresholds: FloatArray
    coverage: FloatArray
    risk: FloatArray
    area: float

    def threshold(self, risk: float) -> float | None:
        """The confidence from which on to answer, so that as many as possible are at a risk of at most ``risk``.

        The risk is that of the questions the curve was made of; on others it may be higher. None where no threshold
        keeps it: abstain always.

        Raises:
            UsageError: the risk is not in [0, 1].
        """
        if not 0.0 <= risk <= 1.0:
            raise UsageError(f"a risk lies in [0, 1], not at {risk}")
        kept = np.flatnonzero(self.risk <= risk + 1e-12)
        return float(self.thresholds[kept[-1]]) if len(kept) else None

    def at(self, threshold: float) -> tuple[float, float]:
        """Coverage and risk of answering from a confidence on; (0, 0) where nothing is answered."""
        kept = np.flatnonzero(self.thresholds >= threshold)
        return (float(self.coverage[kept[-1]]), float(self.risk[kept[-1]])) if len(kept) else (0.0, 0.0)


def risk_coverage(confidences: npt.ArrayLike, right: npt.ArrayLike) -> RiskCoverage:
    """The risk–coverage curve of a set of answers.

    Args:
        confidences: (questions,) higher is surer; probabilities or any score. −∞ is never sure.
        right: (questions,) 1 where the answer is right, 0 where not, or a share between (such as F1).

    Raises:
        UsageError: no questions, lengths that differ, a confidence that is not a number, or a share outside [0, 1].

    Reference:
        Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", 2017.

    Example:
        >>> curve = risk_coverage([0.9, 0.8, 0.3, 0.2], [1, 1, 0, 1])
        >>> curve.threshold(0.0), curve.at(0.8), round(float(curve.risk[-1]), 2)
        (0.8, (0.5, 0.0), 0.25)
    """
    sure, shares = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.ndim != 1 or not sure.size or sure.shape != shares.shape:
        raise UsageError(f"one confidence and one value per question are needed; got {sure.shape} and {shares.shape}")
    if np.isnan(sure).any() or not ((shares >= 0) & (shares <= 1)).all():
        raise UsageError("confidences must be numbers, and whether an answer is right 0, 1 or a share between")
    order = np.argsort(-sure, kind="stable")
    sure, losses = sure[order], 1.0 - shares[order]
    last = np.append(sure[1:] != sure[:-1], True)
    answered = np.arange(1, len(sure) + 1)
    group = np.cumsum(last) - last
    expected = (np.bincount(group, weights=losses) / np.bincount(group))[group]
    area = float((np.cumsum(expected) / answered).mean())
    return RiskCoverage(sure[last], (answered / len(sure))[last], (np.cumsum(losses) / answered)[last], area)
