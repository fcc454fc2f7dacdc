"""Where recipes are: built-in ones by name, others by path, and what a recipe says that extends another.

::

    extends: unigen-local                  # a built-in recipe, or a file beside this one
    name: my-table
    stages:
      collection: {kind: beir-collection, data: [corpus.jsonl, queries.jsonl, "qrels/*.tsv"]}

Mappings are laid over those of the other recipe key by key; everything else, lists too, takes its place. A stage, a
row or a published number with nothing behind its name is left out, in the block ``written`` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from retgen.errors import UsageError
from retgen.recipes.merging import merge
from retgen.recipes.writer_block import WRITTEN
from retgen.recipes.yaml_source import YamlSource, unknown_name

EXTENDS = "extends"


def builtin_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with retgen."""
    folder = Path(str(resources.files("retgen.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_source(source: str | Path) -> YamlSource:
    """A recipe's content, with that of the recipe it extends below it.

    Args:
        source: a YAML file, or the name of a built-in recipe.

    Raises:
        UsageError: no such recipe, one that extends itself, or one without a name of its own.
        FormatError: a file is not YAML.
    """
    return _read(_path(source), ())


def _read(path: Path, above: tuple[Path, ...]) -> YamlSource:
    yaml = YamlSource.read(path)
    other = yaml.content.get(EXTENDS)
    if other is None:
        return yaml
    where = yaml.where([EXTENDS])
    if not isinstance(other, str):
        raise UsageError("this must name one recipe", where=where, mend="For example extends: unigen-local")
    above = (*above, path.resolve())
    found = _path(other, path.parent, where)
    if found.resolve() in above:
        circle = " → ".join(each.name for each in (*above, found))
        raise UsageError(f"these recipes extend each other in a circle: {circle}", where=where)
    if not yaml.content.get("name"):
        raise UsageError(
            "a recipe that extends another needs a name of its own: its results carry it",
            where=where,
            mend="Add name: …",
        )
    base = _read(found, above)
    own = {key: value for key, value in yaml.content.items() if key != EXTENDS}
    merged = _filled(merge(base.content, own))
    if isinstance(merged.get(WRITTEN), Mapping):
        merged[WRITTEN] = _filled(merged[WRITTEN])
    return replace(yaml, content=merged, base=base)


def _filled(block: Mapping[str, Any]) -> dict[str, Any]:
    """Without stages, rows and published numbers that have nothing behind their names."""
    left = dict(block)
    for key in ("stages", "rows"):
        if isinstance(left.get(key), Mapping):
            left[key] = {name: entry for name, entry in left[key].items() if entry is not None}
    if isinstance(left.get("rows"), Mapping):
        left["rows"] = {name: _with_known(row) for name, row in left["rows"].items()}
    return left


def _with_known(row: Any) -> Any:
    if not isinstance(row, Mapping) or not isinstance(row.get("published"), Mapping):
        return row
    return {**row, "published": {column: number for column, number in row["published"].items() if number is not None}}


def _path(source: str | Path, beside: Path | None = None, where: str | None = None) -> Path:
    """A file, or a built-in recipe's."""
    path = (beside or Path()) / source
    if path.is_file():
        return path
    known = builtin_recipes()
    if str(source) in known:
        return known[str(source)]
    if path.suffix in {".yaml", ".yml"} or len(Path(source).parts) > 1:
        raise UsageError(
            "there is no such recipe file" if where is None else f"there is no recipe file {path}",
            where=where or path,
            mend=f"Built-in recipes: {', '.join(known)}",
        )
    raise unknown_name("recipe", str(source), known, where=where)
