"""Calibrated probabilities and selective answering: parity with scikit-learn, held-out gain, curves by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from retgen.errors import UsageError
from retgen.evaluate import Calibration, expected_calibration_error, fit_calibration, risk_coverage


def simulated(questions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of answers, and whether they are right: far less often than the probabilities say."""
    chance = np.random.default_rng(seed)
    scores = -chance.gamma(1.0, 0.7, questions)
    right = chance.random(questions) < 1 / (1 + np.exp(-(3.0 * scores + 0.5)))
    return scores, right.astype(float)


def test_it_is_scikit_learns_logistic_regression_on_platts_targets() -> None:
    scores, right = simulated(300, 0)
    positive, negative = right.sum(), (1 - right).sum()
    targets = np.where(right > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # Each question twice: as right and as wrong, weighed by its target.
    peer = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(
        np.tile(scores, 2)[:, None], np.repeat([1, 0], len(scores)), np.concatenate([targets, 1 - targets])
    )
    fitted = fit_calibration(scores, right)
    assert fitted.slope == pytest.approx(peer.coef_[0, 0], rel=1e-4)
    assert fitted.intercept == pytest.approx(peer.intercept_[0], abs=1e-4)
    np.testing.assert_allclose(fitted.probabilities(scores), peer.predict_proba(scores[:, None])[:, 1], atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_improves_the_error_on_held_out_questions(seed: int) -> None:
    fitted = fit_calibration(*simulated(400, seed))
    scores, right = simulated(2000, 100 + seed)
    raw = expected_calibration_error(np.exp(scores), right)
    assert expected_calibration_error(fitted.probabilities(scores), right) < 0.5 * raw


def test_the_true_weights_are_found() -> None:
    fitted = fit_calibration(*simulated(200_000, 1))
    assert fitted.slope == pytest.approx(3.0, abs=0.1)
    assert fitted.intercept == pytest.approx(0.5, abs=0.03)


@given(st.lists(st.tuples(st.floats(-200, 200), st.floats(0, 1)), min_size=2, max_size=30))
def test_any_scores_give_probabilities(rows: list[tuple[float, float]]) -> None:
    scores, right = zip(*rows, strict=True)
    fitted = fit_calibration(scores, right)
    values = fitted.probabilities(scores)
    assert np.isfinite([fitted.slope, fitted.intercept]).all()
    assert ((values >= 0) & (values <= 1)).all()
    # A logistic regression with an intercept is right on average, where Platt's targets are.
    positive = sum(right)
    negative = len(right) - positive
    targets = [y * (positive + 1) / (positive + 2) + (1 - y) / (negative + 2) for y in right]
    assert float(values.mean()) == pytest.approx(float(np.mean(targets)), abs=1e-3)


def test_scores_that_never_fail_give_finite_weights() -> None:
    fitted = fit_calibration([-4.0, -3.0, -1.0, -0.5], [0, 0, 1, 1])
    assert 0 < fitted.slope < 100
    assert fitted.probability(-10.0) < 0.05
    same = fit_calibration([1.0, 1.0, 1.0], [1, 1, 0])
    assert same.slope == 0.0
    assert same.probability(5.0) == pytest.approx((2 * 3 / 4 + 1 / 3) / 3)


def test_errors_of_calibration_by_hand() -> None:
    # Two bins of [0, 1]: |0.3 − 0.5| and |0.9 − 0.5|, two questions each.
    assert expected_calibration_error([0.2, 0.4, 0.8, 1.0], [1, 0, 1, 0], bins=2) == pytest.approx(0.3)
    assert expected_calibration_error([1.0, 0.0], [1, 0]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [0.0, 0.5]) == pytest.approx(0.75)


def test_a_curve_by_hand() -> None:
    curve = risk_coverage([0.2, 0.9, 0.5, 0.5], [0, 1, 1, 0])
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.2]
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0.0, 1 / 3, 0.5])
    # One, two, three, four answered; which of the two in the middle comes first is a coin's toss.
    assert curve.area == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)
    assert curve.threshold(0.4) == 0.5
    assert curve.threshold(0.5) == 0.2
    assert curve.threshold(0.1) == 0.9
    assert risk_coverage([1.0], [0]).threshold(0.5) is None
    assert curve.at(0.5) == (0.75, pytest.approx(1 / 3))
    assert curve.at(0.95) == (0.0, 0.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.floats(0, 1))
def test_a_threshold_keeps_its_risk_and_none_covers_more(rows: list[tuple[float, bool]], risk: float) -> None:
    confidences, right = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    curve = risk_coverage(confidences, right)
    assert curve.risk[-1] == pytest.approx(1 - right.mean())
    threshold = curve.threshold(risk)
    allowed = [t for t in np.unique(confidences) if 1 - right[confidences >= t].mean() <= risk + 1e-12]
    assert threshold == (min(allowed) if allowed else None)
    if threshold is not None:
        coverage, found = curve.at(threshold)
        assert coverage == pytest.approx((confidences >= threshold).mean())
        assert found == pytest.approx(1 - right[confidences >= threshold].mean())


def test_better_confidences_have_a_smaller_area() -> None:
    scores, right = simulated(2000, 3)
    best, ours, worst = (risk_coverage(order, right).area for order in (right, scores, -right))
    assert best < ours < worst


def test_bad_input_is_named() -> None:
    for call in (
        lambda: fit_calibration([1.0], [1]),
        lambda: fit_calibration([1.0, np.inf], [1, 0]),
        lambda: fit_calibration([1.0, 2.0], [1, 2]),
        lambda: fit_calibration([1.0, 2.0], [1]),
        lambda: expected_calibration_error([], []),
        lambda: expected_calibration_error([1.5], [1]),
        lambda: expected_calibration_error([0.5], [1], bins=0),
        lambda: risk_coverage([], []),
        lambda: risk_coverage([np.nan], [1]),
        lambda: risk_coverage([0.5], [1]).threshold(2.0),
    ):
        with pytest.raises(UsageError):
            call()
    assert Calibration(1.0, 0.0, 2).probabilities([-1000.0, 1000.0]).tolist() == [0.0, 1.0]
