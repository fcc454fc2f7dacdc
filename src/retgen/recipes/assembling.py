"""A row's result from what its stages reported and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from retgen.errors import UsageError
from retgen.recipes.context import Number, StageReport
from retgen.recipes.plan import PlannedRow, PlannedStage
from retgen.recipes.results import RowResult
from retgen.recipes.spec import ColumnSpec, Recipe
from retgen.recipes.work import Record, read_report

_Value = TypeVar("_Value")


def make_result(
    recipe: Recipe, row: PlannedRow, records: Sequence[tuple[PlannedStage, Record]], folders: Sequence[Path]
) -> RowResult:
    """A row's result from what its stages reported and cost.

    Args:
        recipe: it belongs to.
        row: and its seed.
        records: of all stages it needs.
        folders: of those whose reports make it.

    Raises:
        UsageError: two of the stages report the same value.
    """
    merged = StageReport()
    where = recipe.where("rows", row.name)
    for report in map(read_report, folders):
        _add(merged.values, report.values, row.name, where)
        _add(merged.per_question, report.per_question, row.name, where)
        _add(merged.statistics, report.statistics, row.name, where)
    for column in recipe.columns:
        if column.cost is not None:
            merged.values[column.key] = _cost(column, records)
    questions = [*map(len, merged.per_question.values()), *map(len, merged.statistics.values())]
    return RowResult(
        recipe=recipe.name,
        row=row.name,
        label=recipe.rows[row.name].label or row.name,
        seed=row.seed,
        scale=recipe.scale,
        key=row.key,
        values=merged.values,
        questions=max(questions, default=0),
        stages={
            record.name: {"key": record.key, "finished": record.finished, **_rounded(asdict(record.costs))}
            for _, record in records
        },
        made_by=_makers([record for _, record in records]),
        report=merged,
    )


def _add(kept: dict[str, _Value], new: Mapping[str, _Value], row: str, where: str) -> None:
    for name in new:
        if name in kept:
            raise UsageError(
                f"two of the stages of the row {row!r} report {name!r}",
                where=where,
                mend="Let the row need one of them",
            )
    kept.update(new)


def _cost(column: ColumnSpec, records: Sequence[tuple[PlannedStage, Record]]) -> Number:
    assert column.cost is not None
    over = set(column.cost.over)
    counted: list[float | int | None] = [
        getattr(record.costs, column.cost.of) for planned, record in records if not over or over & planned.handles
    ]
    known = [value for value in counted if value is not None]
    if not known or len(known) < len(counted):
        return None
    return round(sum(known), 3) if column.cost.of.endswith("seconds") else max(known)


def _rounded(costs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in costs.items()
        if value is not None
    }


def _makers(records: Sequence[Record]) -> list[dict[str, Any]]:
    makers: list[dict[str, Any]] = []
    for record in records:
        for maker in makers:
            if {key: value for key, value in maker.items() if key != "stages"} == record.provenance:
                maker["stages"].append(record.name)
                break
        else:
            makers.append({**record.provenance, "stages": [record.name]})
    return makers
