"""Connectors on disk: JSON lines that a person can read and edit, one text a line, and who wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retgen.errors import RecordError
from retgen.store import atomic_file
from retgen.types import Connector


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A text that a writer wrote for a document or question.

    Args:
        id: of the document or question.
        text: what was written; may be empty.
        writer: who wrote it.
        round: of iterative enhancement; 0 otherwise.
        about: the question, or the document's title, for whoever reads the file; not read back.
    """

    id: str
    text: str
    writer: str
    round: int = 0
    about: str = ""

    @property
    def connector(self) -> Connector:
        """The text as a query's connector."""
        return Connector(self.text, self.writer, self.round)


def write_texts(path: str | Path, texts: Iterable[WrittenText]) -> int:
    """Write texts as JSON lines; the file appears whole or not at all.

    Returns:
        How many were written.
    """
    written = 0
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        for each in texts:
            row = {"id": each.id, "about": each.about, "text": each.text, "writer": each.writer, "round": each.round}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    return written


def read_texts(path: str | Path) -> dict[str, WrittenText]:
    """The texts of a file that `write_texts` (or a person) wrote, by id. ``writer`` and ``round`` may be left out.

    Raises:
        RecordError: a line is no object with ``id`` and ``text``, or an id occurs twice.
    """
    found: dict[str, WrittenText] = {}

    def bad(what: str, number: int, field: str | None = None) -> RecordError:
        return RecordError(what, path=path, line=number, field=field, mend="Mend the line, or write the file anew")

    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise RecordError(f"this file cannot be read ({error.strerror})", path=path, mend="Check the path") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row: object = json.loads(line)
        except ValueError as error:
            raise bad(f"this is not JSON ({error})", number) from error
        if not isinstance(row, dict):
            raise bad("this is not a JSON object", number)
        for name in ("id", "text"):
            if not isinstance(row.get(name), str):
                raise bad("this must be a text", number, name)
        if row["id"] in found:
            raise bad(f"the id {row['id']!r} occurs twice", number, "id")
        if not isinstance(row.get("round", 0), int):
            raise bad("a round is a whole number", number, "round")
        found[row["id"]] = WrittenText(
            row["id"], row["text"], str(row.get("writer", "")), row.get("round", 0), str(row.get("about", ""))
        )
    return found
