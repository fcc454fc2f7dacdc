"""A folder of texts: ``.txt``, ``.md``, ``.html``, ``.pdf``, ``.docx``, each file one document.

The id is the path below the folder, the title the first heading, the page's title or the file's name. Hidden files
and folders, and files with other endings, are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from retgen.errors import FormatError, MissingExtraError, RecordError
from retgen.formats import html_text
from retgen.formats.lines import read_text
from retgen.formats.records import Skipped, check_id, check_text, parsed
from retgen.types import Document

_MARKDOWN_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_MARKDOWN_UNDERLINED = re.compile(r"^ {0,3}(\S.*?)[ \t]*\n {0,3}(?:=+|-+)[ \t]*$", re.MULTILINE)
_FENCED = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.MULTILINE | re.DOTALL)

Extracted = tuple[str, str]
"""Title (may be empty) and text."""


def read_documents(path: str | Path, *, skipped: Skipped | None = None) -> Iterator[Document]:
    """The files below a folder (or one file) as documents, one at a time: files before folders, each by name.

    Metadata: ``path`` (as the id) and ``suffix`` (in lower case, with its dot).

    Raises:
        FormatError: there is no file with a known ending.
        MissingExtraError: a PDF or Word file is met and the extra ``documents`` is not installed.
        RecordError: a file that is not UTF-8, damaged, encrypted or without text, unless ``skipped`` collects them.
    """
    root = Path(path)
    files = _files(root)
    first = next(files, None)
    if first is None:
        raise FormatError(
            f"this folder has no file that ends in {', '.join(SUFFIXES)}",
            where=root,
            mend="Check the path, or convert the files",
        )
    base = root.parent if root.is_file() else root

    def every() -> Iterator[Path]:
        yield first
        yield from files

    return parsed(every(), lambda file: _document(file, base), skipped)


def has_documents(root: Path) -> bool:
    """Whether there is a file with a known ending at or below this path."""
    return next(_files(root), None) is not None


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return

    def failed(error: OSError) -> None:
        raise FormatError(f"this cannot be read ({error.strerror or error})", where=error.filename or root) from error

    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            failed(error)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file() and Path(entry.name).suffix.lower() in _EXTRACTORS:
                yield Path(entry.path)
        # Symbolic links to folders are not followed: they may lead in circles.
        pending.extend(
            Path(entry.path)
            for entry in reversed(entries)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        )


def _document(file: Path, base: Path) -> Document:
    def bad(what: str) -> RecordError:
        return RecordError(what, path=file, mend="Mend the file, or pass --skip-bad to leave it out")

    doc_id = file.relative_to(base).as_posix()
    check_id(doc_id, bad)
    suffix = file.suffix.lower()
    title, text = _EXTRACTORS[suffix](file)
    check_text(title + text, bad)
    if not text.strip():
        raise bad("no text can be read from this file (empty, or only pictures)")
    return Document(doc_id, text, title.strip() or file.stem, {"path": doc_id, "suffix": suffix})


def _plain(file: Path) -> Extracted:
    return "", _lines(read_text(file))


def _markdown(file: Path) -> Extracted:
    text = _lines(read_text(file))
    prose = _FENCED.sub("", text)
    found = [match for match in (_MARKDOWN_HEADING.search(prose), _MARKDOWN_UNDERLINED.search(prose)) if match]
    title = min(found, key=lambda match: match.start()).group(1) if found else ""
    return title, text


def _html(file: Path) -> Extracted:
    try:
        return html_text.extract(read_text(file))
    except (AssertionError, RecursionError) as error:
        raise RecordError(f"this is not readable HTML ({error})", path=file) from error


def _pdf(file: Path) -> Extracted:
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise MissingExtraError("pypdf", "documents") from error
    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise RecordError("this PDF is encrypted", path=file)
        title = (reader.metadata.title if reader.metadata else None) or ""
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except RecordError:
        raise
    except Exception as error:  # a damaged PDF fails in any of the parser's many ways
        raise RecordError(f"this PDF cannot be read ({type(error).__name__}: {error})", path=file) from error
    return _writable(str(title)), _writable(text)


def _docx(file: Path) -> Extracted:
    try:
        import docx
    except ImportError as error:
        raise MissingExtraError("python-docx", "documents") from error
    try:
        document = docx.Document(str(file))
        parts: list[str] = []
        heading = ""
        for block in document.iter_inner_content():
            if hasattr(block, "rows"):
                parts.extend("\t".join(dict.fromkeys(cell.text for cell in row.cells)) for row in block.rows)
                continue
            style = (block.style.name or "") if block.style is not None else ""
            if not heading and (style == "Title" or style.startswith("Heading")):
                heading = block.text
            parts.append(block.text)
        title = heading or document.core_properties.title or ""
    except Exception as error:  # a damaged archive fails in zip, XML or the package's parts
        raise RecordError(f"this Word file cannot be read ({type(error).__name__}: {error})", path=file) from error
    return _writable(title), _writable("\n".join(parts))


def _writable(text: str) -> str:
    # Extractors give NULs and half surrogates for glyphs without a mapping; they are no one's bad record.
    return _lines(text.replace("\0", "").encode("utf-8", "replace").decode("utf-8"))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


_EXTRACTORS: dict[str, Callable[[Path], Extracted]] = {
    ".txt": _plain,
    ".md": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}
SUFFIXES = tuple(_EXTRACTORS)
"""The endings of files that can be read, in lower case."""
