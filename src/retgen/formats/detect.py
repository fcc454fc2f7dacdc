"""Which format a path is in: by what a folder holds and how a file begins, never by words in its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from retgen.errors import FormatError, RecordError, UsageError
from retgen.formats import folder, ir_datasets, msmarco_qna
from retgen.formats.lines import parse_json, peek, read_text

ACCEPTED = (
    "Accepted: a BEIR folder, .jsonl, a .tsv of DPR passages, a SQuAD, DPR or MS MARCO QnA .json, "
    f"a folder of {'/'.join(folder.SUFFIXES)}, ir_datasets:<id>"
)
ACCEPTED_QUESTIONS = (
    "Accepted: a BEIR folder, .jsonl, a .tsv with id and text, a SQuAD, DPR or MS MARCO QnA .json, ir_datasets:<id>"
)
_FIRST_KEY = re.compile(r'\s*\{\s*"(\w+)"\s*:')


class Format(StrEnum):
    """The formats, by the names that ``format=`` takes."""

    BEIR = "beir"
    JSONL = "jsonl"
    SQUAD = "squad"
    DPR = "dpr"
    DPR_PASSAGES = "dpr-passages"
    MSMARCO_QNA = "msmarco-qna"
    FOLDER = "folder"
    QUERY_TABLE = "tsv"
    IR_DATASETS = "ir_datasets"


CORPUS_FORMATS = tuple(str(item) for item in Format if item is not Format.QUERY_TABLE)
"""The formats a corpus can be in."""


def corpus_format(path: str | Path, wanted: str | None = None) -> Format:
    """The format of a corpus.

    Raises:
        FormatError: there is no such path, or nothing known is in it.
        UsageError: ``wanted`` is no format.
    """

    def of_folder(source: Path) -> Format:
        if folder.has_documents(source):
            return Format.FOLDER
        raise FormatError("this folder holds nothing that can be read as a corpus", where=source, mend=ACCEPTED)

    def of_file(source: Path) -> Format:
        suffix = _suffix(source)
        if suffix in folder.SUFFIXES:
            return Format.FOLDER
        head = peek(source)
        if suffix in (".tsv", ".csv"):
            return Format.DPR_PASSAGES
        return _json_format(source, head, ACCEPTED)

    return _told(path, wanted, "corpus.jsonl", of_folder, of_file)


def question_format(path: str | Path, wanted: str | None = None) -> Format:
    """The format of a file of queries or of questions with answers.

    Raises:
        FormatError: there is no such path, or nothing known is in it.
        UsageError: ``wanted`` is no format.
    """

    def of_folder(source: Path) -> Format:
        raise FormatError("this folder has no queries.jsonl", where=source, mend=ACCEPTED_QUESTIONS)

    def of_file(source: Path) -> Format:
        head = peek(source)
        if head.lstrip()[:1] not in ("", "{", "[") and "\t" in head.split("\n", 1)[0]:
            return Format.QUERY_TABLE
        return _json_format(source, head, ACCEPTED_QUESTIONS)

    return _told(path, wanted, "queries.jsonl", of_folder, of_file)


def _told(
    path: str | Path,
    wanted: str | None,
    of_beir: str,
    of_folder: Callable[[Path], Format],
    of_file: Callable[[Path], Format],
) -> Format:
    """The format that is wanted, else the one that the path's content tells.

    Args:
        path: what is to be read.
        wanted: a format's name, or None.
        of_beir: the file that makes a folder one of BEIR.
        of_folder: tells any other folder.
        of_file: tells a file.
    """
    if str(path).startswith(ir_datasets.PREFIX):
        return Format.IR_DATASETS
    if wanted is not None:
        return _named(path, wanted)
    source = existing(path)
    if not source.is_dir():
        return of_file(source)
    if any((source / name).is_file() for name in (of_beir, f"{of_beir}.gz")):
        return Format.BEIR
    return of_folder(source)


def _named(path: str | Path, wanted: str) -> Format:
    try:
        found = Format(wanted)
    except ValueError:
        raise UsageError(
            f"there is no format {wanted!r}", where="format", mend=f"Choose one of: {', '.join(Format)}"
        ) from None
    existing(path)
    return found


def existing(path: str | Path) -> Path:
    """The path, when something stands there.

    Raises:
        FormatError: nothing does.
    """
    source = Path(path)
    try:
        found = source.exists()
    except (OSError, ValueError):
        found = False
    if not found:
        raise FormatError("there is no such file or folder", where=str(path), mend="Check the path")
    return source


def _suffix(source: Path) -> str:
    return Path(source.name.removesuffix(".gz")).suffix.lower()


def _json_format(source: Path, head: str, accepted: str) -> Format:
    start = head.lstrip()[:1]
    if not start:
        raise FormatError("this file is empty", where=source, mend=accepted)
    if start == "[":
        return Format.DPR
    if start != "{":
        raise FormatError("the format of this file is not known", where=source, mend=accepted)
    if msmarco_qna.is_columns(head):
        return Format.MSMARCO_QNA
    row = _first_line(head)
    if row is not None:
        if isinstance(row.get("data"), list) and not row.keys() & {"_id", "id"}:
            return Format.SQUAD
        passages, query = row.get("passages"), row.get("query")
        return Format.MSMARCO_QNA if isinstance(passages, list | dict) and query is not None else Format.JSONL
    if _suffix(source) == ".jsonl" and row is None:
        # A first line that is no JSON is a bad record of the format that the name states.
        return Format.JSONL
    return _whole_format(source, head, accepted)


def _first_line(head: str) -> dict[str, object] | None:
    """The first line as an object, where it is one that ends within the view."""
    line, newline, _ = head.lstrip().partition("\n")
    del newline
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _whole_format(source: Path, head: str, accepted: str) -> Format:
    """An object over several lines, or one longer than the view: its keys tell."""
    first = _FIRST_KEY.match(head)
    key = first.group(1) if first else None
    if key == "data":
        return Format.SQUAD
    if key in msmarco_qna.COLUMNS:
        return Format.MSMARCO_QNA
    try:
        value = parse_json(read_text(source), source)
    except RecordError as error:
        raise FormatError(f"this is neither JSON nor JSON lines ({error.what})", where=source, mend=accepted) from error
    keys = set(value) if isinstance(value, dict) else set()
    if "data" in keys:
        return Format.SQUAD
    if {"query", "query_id", "passages"} <= keys:
        return Format.MSMARCO_QNA
    raise FormatError("the format of this JSON file is not known", where=source, mend=accepted)
