"""What a recipe says: its data, stages, rows, columns and scales. Reading one is `retgen.recipes.loading`'s work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from retgen.recipes.yaml_source import YamlSource

SCALES = ("tiny", "local", "gpu", "full")
"""Sizes of one recipe: a smoke test, two cores within the hour, one accelerator, the paper's own."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=80)]
"""A name that can be part of a file's name."""
CostMeasure = Literal[
    "wall_seconds", "cpu_seconds", "peak_memory_bytes", "memory_growth_bytes", "peak_gpu_memory_bytes"
]


def _roles(value: object) -> object:
    # A list of stages: each plays the role of its own name.
    return {str(name): name for name in value} if isinstance(value, list) else value


def _first_seeds(value: object) -> object:
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_group(value: object) -> object:
    # Pairs without headings are one group without a heading.
    return {"": value} if isinstance(value, list) else value


def _column(value: object) -> object:
    return {"key": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSpec(_Strict):
    """The folder the user gives with ``--data``.

    Args:
        about: what it holds and where it can be had; shown when it is missing.
        files: that must be there: paths or patterns inside the folder.
    """

    about: str = ""
    files: list[str] = []


class Cost(_Strict):
    """A column that shows what a row cost.

    Args:
        of: what is shown: seconds are added up over the stages, of memory the largest stage counts.
        over: names, kinds or tags of the stages that count; all that the row needs by default.
    """

    of: CostMeasure
    over: list[str] = []


class ColumnSpec(_Strict):
    """One column of the table: `retgen.evaluate.table.Column`, and for a cost, which.

    Without ``cost`` the value is the one the row's stages reported under the key.
    """

    key: str
    header: str | None = None
    decimals: Annotated[int, Field(ge=0)] = 3
    scale: float = 1.0
    best: Literal["max", "min"] | None = "max"
    cost: Cost | None = None


class StageSpec(_Strict):
    """One step of the work.

    Args:
        kind: the registered function that does it.
        params: its arguments; they win over the recipe's ``defaults`` for the kind.
        needs: role → stage; a list of stages gives each the role of its own name.
        data: files or patterns in the data folder that it reads. Their content is part of its key.
        tags: words by which cost columns find it, besides its name and kind.
        seeded: whether it depends on the seed; the kind says so by default.
        isolated: whether it runs in a process of its own, so that its peak memory is its own; the kind says so by
            default.
    """

    kind: str
    params: dict[str, Any] = {}
    needs: Annotated[dict[str, str], BeforeValidator(_roles)] = {}
    data: list[str] = []
    tags: list[str] = []
    seeded: bool | None = None
    isolated: bool | None = None


class RowSpec(_Strict):
    """One row of the table.

    Args:
        label: what is shown; the row's name by default.
        needs: the stages whose reported values make the row.
        section: rows of one section stand together under its heading.
        published: column → number from the paper, shown in a row of its own below. A row may have nothing else.
        ranked: whether it competes for "best"; False for controls.
        optional: leave the row out, and say so, where one of its stages lacks an installable extra.
        note: a footnote.
    """

    label: str = ""
    needs: list[str] = []
    section: str = ""
    published: dict[str, float | str] = {}
    ranked: bool = True
    optional: bool = False
    note: str = ""


class Recipe(_Strict):
    """A table and the work behind it.

    Args:
        name: of the recipe; result files carry it.
        description: the table's caption.
        data: what ``--data`` must hold; none where the recipe brings its own.
        modules: Python modules that register the stages' kinds.
        seeds: training seeds; a number n stands for 0 … n − 1.
        baseline: the row that the others are tested against; or section → row, where the sections are over different
            questions, and only the rows of a section are tested against its own.
        contrasts: pairs of rows that are also held against each other, e.g. a system and its control; or heading →
            pairs, which stand under it.
        defaults: kind → arguments of every stage of the kind.
        stages: name → stage.
        rows: name → row, in the table's order.
        columns: of the table.
        notes: below the table.
        published_source: where the published numbers are from.
    """

    name: Name
    description: str = ""
    data: DataSpec | None = None
    modules: list[str] = []
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_first_seeds), Field(min_length=1)] = [0]
    baseline: str | dict[str, str] | None = None
    contrasts: Annotated[dict[str, list[tuple[str, str]]], BeforeValidator(_one_group)] = {}
    defaults: dict[str, dict[str, Any]] = {}
    stages: dict[Name, StageSpec] = {}
    rows: Annotated[dict[Name, RowSpec], Field(min_length=1)]
    columns: Annotated[list[Annotated[ColumnSpec, BeforeValidator(_column)]], Field(min_length=1)]
    notes: list[str] = []
    published_source: str = ""

    _scale: str = PrivateAttr(default="local")
    _yaml: YamlSource | None = PrivateAttr(default=None)

    @property
    def scale(self) -> str:
        """The scale whose block was merged in."""
        return self._scale

    def where(self, *place: str | int) -> str:
        """A place in the recipe, for errors: its file, line and keys."""
        if self._yaml is not None:
            return self._yaml.where_at_scale(place, self._scale)
        return f"{self.name} [{'.'.join(map(str, place))}]" if place else self.name

    def params_of(self, stage: str) -> Mapping[str, Any]:
        """A stage's arguments, the kind's defaults filled in."""
        spec = self.stages[stage]
        return {**self.defaults.get(spec.kind, {}), **spec.params}
