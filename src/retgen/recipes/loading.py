"""Reading a recipe: by path or built-in name, with a scale's block merged in, and every name in it checked."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from retgen.errors import UsageError
from retgen.recipes.expanding import EACH, expand
from retgen.recipes.merging import merge
from retgen.recipes.sources import EXTENDS, recipe_source
from retgen.recipes.spec import SCALES, Recipe
from retgen.recipes.writer_block import WRITTEN, with_writer
from retgen.recipes.writers import Author
from retgen.recipes.yaml_source import Place, YamlSource, unknown_name

_FIXED = ("name", "modules", "scales", WRITTEN)


def load_recipe(source: str | Path, *, scale: str = "local", author: Author | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        source: a YAML file, or the name of a built-in recipe.
        scale: whose block of overrides is merged in. ``local`` needs no block: it is the recipe as it stands.
        author: a language model whose connectors stand in the table too: what the recipe says under ``written`` is
            added to it. Without one that block is left out.

    Returns:
        The recipe at that scale. Blocks of the other scales are checked too.

    Raises:
        UsageError: no such recipe or scale, an unknown key, row or stage, a value of the wrong kind, or stages that
            need each other in a circle. The message has the file, the line, the place and the known names.
        FormatError: the file is not YAML.
    """
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES, where="--scale")
    yaml = recipe_source(source)
    content = with_writer(expand(yaml), author, yaml)
    blocks = content.get("scales") or {}
    if not isinstance(blocks, dict) or not all(isinstance(block, dict | None) for block in blocks.values()):
        raise UsageError("scales must map a scale to its overrides", where=yaml.where(["scales"]))
    for name in blocks:
        if name not in SCALES:
            raise yaml.unknown("scale", str(name), SCALES, ["scales", name])
    if scale not in {"local", *blocks}:
        raise UsageError(
            f"this recipe has no scale {scale!r}", where=yaml.path, mend=f"It has: {', '.join({'local': 0, **blocks})}"
        )
    recipes = {name: _at_scale(yaml, content, name, blocks.get(name) or {}) for name in {"local": 0, **blocks}}
    return recipes[scale]


def _at_scale(yaml: YamlSource, content: Mapping[str, Any], scale: str, block: Mapping[str, Any]) -> Recipe:
    base = {key: value for key, value in content.items() if key != "scales"}
    for key in block:
        if key in _FIXED:
            raise UsageError(f"a scale cannot override {key!r}", where=yaml.where(["scales", scale, key]))
    for key in ("stages", "rows"):
        for name in _mapping(block.get(key)):
            if name not in _mapping(base.get(key)):
                known = map(str, _mapping(base.get(key)))
                raise yaml.unknown(key[:-1], str(name), known, ["scales", scale, key, str(name)])
    merged = merge(base, block)
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        raise _named(error, yaml, scale) from error
    recipe._scale = scale
    recipe._yaml = yaml
    _check_names(recipe)
    _check_circles(recipe)
    return recipe


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _check_names(recipe: Recipe) -> None:
    for name, stage in recipe.stages.items():
        for role, needed in stage.needs.items():
            if needed not in recipe.stages:
                raise unknown_name("stage", needed, recipe.stages, where=recipe.where("stages", name, "needs", role))
    for name, row in recipe.rows.items():
        for number, needed in enumerate(row.needs):
            if needed not in recipe.stages:
                raise unknown_name("stage", needed, recipe.stages, where=recipe.where("rows", name, "needs", number))
        if re.search(r"-seed\d+$", name):
            raise UsageError(f"the row name {name!r} reads like a result's file", where=recipe.where("rows", name))
        if not row.needs and not row.published:
            raise UsageError(
                f"row {name!r} needs no stage and has no published values",
                where=recipe.where("rows", name),
                mend="Name the stages that report its values under needs",
            )
        for key in row.published:
            if key not in (keys := [column.key for column in recipe.columns]):
                raise unknown_name("column", key, keys, where=recipe.where("rows", name, "published", key))
    kinds = {stage.kind for stage in recipe.stages.values()}
    for kind in recipe.defaults:
        if kind not in kinds:
            raise unknown_name(
                "kind of this recipe's stages", kind, sorted(kinds), where=recipe.where("defaults", kind)
            )
    _check_baselines(recipe)
    for heading, pairs in recipe.contrasts.items():
        for number, pair in enumerate(pairs):
            for held in pair:
                if held not in recipe.rows:
                    place = ("contrasts", heading, number) if heading else ("contrasts", number)
                    raise unknown_name("row", held, recipe.rows, where=recipe.where(*place))
    handles = {handle for name, stage in recipe.stages.items() for handle in (name, stage.kind, *stage.tags)}
    seen: set[str] = set()
    for number, column in enumerate(recipe.columns):
        if column.key in seen:
            raise UsageError(f"the column {column.key!r} stands twice", where=recipe.where("columns", number))
        seen.add(column.key)
        for handle in column.cost.over if column.cost else ():
            if handle not in handles:
                raise unknown_name(
                    "stage, kind or tag", handle, sorted(handles), where=recipe.where("columns", number, "cost", "over")
                )
    if len(set(recipe.seeds)) != len(recipe.seeds):
        raise UsageError("a seed stands twice", where=recipe.where("seeds"))


def _check_baselines(recipe: Recipe) -> None:
    if isinstance(recipe.baseline, str):
        if recipe.baseline not in recipe.rows:
            raise unknown_name("row", recipe.baseline, recipe.rows, where=recipe.where("baseline"))
        return
    sections = list(dict.fromkeys(row.section for row in recipe.rows.values()))
    for section, row in (recipe.baseline or {}).items():
        place = recipe.where("baseline", section)
        if section not in sections:
            raise unknown_name("section", section, sections, where=place)
        if row not in recipe.rows:
            raise unknown_name("row", row, recipe.rows, where=place)
        if recipe.rows[row].section != section:
            raise UsageError(f"the row {row!r} does not stand in the section {section!r}", where=place)


def _check_circles(recipe: Recipe) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            raise UsageError(f"these stages need each other in a circle: {circle}", where=recipe.where("stages", name))
        if name not in done:
            for needed in recipe.stages[name].needs.values():
                visit(needed, (*path, name))
            done.add(name)

    for name in recipe.stages:
        visit(name, ())


def _named(error: ValidationError, yaml: YamlSource, scale: str) -> UsageError:
    """The first of pydantic's errors, with its place in the file and the names that would be right."""
    errors = error.errors(include_url=False)
    # A key that is spelt wrong is also missing: the spelling is the better message.
    first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
    place: list[str | int] = [part for part in first["loc"] if part != "[key]"]
    if first["type"] == "extra_forbidden":
        return yaml.unknown("key", str(place[-1]), _keys_at(place[:-1]), place, scale)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return UsageError(f"{first['msg'][:1].lower()}{first['msg'][1:]}{more}", where=yaml.where_at_scale(place, scale))


def _keys_at(place: Place) -> list[str]:
    """The keys that may stand at a place of a recipe."""
    found: Any = Recipe
    for part in place:
        found = _bare(found.model_fields[str(part)].annotation if _is_model(found) else typing.get_args(found)[-1])
    return [*found.model_fields, *(["scales", EACH, WRITTEN, EXTENDS] if found is Recipe else [])]


def _bare(annotation: Any) -> Any:
    """``X`` of ``Annotated[X, …]`` and ``X | None``."""
    while typing.get_origin(annotation) in {typing.Annotated, typing.Union, types.UnionType}:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
