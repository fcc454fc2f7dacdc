"""Puts two systems' values side by side, question by question, and several seeds into one mean per question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from retgen.errors import MismatchError, UsageError
from retgen.types import FloatArray

_Value = TypeVar("_Value")

PerQuestion = Mapping[str, float]
"""Question id → value of one measure."""
Statistics = Mapping[str, Sequence[float]]
"""Question id → sufficient statistics of one corpus-level measure, e.g. `bleu1_statistics`."""


def mean_over_seeds(seeds: Sequence[PerQuestion]) -> dict[str, float]:
    """The mean per question of several training runs.

    Tests and intervals are over questions, so that seeds must become one number per question first; how much seeds
    differ is told by the standard deviation of their means.

    Args:
        seeds: one mapping per run, over the same questions.

    Returns:
        Question id → mean, in the first run's order.

    Raises:
        UsageError: no runs.
        MismatchError: the runs differ in their questions.

    Example:
        >>> mean_over_seeds([{"q1": 0.0, "q2": 1.0}, {"q1": 1.0, "q2": 1.0}])
        {'q1': 0.5, 'q2': 1.0}
    """
    if not seeds:
        raise UsageError("there are no runs to average over")
    rows = [_in_order(list(seeds[0]), row) for row in seeds]
    return {question_id: sum(values) / len(values) for question_id, *values in zip(seeds[0], *rows, strict=True)}


def paired(first: PerQuestion, second: PerQuestion) -> tuple[FloatArray, FloatArray]:
    """Two systems' values on the same questions.

    Returns:
        Two arrays of shape (questions,), in the first system's order.

    Raises:
        MismatchError: the systems were scored on different questions.
    """
    order = list(first)
    left = np.asarray(_in_order(order, first), dtype=np.float64)
    return left, np.asarray(_in_order(order, second), dtype=np.float64)


def stacked(order: Sequence[str], seeds: Sequence[Statistics]) -> FloatArray:
    """Sufficient statistics of several runs.

    Args:
        order: the questions.
        seeds: one mapping per run, over exactly these questions.

    Returns:
        Shape (runs, questions, statistics).

    Raises:
        UsageError: no runs.
        MismatchError: a run has other questions.
    """
    if not seeds:
        raise UsageError("there are no runs to compare")
    return np.asarray([_in_order(order, row) for row in seeds], dtype=np.float64)


def _in_order(order: Sequence[str], values: Mapping[str, _Value]) -> list[_Value]:
    different = set(order).symmetric_difference(values)
    if different:
        raise MismatchError(
            f"two results are over different questions: {len(different)} occur in only one, e.g. {min(different)!r}",
            mend="Score all systems on the same questions, with the same query list",
        )
    return [values[question_id] for question_id in order]
