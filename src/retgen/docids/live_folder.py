"""The folder of live docids: ``table`` and ``tree`` as they were built, and beside them the journal of changes.

The journal is not in the manifest, as it grows; it names the manifest that it belongs to.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from retgen import store
from retgen.docids.journal import Journal, Record
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.table import DocidTable
from retgen.errors import ArtefactError, LockedError
from retgen.store.files import own_errors
from retgen.store.placing import locked

KIND = "live-docids"
JOURNAL = "changes.journal"


class LiveFolder(NamedTuple):
    """What one folder held at one moment."""

    digest: str
    """Of its manifest: another build has another."""
    table: DocidTable
    tree: PrefixTree
    journal: Journal
    records: list[Record]
    """The changes since it was built, oldest first."""


def write(path: Path, table: DocidTable, *, overwrite: bool = False, replaces: Path | None = None) -> None:
    """Build the tree of a table and put both in place, without changes.

    Args:
        path: where the folder shall stand.
        table: its docids.
        overwrite: replace live docids that stand there.
        replaces: the live docids, if there are any, whose place it will take in the end: by default those at ``path``.
            Builds at one place are counted, so that none has another's digest, even where both hold the same.

    Raises:
        ArtefactError: something stands there that may not be replaced, or the disk is full.
    """
    tree = PrefixTree.from_table(table)
    build = _builds(replaces or path) + 1
    with store.create(path, kind=KIND, made_by={"build": build}, overwrite=overwrite) as staging:
        table.save(staging / "table")
        tree.save(staging / "tree")


def read(path: Path) -> LiveFolder:
    """Table and tree, mapped into memory, and the changes since.

    Raises:
        ArtefactError: the folder is torn, damaged, foreign or of another kind.
        MismatchError: its parts do not belong together.
    """

    def parts(manifest: store.Manifest) -> LiveFolder:
        table = DocidTable.load(manifest.path / "table")
        tree = PrefixTree.load(manifest.path / "tree", table=table)
        journal = Journal(manifest.path / JOURNAL, of=manifest.digest)
        return LiveFolder(manifest.digest, table, tree, journal, journal.read())

    return store.load(path, kind=KIND, read=parts)


def _builds(path: Path) -> int:
    """How often live docids were built at a place, as far as is known there."""
    try:
        found = store.open_folder(path, kind=KIND).made_by.get("build")
    except ArtefactError:
        return 0
    return found if isinstance(found, int) else 0


def lock(path: Path) -> contextlib.ExitStack:
    """Become the one process that may change a folder, until what this returns is closed or the process ends.

    Raises:
        LockedError: another process is.
    """
    held = contextlib.ExitStack()
    with own_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held.enter_context(locked(path.with_name(f"{path.name}.changes"), patience=0.2))
    except LockedError:
        raise LockedError(
            "another process has these docids open for changes", where=path, mend="Wait until it ends, or end it"
        ) from None
    return held
