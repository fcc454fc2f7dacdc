"""One recipe for several collections: entries written once, repeated for each of the things listed under ``each``.

::

    each:
      set:
        scifact: {title: SciFact, folder: scifact}
        nfcorpus: {title: NFCorpus, folder: nfcorpus}
    stages:
      "{set}-bm25": {kind: bm25, needs: ["{set}"]}
    rows:
      "{set}-bm25": {label: BM25, section: "{set.title}", needs: ["{set}-bm25"]}
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from retgen.errors import UsageError
from retgen.recipes.yaml_source import YamlSource, unknown_name

EACH = "each"
_SLOT = re.compile(r"\{([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?\}")


def expand(yaml: YamlSource) -> dict[str, Any]:
    """A recipe's content without ``each``: every entry of a mapping whose key names a variable, once for each value.

    Entries of that kind which stand together are repeated together, so that a table's sections stay whole.

    ``{set}`` stands for the name and ``{set.title}`` for one of its properties; a text that is nothing but a property
    becomes that property, of whatever type. A property that is missing is an error.

    Raises:
        UsageError: ``each`` is not a mapping of variables to named properties, or a slot names nothing of it.
    """
    content = {key: value for key, value in yaml.content.items() if key != EACH}
    variables = yaml.content.get(EACH) or {}
    for variable, values in variables.items() if isinstance(variables, Mapping) else [("", None)]:
        named = isinstance(values, Mapping) and values and all(isinstance(v, Mapping | None) for v in values.values())
        if not named or not _SLOT.fullmatch(f"{{{variable}}}"):
            raise UsageError(
                "this must map a variable to names, and each name to its properties",
                where=yaml.where([EACH, variable] if variable else [EACH]),
                mend="For example each: {set: {scifact: {title: SciFact}}}",
            )
        content = _expanded(content, str(variable), dict(values or {}), yaml, ())
    return content


def _expanded(value: Any, variable: str, names: Mapping[str, Any], yaml: YamlSource, place: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_expanded(item, variable, names, yaml, place) for item in value]
    if not isinstance(value, Mapping):
        return value
    made: dict[str, Any] = {}
    repeated = itertools.groupby(value.items(), lambda entry: _names(str(entry[0]), variable))
    for with_slot, group in repeated:
        entries = list(group)
        if not with_slot:
            made |= {key: _expanded(item, variable, names, yaml, (*place, str(key))) for key, item in entries}
            continue
        # Entries that stand together stay together: all of the first thing, then all of the next.
        for name, properties in names.items():
            for key, item in entries:
                filled = _Filler(variable, str(name), properties or {}, yaml.where((*place, str(key))))
                made[str(filled(str(key)))] = filled(item)
    return made


def _names(key: str, variable: str) -> bool:
    return any(slot[1] == variable for slot in _SLOT.finditer(key))


class _Filler:
    def __init__(self, variable: str, name: str, properties: Mapping[str, Any], where: str) -> None:
        self.variable, self.name, self.properties, self.where = variable, name, properties, where

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if isinstance(value, Mapping):
            return {self(str(key)) if isinstance(key, str) else key: self(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        whole = _SLOT.fullmatch(value)
        if whole is not None and whole[1] == self.variable:
            return self._value(whole)
        return _SLOT.sub(lambda slot: str(self._value(slot)) if slot[1] == self.variable else slot[0], value)

    def _value(self, slot: re.Match[str]) -> Any:
        if slot[2] is None:
            return self.name
        if slot[2] not in self.properties:
            raise unknown_name(f"property of {self.name!r}", slot[2], map(str, self.properties), where=self.where)
        return self.properties[slot[2]]
