"""Results on disk.

results/table.json                             columns, rows and notes of the table
results/<row>-seed<k>.json                     or <row>.json where no stage of it depends on the seed
results/per-question/<row>-seed<k>.json.gz     values per question; may be left behind when the rest is published
results/earlier/                               results that were made with other settings
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retgen.errors import FormatError, UsageError
from retgen.recipes.results import RESULT_FORMAT, TABLE_FORMAT, VERSION, Definition, Results, RowResult
from retgen.recipes.spec import ColumnSpec, Recipe, RowSpec
from retgen.recipes.work import pack
from retgen.store import write_atomic

# No row can be called this: names begin with a letter or a digit.
_DEFINITION = "_table.json"
_PER_QUESTION = "per-question"


def load_results(*folders: str | Path) -> Results:
    """Read and merge the results of several folders: of runs, or the ``results`` folders themselves.

    Raises:
        UsageError: a folder holds no results.
        FormatError: a file is not a result.
        MismatchError: they do not belong together, see `Results.merge`.
    """
    parts = []
    for folder in map(Path, folders):
        inside = folder / "results"
        place = inside if (inside / _DEFINITION).is_file() else folder
        if not (place / _DEFINITION).is_file():
            raise UsageError(
                "this folder holds no results of a recipe",
                where=folder,
                mend=f"Give the folder that retgen run wrote to, or its results folder, which has a {_DEFINITION}",
            )
        rows = tuple(_read_result(path) for path in sorted(place.glob("*.json")) if path.name != _DEFINITION)
        parts.append(Results(_read_definition(place / _DEFINITION), rows))
    return Results.merge(parts, folders)


def write_definition(folder: Path, recipe: Recipe) -> None:
    """Write what the table looks like."""
    write_atomic(folder / _DEFINITION, Definition.of(recipe).to_json())


def set_aside(folder: Path, current: Mapping[str, tuple[str, bool]]) -> list[tuple[str, str]]:
    """Move results that were made with other settings aside, so that no table mixes them with new ones.

    Args:
        folder: of results.
        current: row → its key, and whether all seeds share it. Rows that are not here are left alone.

    Returns:
        Row and name of each file that was moved.
    """
    moved = []
    for path in sorted(folder.glob("*.json")):
        if path.name == _DEFINITION:
            continue
        old = _read_result(path)
        if old.row in current and (old.key, old.seed is None) != current[old.row]:
            earlier = folder / "earlier"
            earlier.mkdir(exist_ok=True)
            path.replace(earlier / f"{path.stem}-{old.key[:8]}.json")
            _beside(path).unlink(missing_ok=True)
            moved.append((old.row, path.name))
    return moved


def write_result(folder: Path, result: RowResult) -> None:
    """Write a result, and the values per question beside it."""
    path = folder / result.file_name
    _beside(path).unlink(missing_ok=True)
    if result.questions:
        write_atomic(_beside(path), pack(result.report.per_question, result.report.statistics))
    write_atomic(path, result.to_json())


def _beside(path: Path) -> Path:
    return path.parent / _PER_QUESTION / f"{path.name}.gz"


def _read_definition(path: Path) -> Definition:
    content = _read_json(path, TABLE_FORMAT)
    try:
        return Definition(
            name=content["name"],
            description=content["description"],
            scale=content["scale"],
            baseline=content["baseline"],
            columns=tuple(ColumnSpec.model_validate(column) for column in content["columns"]),
            rows={name: RowSpec.model_validate(row) for name, row in content["rows"].items()},
            notes=tuple(content["notes"]),
            published_source=content["published_source"],
            contrasts=_contrasts(content.get("contrasts", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"this is not a table of results ({error})", where=path) from error


def _contrasts(content: Any) -> dict[str, tuple[tuple[str, str], ...]]:
    """By heading. Tables written before there were headings have one list, and those before that nothing."""
    groups = content if isinstance(content, dict) else {"": content}
    return {heading: tuple((row, other) for row, other in pairs) for heading, pairs in groups.items()}


def _read_result(path: Path) -> RowResult:
    content = _read_json(path, RESULT_FORMAT)
    beside = _beside(path)
    try:
        result = RowResult(**content)
        if beside.exists():
            packed = json.loads(gzip.decompress(beside.read_bytes()))
            result.report.per_question.update(packed["per_question"])
            result.report.statistics.update(packed["statistics"])
        result.report.values.update(result.values)
        return result
    except (OSError, KeyError, TypeError, ValueError, EOFError) as error:
        raise FormatError(f"this is not a row's result ({error})", where=path) from error


def _read_json(path: Path, expected: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        form, version = content.pop("format"), content.pop("format_version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError("this is not a file of results", where=path, mend="Remove it, or make it again") from error
    if form != expected or version != VERSION:
        raise FormatError(
            f"this is a {form!r} of version {version}, not a {expected!r} of version {VERSION}", where=path
        )
    return dict(content)
