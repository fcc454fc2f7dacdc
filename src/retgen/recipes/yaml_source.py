"""A YAML file that remembers its lines, so that an error can say where; duplicate keys are errors, not overwritten."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retgen.errors import FormatError, UsageError

Place = Sequence[str | int]
"""Keys and list positions from the top of the file, e.g. ``("stages", "train", "params")``."""


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A parsed YAML file.

    Args:
        path: the file.
        content: its top-level mapping.
        root: the parsed nodes, for line numbers.
        base: the file below this one, whose content this one's was laid over.
    """

    path: Path
    content: Mapping[str, Any]
    root: yaml.Node
    base: YamlSource | None = None

    @classmethod
    def read(cls, path: str | Path) -> YamlSource:
        """Read a file whose top level is a mapping.

        Raises:
            UsageError: there is no such file.
            FormatError: it is not YAML in UTF-8, has a key twice, or its top level is no mapping.
        """
        source = Path(path)
        try:
            text = source.read_bytes().decode()
        except OSError as error:
            raise UsageError(f"this file cannot be read ({error.strerror or error})", where=source) from error
        except UnicodeDecodeError as error:
            raise FormatError(f"this file is not UTF-8 ({error.reason} at byte {error.start})", where=source) from error
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            _refuse_duplicates(root, source)
            content = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            raise FormatError(f"this is not YAML: {error.problem}", where=f"{source}{line}") from error
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise FormatError(f"this is not YAML: {error}", where=source) from error
        if root is None or not isinstance(content, dict):
            raise FormatError("the top level must be a mapping of keys to values", where=source)
        return cls(source, content, root)

    def where(self, place: Place) -> str:
        """The file, the line and the dotted place; the line of the nearest parent where the place itself is missing."""
        if self.base is not None and not self._has(place) and self.base.has(place):
            return self.base.where(place)
        node: yaml.Node | None = self.root
        line = None
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        dotted = ".".join(map(str, place))
        return f"{self.path}{f':{line}' if line else ''}{f' [{dotted}]' if dotted else ''}"

    def where_at_scale(self, place: Place, scale: str) -> str:
        """The place in a scale's block where it stands there, else in the recipe itself."""
        inside = ("scales", scale, *place)
        return self.where(inside if self.has(inside) else place)

    def has(self, place: Place) -> bool:
        """Whether something stands there, in this file or in the one below it."""
        return self._has(place) or (self.base is not None and self.base.has(place))

    def _has(self, place: Place) -> bool:
        node: yaml.Node | None = self.root
        for part in place:
            found = _child(node, part)
            if found is None:
                return False
            node, _ = found
        return True

    def unknown(self, what: str, name: str, known: Iterable[str], place: Place, scale: str = "") -> UsageError:
        """The error for a name that is not known here; looked for in the scale's block first."""
        return unknown_name(what, name, known, where=self.where_at_scale(place, scale))


def unknown_name(what: str, name: str, known: Iterable[str], *, where: str | Path | None = None) -> UsageError:
    """The error for an unknown name: the close match where there is one, and all that are known.

    Example:
        >>> print(unknown_name("row", "bm52", ["bm25", "unigen"]))
        unknown row 'bm52'. Did you mean 'bm25'? Known: bm25, unigen
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return UsageError(f"unknown {what} {name!r}", where=where, mend=f"{guess}Known: {', '.join(names) or 'none'}")


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    """The value under a key or at a position, and the 1-based line of its key or itself."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _refuse_duplicates(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            # "<<" is YAML's merge key, which may stand several times.
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise FormatError(
                        f"the key {key.value!r} stands here twice",
                        where=f"{path}:{key.start_mark.line + 1}",
                        mend="Keep one of the two",
                    )
                seen.add(key.value)
            _refuse_duplicates(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, path)
