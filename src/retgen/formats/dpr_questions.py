"""DPR's test questions, ``nq-test.csv`` and ``trivia-test.csv``: a question, a tab, its answers as a Python list."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from pathlib import Path

from retgen.errors import RecordError
from retgen.formats.lines import decoded, raw_lines
from retgen.formats.records import Skipped, check_text, parsed
from retgen.types import Query, Triplet


def read_questions(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Triplet]:
    """The questions with their accepted answers, one at a time; their ids are the line numbers, from 0.

    Raises:
        RecordError: a line without exactly one tab, without a question, or whose answers are not a list of texts.
    """
    path = Path(path)

    def parse(raw: tuple[int, bytes]) -> Triplet | None:
        number, data = raw
        line = decoded(data, path, number)
        if not line.strip():
            return None
        # A field that holds quotes is quoted as a whole, its own quotes doubled.
        try:
            columns = next(csv.reader([line], delimiter="\t"))
        except csv.Error as error:
            raise RecordError(f"this line cannot be read as columns ({error})", path=path, line=number) from error
        if len(columns) != 2:
            raise RecordError(
                f"expected a question and its answers with one tab between them; got {len(columns)} columns",
                path=path,
                line=number,
            )
        question, listed = columns[0].strip(), columns[1]
        check_text(question, lambda what: RecordError(what, path=path, line=number, field="question"))
        if not question:
            raise RecordError("this question is empty", path=path, line=number, field="question")
        return Triplet(Query(str(number - 1), question), _answers(listed, path, number), ())

    return parsed(raw_lines(path), parse, skipped)


def _answers(listed: str, path: Path, number: int) -> tuple[str, ...]:
    try:
        answers = ast.literal_eval(listed.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise RecordError("these are not answers in a Python list", path=path, line=number, field="answers") from error
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise RecordError("expected a list of texts", path=path, line=number, field="answers")
    return tuple(answers)
