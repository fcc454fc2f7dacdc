"""``retgen add`` and ``retgen remove``: documents of an index come and go, without training."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.running import results, skipping, write_json
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.types import Document

_Index = Annotated[Path, typer.Argument(help="An index that retgen index made.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def add(
    index: _Index,
    files: Annotated[
        list[str],
        typer.Argument(help="Documents, in any form that retgen index takes.", metavar="CORPUS...", show_default=False),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put documents in the place of those that have their ids.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad records out, and say which.")] = False,
    as_json: _Json = False,
) -> None:
    """Add documents to an index: all or none, findable as soon as the command is done.

    The index is written anew and takes the old one's place; killed meanwhile, it stays as it was. BM25 is counted over
    all documents, so that many are better added at once; of a dense part only the new ones are encoded.

    Examples:

      retgen add my-index new-docs/

      retgen add my-index corpus.jsonl --replace
    """
    from retgen.formats import read_corpus
    from retgen.index import Index

    start = time.perf_counter()
    opened = Index.open(index)
    with skipping(skip_bad) as skipped:
        found = list(_once(document for path in files for document in read_corpus(path, skipped=skipped)))
    if not found:
        raise UsageError("there is no document to add", where=", ".join(files))
    old = {document.id for document in found if opened.holds(document.id)} if replace else set[str]()
    changed = opened.change(found, old)
    about = {"added": len(found) - len(old), "replaced": len(old), "skipped": skipped.count if skipped else 0}
    _tell(index, about, len(changed), time.perf_counter() - start, as_json)


def remove(
    index: _Index,
    ids: Annotated[list[str], typer.Argument(help="Ids of documents.", metavar="ID...", show_default=False)],
    as_json: _Json = False,
) -> None:
    """Remove documents from an index: all or none, unfindable as soon as the command is done.

    Example:

      retgen remove my-index gases/oxygen gases/neon
    """
    from retgen.index import Index

    start = time.perf_counter()
    wanted = list(dict.fromkeys(ids))
    changed = Index.open(index).change(remove=wanted)
    _tell(index, {"removed": len(wanted)}, len(changed), time.perf_counter() - start, as_json)


def _once(documents: Iterable[Document]) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise UsageError(f"two of the documents to add have the id {document.id!r}", mend="Give each id once")
        seen.add(document.id)
        yield document


def _tell(index: Path, about: dict[str, int], passages: int, seconds: float, as_json: bool) -> None:
    if as_json:
        write_json({"index": str(index), **about, "passages": passages, "seconds": round(seconds, 3)})
        return
    said = ", ".join(f"{count} {what}" for what, count in about.items() if count or what in ("added", "removed"))
    results().print(f"{index}: {said}; {passages} passages now, in {seconds:.1f} s", markup=False)
