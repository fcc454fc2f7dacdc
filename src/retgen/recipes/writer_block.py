"""What a recipe gains by a language model that writes: the block ``written``, left out where nobody writes.

::

    written:
      stages: {q-connectors: {kind: q-connectors, needs: [collection]}, …}
      rows: {unigen-base-written: {label: "UniGen-Base, connectors by {model}", …}, …}
      columns: [tokens]                     # behind the recipe's own
      notes: ["Connectors by {model}."]     # likewise
      scales: {tiny: {stages: …}}           # of what the block adds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retgen.errors import UsageError
from retgen.recipes.merging import merge
from retgen.recipes.writers import WRITTEN_KINDS, Author
from retgen.recipes.yaml_source import YamlSource

WRITTEN = "written"
_KEYS = ("stages", "rows", "defaults", "columns", "notes", "scales")
_ADDED = ("columns", "notes")
_MODEL = "{model}"


def with_writer(content: Mapping[str, Any], author: Author | None, yaml: YamlSource) -> dict[str, Any]:
    """A recipe's content with its block ``written`` merged in, ``{model}`` filled in; without an author, without it.

    New rows stand at the end of their section, or behind the last row that competes, before controls.

    Args:
        content: of a recipe.
        author: who writes; becomes the argument ``by`` of every stage that has a language model write.
        yaml: for errors.

    Raises:
        UsageError: there is an author and no such block, or the block has an unknown key.
    """
    base = {key: value for key, value in content.items() if key != WRITTEN}
    block = content.get(WRITTEN)
    if block is not None and not isinstance(block, Mapping):
        raise UsageError("this must map keys of a recipe to what is added", where=yaml.where([WRITTEN]))
    for key in block or {}:
        if key not in _KEYS:
            raise yaml.unknown("key", str(key), _KEYS, [WRITTEN, str(key)])
    if author is None:
        return base
    if not block:
        raise UsageError(
            "this recipe has no connectors for a language model to write",
            where=yaml.path,
            mend="Leave --writer out, or give it a block `written`, as the built-in recipe squad has it",
        )
    filled = _filled(block, author.model)
    added = {key: [*(base.get(key) or []), *filled.pop(key, [])] for key in _ADDED if key in filled}
    merged = merge(merge(base, filled), added)
    merged["rows"] = _before_controls(merged.get("rows") or {}, base.get("rows") or {})
    kinds = {stage.get("kind") for stage in merged.get("stages", {}).values() if isinstance(stage, Mapping)}
    by = author.model_dump(mode="json", exclude_defaults=True)
    signed: dict[str, Any] = {kind: {"by": by} for kind in WRITTEN_KINDS if kind in kinds}
    return merge(merged, {"defaults": merge(merged.get("defaults") or {}, signed)})


def _before_controls(rows: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Rows in their order, new ones at the end of their section, or behind the last that competes where it is new."""
    ranked = [name for name in known if not isinstance(rows[name], Mapping) or rows[name].get("ranked", True)]
    ends = {_section(rows[name]): name for name in known}
    last = ranked[-1] if ranked else None
    behind: dict[str | None, list[str]] = {}
    for name in rows:
        if name not in known:
            section = _section(rows[name])
            behind.setdefault(ends.get(section, last) if section else last, []).append(name)
    order = [*behind.get(None, [])]
    for name in known:
        order += [name, *behind.get(name, [])]
    return {name: rows[name] for name in order}


def _section(row: object) -> str:
    return str(row.get("section", "")) if isinstance(row, Mapping) else ""


def _filled(value: Any, model: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, model) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, model) for item in value]
    return value.replace(_MODEL, model) if isinstance(value, str) else value
