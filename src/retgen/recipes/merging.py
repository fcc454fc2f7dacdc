"""Mappings laid over mappings: how a scale, or a writer, changes a recipe."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """The override laid over the base: mappings are merged key by key, everything else is replaced.

    Example:
        >>> merge({"a": {"x": 1, "y": [1, 2]}, "b": 2}, {"a": {"y": [3]}})
        {'a': {'x': 1, 'y': [3]}, 'b': 2}
    """
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(typing.cast(Mapping[str, Any], old), value) if both else value
    return merged
