"""Bytes to lines to JSON, each failure a `RecordError` with its place; gzip and byte order marks on the way."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from retgen.errors import FormatError, RecordError

DAMAGED = "The file is damaged from here on: get or make it again"


def open_bytes(path: Path) -> IO[bytes]:
    """A file as bytes, unpacked where it is gzip (told by its first two bytes, not by its name)."""
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")
    except (OSError, ValueError) as error:
        raise FormatError(f"this cannot be read ({_reason(error)})", where=path) from error


def raw_lines(path: Path, *, keep_returns: bool = False) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 and lines without their ends; a byte order mark is taken off, gzip unpacked.

    ``keep_returns`` leaves a carriage return at a line's end, for formats where a field may hold one.
    """
    number = 0
    with open_bytes(path) as source:
        try:
            for line in source:
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                line = line.removesuffix(b"\n")
                yield number, line if keep_returns else line.removesuffix(b"\r")
        except (OSError, EOFError, zlib.error) as error:
            # Not one bad record but the end of what can be read, so never skipped.
            raise RecordError(
                f"reading broke off ({_reason(error)})", path=path, line=number + 1, mend=DAMAGED
            ) from error


def read_text(path: Path) -> str:
    """A whole file as text.

    Raises:
        RecordError: it is not UTF-8, or breaks off.
    """
    with open_bytes(path) as source:
        try:
            data = source.read()
        except (OSError, EOFError, zlib.error) as error:
            raise RecordError(f"reading broke off ({_reason(error)})", path=path, mend=DAMAGED) from error
    return decoded(data.removeprefix(b"\xef\xbb\xbf"), path)


def decoded(data: bytes, path: Path, line: int | None = None) -> str:
    """Bytes as UTF-8 text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if line is None:
            line = data.count(b"\n", 0, error.start) + 1
        raise RecordError(
            f"this is not UTF-8 (byte 0x{data[error.start]:02x})",
            path=path,
            line=line,
            mend="Convert the file to UTF-8, or pass --skip-bad to leave this out",
        ) from error


def parse_json(text: str, path: Path, line: int | None = None) -> object:
    """Strict JSON: no NaN, no Infinity, no absurd depth."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        at = line if line is not None else error.lineno
        raise RecordError(f"this is not JSON ({error.msg}, column {error.colno})", path=path, line=at) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"this is not usable JSON ({_reason(error)})", path=path, line=line) from error


def peek(path: Path, size: int = 1 << 16) -> str:
    """The first bytes of a file as text, as far as they are UTF-8, without a byte order mark."""
    with open_bytes(path) as source:
        try:
            data = source.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(f"this cannot be read ({_reason(error)})", where=path) from error
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="ignore")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
