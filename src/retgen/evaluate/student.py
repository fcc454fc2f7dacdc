"""The tail of Student's t distribution, through the regularised incomplete beta function."""

from __future__ import annotations

import math

_TINY = 1e-300
_PRECISION = 1e-15
_STEPS = 10_000


def t_two_sided(t: float, degrees: float) -> float:
    """Probability that |T| is at least ``|t|`` for Student's T.

    Args:
        t: the statistic; infinity gives 0.
        degrees: degrees of freedom, above 0.

    Returns:
        A probability in [0, 1], to about 1e-12 relative.

    Reference:
        Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.1.

    Example:
        >>> round(t_two_sided(2.0, 10), 6)
        0.073388
    """
    if math.isinf(t):
        return 0.0
    square = t * t
    return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square))


def incomplete_beta(a: float, b: float, x: float, complement: float | None = None) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction.

    Args:
        a: above 0.
        b: above 0.
        x: in [0, 1].
        complement: 1 − x, where it is known more precisely than the subtraction would give it.

    Returns:
        A value in [0, 1].

    Reference:
        Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.5.8, evaluated by Lentz' method.

    Example:
        >>> round(incomplete_beta(2.0, 3.0, 0.5), 6)
        0.6875
    """
    rest = 1.0 - x if complement is None else complement
    if x <= 0.0:
        return 0.0
    if rest <= 0.0:
        return 1.0
    log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    factor = math.exp(log_factor)
    # The fraction converges fast on one side of the mean only; the other side is its mirror image.
    if x <= (a + 1.0) / (a + b + 2.0):
        return min(1.0, factor * _fraction(a, b, x) / a)
    return max(0.0, 1.0 - factor * _fraction(b, a, rest) / b)


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + numerator * d)
            c = _away_from_zero(1.0 + numerator / c)
            value *= c * d
        if abs(c * d - 1.0) < _PRECISION:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
