"""Results of a recipe: one per row and seed, and the table they belong to; merged over runs. Files: `result_files`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retgen.errors import MismatchError, UsageError
from retgen.recipes.context import Number, StageReport
from retgen.recipes.spec import ColumnSpec, Recipe, RowSpec

RESULT_FORMAT = "retgen-result"
TABLE_FORMAT = "retgen-table"
VERSION = 1


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row's values for one seed.

    Args:
        recipe: its name.
        row: its name.
        label: what is shown.
        seed: None where all seeds share it.
        scale: it was run at.
        key: equal for the seeds of one system, and different after anything but the seed changed.
        values: column → number or text, costs included.
        questions: how many the values per question are over; 0 where there are none.
        stages: name → key, finishing time and costs.
        made_by: command, commit, versions and machine, each with the names of the stages it made.
        report: values per question; empty where they were left behind.
    """

    recipe: str
    row: str
    label: str
    seed: int | None
    scale: str
    key: str
    values: Mapping[str, Number]
    questions: int
    stages: Mapping[str, Mapping[str, Any]]
    made_by: Sequence[Mapping[str, Any]]
    report: StageReport = field(default_factory=StageReport, repr=False)

    @property
    def file_name(self) -> str:
        """Of its JSON."""
        return f"{self.row}{'' if self.seed is None else f'-seed{self.seed}'}.json"

    def to_json(self) -> str:
        """The small JSON, without the values per question."""
        content = {key: value for key, value in asdict(self).items() if key != "report"}
        return (
            json.dumps({"format": RESULT_FORMAT, "format_version": VERSION, **content}, indent=1, ensure_ascii=False)
            + "\n"
        )


@dataclass(frozen=True, slots=True)
class Definition:
    """The table that results belong to: what a recipe says of it."""

    name: str
    description: str
    scale: str
    baseline: str | Mapping[str, str] | None
    columns: tuple[ColumnSpec, ...]
    rows: Mapping[str, RowSpec]
    notes: tuple[str, ...]
    published_source: str
    contrasts: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe) -> Definition:
        """The table of a recipe."""
        return cls(
            recipe.name,
            recipe.description,
            recipe.scale,
            recipe.baseline,
            tuple(recipe.columns),
            recipe.rows,
            tuple(recipe.notes),
            recipe.published_source,
            {heading: tuple(pairs) for heading, pairs in recipe.contrasts.items()},
        )

    def to_json(self) -> str:
        """As JSON."""
        content = {
            **{name: getattr(self, name) for name in ("name", "description", "scale", "baseline")},
            "columns": [column.model_dump() for column in self.columns],
            "rows": {name: row.model_dump() for name, row in self.rows.items()},
            "notes": self.notes,
            "published_source": self.published_source,
            "contrasts": self.contrasts,
        }
        return (
            json.dumps({"format": TABLE_FORMAT, "format_version": VERSION, **content}, indent=1, ensure_ascii=False)
            + "\n"
        )


@dataclass(frozen=True, slots=True)
class Results:
    """Results of one recipe, of one or several runs.

    Args:
        definition: of the table.
        rows: in no particular order; one for each row and seed.
    """

    definition: Definition
    rows: tuple[RowResult, ...]

    @classmethod
    def merge(cls, parts: Sequence[Results], names: Sequence[str | Path]) -> Results:
        """Results of several runs as one.

        A row and seed that occurs twice must have the same values (costs may differ): the first is kept.

        Args:
            parts: results of each run.
            names: what to call each in errors, e.g. their folders.

        Raises:
            UsageError: there are none.
            MismatchError: they are of different recipes or scales, the seeds of one row were made with different
                settings, or the same row and seed has two values.
        """
        if not parts:
            raise UsageError("no results were given")
        definition = parts[0].definition
        for part, name in zip(parts, names, strict=True):
            definition = _joined(definition, part.definition, name)
        costs = {column.key for column in definition.columns if column.cost is not None}
        kept: dict[tuple[str, int | None], RowResult] = {}
        systems: dict[str, tuple[RowResult, str | Path]] = {}
        for part, name in zip(parts, names, strict=True):
            for result in part.rows:
                first, first_name = systems.setdefault(result.row, (result, name))
                if result.key != first.key:
                    raise MismatchError(
                        f"{result.file_name} was made with other settings, code or data than {first.file_name} "
                        f"of {first_name}",
                        where=name,
                        mend="Run the row's seeds again with one recipe, or leave one of the two out",
                    )
                twin = kept.setdefault((result.row, result.seed), result)
                if _measured(twin, costs) != _measured(result, costs):
                    raise MismatchError(
                        f"{result.file_name} has other values here than in {first_name}",
                        where=name,
                        mend="Leave one of the two out",
                    )
        return cls(definition, tuple(kept.values()))

    def of(self, row: str) -> list[RowResult]:
        """A row's results, by seed."""
        return sorted((result for result in self.rows if result.row == row), key=lambda result: result.seed or 0)

    @property
    def seeds(self) -> list[int]:
        """All seeds that occur."""
        return sorted({result.seed for result in self.rows if result.seed is not None})


def _measured(result: RowResult, costs: set[str]) -> dict[str, Number]:
    return {key: value for key, value in result.values.items() if key not in costs}


def _joined(first: Definition, other: Definition, name: str | Path) -> Definition:
    for what, one, two in (("recipe", first.name, other.name), ("scale", first.scale, other.scale)):
        if one != two:
            raise MismatchError(
                f"these are results of the {what} {two!r}, and the others of {one!r}",
                where=name,
                mend=f"Make one report for each {what}",
            )
    known = {column.key for column in first.columns}
    return Definition(
        first.name,
        first.description,
        first.scale,
        first.baseline,
        (*first.columns, *(column for column in other.columns if column.key not in known)),
        {**first.rows, **{row: spec for row, spec in other.rows.items() if row not in first.rows}},
        tuple(dict.fromkeys((*first.notes, *other.notes))),
        first.published_source or other.published_source,
        {
            heading: tuple(dict.fromkeys((*first.contrasts.get(heading, ()), *other.contrasts.get(heading, ()))))
            for heading in {**first.contrasts, **other.contrasts}
        },
    )
