"""Docids of a collection that changes: a folder with a table and a tree as they were built, and a journal of changes.

A change is written to the journal before it is made, and holds from then on, whatever becomes of the process. Merging
builds table and tree anew from the documents present; the new folder takes the old one's place, journal and all, in one
step. One process may change a folder at a time; any number may read it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from retgen import store
from retgen.docids import live_folder
from retgen.docids.changes import Changes, Docids, NewDocids
from retgen.docids.docid_tree import DocidTree
from retgen.docids.journal import Record
from retgen.docids.lineage import check_lineage, tokenizer_fingerprint
from retgen.docids.table import DocidTable
from retgen.docids.tokenising import tokenise_docids
from retgen.errors import ArtefactError, LockedError, RetgenError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LiveDocids:
    """A docid table and its prefix tree, to which documents are added and from which they are removed.

    Made by `LiveDocids.create` or `LiveDocids.open`. What changes is `docids`, a pair of table and tree: take it once
    for a search, as its corpus numbers belong together. The pair taken does not change.

    A merge is due (`merge_is_due`) when either putting added documents into small trees, which is done anew whenever a
    search follows a change, has sorted as many documents as building the whole tree would, so that what not merging
    costs and what merging costs stay alike; or a quarter as many documents were added and removed as were built, which
    search and memory pay for. Both have 10,000 documents on top.

    Example:
        >>> import tempfile
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

    def __init__(self, path: Path, *, auto_merge: bool, lock: contextlib.ExitStack | None) -> None:
        self.path = path
        self._auto_merge = auto_merge
        self._lock = lock
        self._mutex = threading.RLock()
        self._known_tokenizer: PreTrainedTokenizerBase | None = None
        self._docids: Docids | None = None
        self._load()

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

        Raises:
            ArtefactError: the folder is torn, damaged, foreign or of another kind.
            LockedError: another process changes it.
            MismatchError: it was made with another tokenizer or from another corpus.
        """
        target = Path(path).expanduser().resolve()
        if verify:
            store.verify(target)
        lock = live_folder.lock(target) if write else None
        try:
            live = cls(target, auto_merge=auto_merge, lock=lock)
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

    @property
    def docids(self) -> Docids:
        """Table and tree of the documents present: a pair that does not change any more."""
        with self._mutex:
            if self._docids is None:
                self._docids = self._changes.docids()
            return self._docids

    @property
    def table(self) -> DocidTable:
        """The table as it is now; take it with its tree, as `docids`, where numbers go from one to the other."""
        return self.docids.table

    @property
    def tree(self) -> DocidTree:
        """The tree as it is now; see `table`."""
        return self.docids.tree

    def __len__(self) -> int:
        return self._changes.num_present

    def __contains__(self, doc_id: object) -> bool:
        with self._mutex:
            return isinstance(doc_id, str) and self._changes.has(doc_id)

    def add(
        self,
        docids: Iterable[tuple[str, str]],
        tokenizer: PreTrainedTokenizerBase,
        *,
        corpus_fingerprint: str | None = None,
    ) -> None:
        """Add documents, all or none; they are findable when this returns, and after a restart.

        Args:
            docids: document id and docid text of each.
            tokenizer: the one that the table was made with.
            corpus_fingerprint: of the corpus with these documents, where known.

        Raises:
            UsageError: an id that is there already or comes twice, or an empty docid.
            MismatchError: another tokenizer.
            ArtefactError: it was not opened for changes, or the change cannot be written.
        """
        make_up = self._changes.table.make_up
        if tokenizer is not self._known_tokenizer:
            wanted = {"tokenizer": tokenizer_fingerprint(tokenizer)}
            check_lineage(self._changes.lineage(), wanted, what="this docid table", where=self.path)
            self._known_tokenizer = tokenizer
        made = tokenise_docids(
            docids, tokenizer, max_length=make_up.max_length, eos_token_id=make_up.eos_token_id, scheme=make_up.scheme
        )
        new = NewDocids(made.doc_ids, made.texts, made.token_ids, made.cut, made.special_tokens_dropped)
        self._change(new, [], corpus_fingerprint)

    def add_token_ids(
        self,
        docids: Iterable[tuple[str, str, Sequence[int] | npt.NDArray[np.integer]]],
        *,
        corpus_fingerprint: str | None = None,
    ) -> None:
        """Add documents whose docids are tokens already, all or none; see `add`.

        Args:
            docids: document id, docid text and docid tokens of each, EOS last.
            corpus_fingerprint: of the corpus with these documents, where known.
        """
        rows = list(docids)
        new = NewDocids([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
        self._change(new, [], corpus_fingerprint)

    def remove(self, doc_ids: Iterable[str], *, corpus_fingerprint: str | None = None) -> None:
        """Remove documents, all or none; nothing finds them when this returns, nor after a restart.

        Args:
            doc_ids: their ids.
            corpus_fingerprint: of the corpus without these documents, where known.

        Raises:
            UnknownDocumentError: a document is not there.
            ArtefactError: it was not opened for changes, or the change cannot be written.
        """
        self._change(NewDocids(), list(doc_ids), corpus_fingerprint)

    @property
    def merge_is_due(self) -> bool:
        """Whether building table and tree anew pays by now (see the class)."""
        return self._changes.merge_is_due

    def merge(self) -> None:
        """Build table and tree anew from the documents present, which numbers them anew.

        Without changes, or without documents (a tree has one at least), nothing is done.

        Raises:
            ArtefactError: it was not opened for changes, or the disk is full; what was there stays.
        """
        with self._mutex:
            self._check_writable()
            if not self._changes.any or not self._changes.num_present:
                return
            live_folder.write(self.path, self._changes.merged(), overwrite=True)
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

    def _change(self, new: NewDocids, removed: Sequence[str], corpus_fingerprint: str | None) -> None:
        with self._mutex:
            self._check_writable()
            numbers = self._changes.check(new, removed)
            if not (numbers or new.doc_ids):
                return
            self._journal.append(new.to_record(numbers, corpus_fingerprint))
            self._changes.apply(new, numbers, corpus_fingerprint)
            self._docids = None
            if self._auto_merge and self.merge_is_due:
                self.merge()

    def _check_writable(self) -> None:
        if self._lock is None:
            raise UsageError("these docids were opened to be read", where=self.path, mend="Open them with write=True")
        if store.open_folder(self.path, kind=live_folder.KIND).digest != self._digest:
            raise LockedError("another process replaced this folder", where=self.path, mend="Open it again")

    def _load(self) -> None:
        folder = live_folder.read(self.path)
        self._digest, self._journal = folder.digest, folder.journal
        self._changes = Changes(folder.table, folder.tree, folder.table.corpus_fingerprint)
        self._docids = None
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
