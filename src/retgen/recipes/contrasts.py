"""Pairs of rows that a recipe holds against each other, whatever the baseline: e.g. a system and its control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from retgen.evaluate import Comparison
from retgen.evaluate.significance import holm
from retgen.evaluate.table import Table
from retgen.evaluate.table_parts import Column, Row, Value
from retgen.recipes.comparing import compared
from retgen.recipes.results import RowResult

if TYPE_CHECKING:
    from retgen.recipes.report import MergedRow

Pair = tuple[str, str]


def contrasted(
    systems: Mapping[str, list[RowResult]], pairs: Iterable[Pair], columns: Sequence[str], resamples: int
) -> dict[str, dict[Pair, Comparison]]:
    """Column → pair → its first row against its second. Holm's correction is over the pairs of one column.

    Args:
        systems: row → its results. Pairs of which a row is missing are left out.
        pairs: of rows; one that occurs twice is tested once.
        columns: that are tested, where they have values per question.
        resamples: of intervals.
    """
    found: dict[str, dict[Pair, Comparison]] = {}
    for row, other in dict.fromkeys(pairs):
        if row in systems and other in systems:
            alone = {row: systems[row], other: systems[other]}
            for column, tested in compared(alone, {row: other}, columns, resamples).items():
                found.setdefault(column, {})[row, other] = tested[row]
    return {column: _corrected(tests) for column, tests in found.items()}


def contrast_table(
    rows: Mapping[str, MergedRow],
    found: Mapping[str, Mapping[Pair, Comparison]],
    groups: Mapping[str, Sequence[Pair]],
) -> Table:
    """One line for each pair and column: difference, interval, corrected p-value, and which of the two is higher.

    Args:
        rows: by name, for their labels.
        found: what `contrasted` gave.
        groups: heading → the pairs that stand under it, where they were tested; an empty heading is not shown.
    """
    names = ("measure", "difference", "low", "high", "p", "questions", "higher")
    table = Table(
        [Column(name, decimals=4 if name == "p" else 3, best=None) for name in names],
        caption="Rows against each other, with 95 % bootstrap intervals over questions; p after Holm over the pairs of "
        "a measure; a tie where p is not below 0.05",
    )
    headings = {
        heading: [pair for pair in pairs if any(pair in tests for tests in found.values())]
        for heading, pairs in groups.items()
    }
    for heading, pairs in headings.items():
        if heading and pairs:
            table.add_section(heading)
        _add_lines(table, rows, found, pairs)
    return table


def _add_lines(
    table: Table,
    rows: Mapping[str, MergedRow],
    found: Mapping[str, Mapping[Pair, Comparison]],
    pairs: Iterable[Pair],
) -> None:
    for row, other in pairs:
        for measure, tests in found.items():
            if (test := tests.get((row, other))) is not None:
                first = rows[row].label if test.difference > 0 else rows[other].label
                values: dict[str, Value] = {
                    "measure": measure,
                    "difference": test.difference,
                    "low": test.interval.low,
                    "high": test.interval.high,
                    "p": test.p_adjusted,
                    "questions": test.num_questions,
                    "higher": first if test.is_significant() else "tie",
                }
                table.add_row(Row(f"{rows[row].label} − {rows[other].label}", values))


def _corrected(tests: Mapping[Pair, Comparison]) -> dict[Pair, Comparison]:
    adjusted = holm([test.p_value for test in tests.values()])
    return {pair: replace(test, p_adjusted=p) for (pair, test), p in zip(tests.items(), adjusted, strict=True)}
