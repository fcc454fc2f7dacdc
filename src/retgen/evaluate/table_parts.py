"""What a table of results is made of: columns, rows, sections, and how one value is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from retgen.errors import UsageError

Value = float | int | str | None
"""What a cell may hold: a number, a text shown as it is, or None where there is nothing to show."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        key: the name its values have in a row, e.g. ``"MRR@10"``.
        header: what is shown; the key by default.
        decimals: of a float. Integers and texts are shown as they are.
        scale: values are multiplied by this when shown, e.g. 100 for points. CSV and JSON keep them as they are.
        best: which value is bold: the highest (``"max"``), the lowest (``"min"``, e.g. for times), or none.
    """

    key: str
    header: str | None = None
    decimals: int = 3
    scale: float = 1.0
    best: Literal["max", "min"] | None = "max"


@dataclass(frozen=True, slots=True)
class Row:
    """One system.

    Args:
        name: what is shown on the left.
        values: column key → value. Columns it lacks are shown as a dash, keys without a column are not shown.
        std: column key → standard deviation over seeds, shown behind ±.
        marks: column key → footnote marks, e.g. ``{"MRR@10": "†"}``; the key ``""`` marks the name.
        ranked: whether it takes part in "best"; False for published numbers and controls beside ours.
    """

    name: str
    values: Mapping[str, Value]
    std: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    ranked: bool = True

    @classmethod
    def over_seeds(
        cls,
        name: str,
        seeds: Sequence[Mapping[str, float]],
        *,
        marks: Mapping[str, str] | None = None,
        ranked: bool = True,
    ) -> Row:
        """A row of means over training seeds.

        Args:
            name: what is shown on the left.
            seeds: one mapping from column key to value per seed, with the same keys.
            marks: as in `Row`.
            ranked: as in `Row`.

        Returns:
            The row with means and, from two seeds on, sample standard deviations (n − 1).

        Raises:
            UsageError: no seeds, or seeds with different keys.

        Example:
            >>> row = Row.over_seeds("ours", [{"EM": 0.4}, {"EM": 0.6}])
            >>> row.values["EM"], round(row.std["EM"], 3)
            (0.5, 0.141)
        """
        if not seeds:
            raise UsageError(f"row {name!r} has no seeds")
        keys = list(seeds[0])
        if any(set(seed) != set(keys) for seed in seeds):
            raise UsageError(f"the seeds of row {name!r} have different columns")
        columns = {key: [float(seed[key]) for seed in seeds] for key in keys}
        return cls(
            name,
            {key: fmean(values) for key, values in columns.items()},
            std={key: stdev(values) for key, values in columns.items()} if len(seeds) > 1 else {},
            marks=dict(marks or {}),
            ranked=ranked,
        )


@dataclass(frozen=True, slots=True)
class Section:
    """A labelled separator: the rows after it belong together."""

    label: str


def number_of(value: Value) -> float | None:
    """The value as a finite number; None where it is a text, missing, infinite or not a number."""
    if value is None or isinstance(value, str | bool) or not math.isfinite(value):
        return None
    return float(value)


def plain_value(value: Value) -> Value:
    """The value as JSON and CSV can hold it: None where it is infinite or not a number."""
    return value if isinstance(value, str) or number_of(value) is not None else None


def shown(column: Column, value: Value) -> str:
    """The value as a text, rounded and scaled as its column says; empty where there is nothing to show."""
    if isinstance(value, str):
        return value
    number = number_of(value)
    if number is None:
        return ""
    if isinstance(value, int) and column.scale == 1.0:
        return str(value)
    # Adding zero turns −0.000 into 0.000.
    return f"{round(number * column.scale, column.decimals) + 0.0:.{column.decimals}f}"


def best_shown(column: Column, rows: Sequence[Row]) -> str | None:
    """The best of the rows' numbers, as it is shown; None where fewer than two compete.

    Compared as shown, so that two rows with the same digits are equally best.
    """
    values = [row.values.get(column.key) for row in rows if row.ranked]
    texts = [shown(column, value) for value in values if number_of(value) is not None]
    if column.best is None or len(texts) < 2:
        return None
    return (max if column.best == "max" else min)(texts, key=float)
