"""Docids of a collection that changes: a folder with a table and a tree as they were built, and a journal of changes.

A change is written to the journal before it is made, and holds from then on, whatever becomes of the process. Merging
builds table and tree anew from the documents present; the new folder takes the old one's place, journal and all, in one
step. One process may change a folder at a time; any number may read it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from retgen import store
from retgen.docids import live_folder
from retgen.docids.changes import NewDocids
from retgen.docids.changing import ChangingDocids
from retgen.docids.journal import Record
from retgen.docids.lineage import check_lineage, tokenizer_fingerprint
from retgen.docids.table import DocidTable
from retgen.errors import ArtefactError, LockedError, RetgenError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LiveDocids(ChangingDocids):
    """A docid table and its prefix tree in a folder, to which documents are added and from which they are removed.

    Made by `LiveDocids.create` or `LiveDocids.open`. What it does, `ChangingDocids` says; here, a change holds after a
    restart too, also where the process was killed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from retgen.docids.table import DocidMakeUp
        >>> table = DocidTable.from_token_ids(
        ...     ["a", "b"], ["red", "red sky"], [np.array([5, 1]), np.array([5, 7, 1])],
        ...     make_up=DocidMakeUp("title", max_length=8, eos_token_id=1), lineage={},
        ... ).sealed()
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with LiveDocids.create(Path(home) / "docids", table) as live:
        ...         live.add_token_ids([("c", "blue", [6, 1])])
        ...         live.remove(["a"])
        ...     table, tree = LiveDocids.open(Path(home) / "docids").docids
        >>> [(table.doc_ids(tree.documents(leaf)), tree.token_ids(leaf)) for leaf in range(tree.num_leaves)]
        [(['b'], [5, 7, 1]), (['c'], [6, 1])]
    """

    def __init__(
        self, path: Path, *, auto_merge: bool, lock: contextlib.ExitStack | None, part_of: Path | None = None
    ) -> None:
        self.path = self.where = path
        self._part_of = part_of
        self._lock = lock
        folder = live_folder.read(path)
        super().__init__(folder.table, folder.tree, auto_merge=auto_merge and part_of is None)
        self._take_up(folder)

    @classmethod
    def create(
        cls, path: str | Path, table: DocidTable, *, overwrite: bool = False, auto_merge: bool = True
    ) -> LiveDocids:
        """Build the tree of a table, write both, and open them for changes.

        Args:
            path: where the folder shall stand.
            table: the docids to begin with.
            overwrite: replace live docids that stand there, with all their changes.
            auto_merge: see `open`.

        Raises:
            ArtefactError: something stands there that may not be replaced, or the disk is full.
            LockedError: another process changes what stands there.
        """
        target = Path(path).expanduser().resolve()
        lock = live_folder.lock(target)
        try:
            live_folder.write(target, table, overwrite=overwrite)
            return cls(target, auto_merge=auto_merge, lock=lock)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        write: bool = False,
        tokenizer: PreTrainedTokenizerBase | None = None,
        corpus_fingerprint: str | None = None,
        auto_merge: bool = True,
        verify: bool = False,
        part_of: str | Path | None = None,
    ) -> LiveDocids:
        """Open a folder as it is now.

        Args:
            path: the folder.
            write: to change it; only one process may.
            tokenizer: the one it will be used with; checked when given.
            corpus_fingerprint: of the corpus it will be used with; checked when given and known.
            auto_merge: merge within the change that makes a merge due. Building ten million documents anew takes
                minutes: where changes must not wait, pass False and call `merge` when `merge_is_due`.
            verify: also read every file and compare checksums.
            part_of: the larger folder that these docids are a part of, where they are. Its manifest names their files
                too: nothing is merged by itself then, but by `write_with`, with all of that folder.

        Raises:
            ArtefactError: the folder is torn, damaged, foreign or of another kind.
            LockedError: another process changes it.
            MismatchError: it was made with another tokenizer or from another corpus.
        """
        target = Path(path).expanduser().resolve()
        whole = None if part_of is None else Path(part_of).expanduser().resolve()
        if verify:
            store.verify(target)
        lock = live_folder.lock(whole or target) if write else None
        try:
            live = cls(target, auto_merge=auto_merge, lock=lock, part_of=whole)
            wanted = {}
            if tokenizer is not None:
                wanted["tokenizer"] = tokenizer_fingerprint(tokenizer)
            if corpus_fingerprint is not None:
                wanted["corpus"] = corpus_fingerprint
            check_lineage(live._changes.lineage(), wanted, what="this docid table", where=target)
            return live
        except BaseException:
            if lock is not None:
                lock.close()
            raise

    def write_with(self, write: Callable[[DocidTable], None], path: Path) -> None:
        """See `ChangingDocids.write_with`; where the folder is the one that these are a part of, they go on there."""
        with self._mutex:
            if self._lock is None or path != self._part_of:
                super().write_with(write, path)
                return
            self._check_writable()
            write(self._changed_table())
            self._load()

    def refresh(self) -> bool:
        """Take up what another process has changed since; whether there was anything.

        Raises:
            ArtefactError: the folder is gone or damaged.
        """
        with self._mutex:
            records, error = [], None
            try:
                records = self._journal.read()
            except RetgenError as found:
                error = found
            # Whatever was read, if the folder was replaced meanwhile it may have been another's.
            if store.open_folder(self.path, kind=live_folder.KIND).digest != self._digest:
                self._load()
                return True
            if error is not None:
                raise error
            return self._replay(records)

    def close(self) -> None:
        """Let others change the folder. What was opened can still be read."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_writable(self) -> None:
        if self._lock is None:
            raise UsageError(
                "these docids were opened to be read",
                where=self._part_of or self.path,
                mend="Open them with write=True",
            )
        if store.open_folder(self.path, kind=live_folder.KIND).digest != self._digest:
            raise LockedError("another process replaced this folder", where=self.path, mend="Open it again")

    def _keep(self, new: NewDocids, removed: Sequence[int], corpus_fingerprint: str | None) -> None:
        self._journal.append(new.to_record(removed, corpus_fingerprint))

    def _merge(self) -> None:
        if self._part_of is not None:
            raise UsageError(
                "these docids are a part of a larger folder, and are merged with it",
                where=self._part_of,
                mend="Save the system that they belong to over its folder",
            )
        live_folder.write(self.path, self._changes.merged(), overwrite=True)
        self._load()

    def _load(self) -> None:
        folder = live_folder.read(self.path)
        self._begin(folder.table, folder.tree)
        self._take_up(folder)

    def _take_up(self, folder: live_folder.LiveFolder) -> None:
        self._digest, self._journal = folder.digest, folder.journal
        self._replay(folder.records)

    def _replay(self, records: Sequence[Record]) -> bool:
        for record in records:
            try:
                self._changes.apply(*NewDocids.from_record(record))
            except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                raise ArtefactError(
                    f"a change written here cannot be read ({error})", where=self._journal.path, mend="Build it again"
                ) from error
            self._docids = None
        return len(records) > 0
