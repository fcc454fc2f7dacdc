"""Docids of a collection that changes, in memory: documents come and go, and the next search sees it.

What makes changes outlive the process is in `live`; what they are, in `changes`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen.docids import live_folder
from retgen.docids.changes import Changes, Docids, NewDocids
from retgen.docids.docid_tree import DocidTree
from retgen.docids.grown_table import GrownTable
from retgen.docids.lineage import check_lineage, tokenizer_fingerprint
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.table import DocidTable
from retgen.docids.tokenising import tokenise_docids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ChangingDocids:
    """A docid table and its prefix tree, to which documents are added and from which they are removed.

    What changes is `docids`, a pair of table and tree: take it once for a search, as its corpus numbers belong
    together. The pair taken does not change.

    A merge is due (`merge_is_due`) when either putting added documents into small trees, which is done anew whenever a
    search follows a change, has sorted as many documents as building the whole tree would, so that what not merging
    costs and what merging costs stay alike; or a quarter as many documents were added and removed as were built, which
    search and memory pay for. Both have 10,000 documents on top.

    Args:
        table: the docids to begin with.
        tree: theirs; built from the table by default.
        auto_merge: merge within the change that makes a merge due.

    Raises:
        UsageError: the table has no documents.

    Example:
        >>> from retgen.docids.table import DocidMakeUp
        >>> make_up = DocidMakeUp("title", max_length=8, eos_token_id=1)
        >>> table = DocidTable.from_token_ids(["a"], ["red"], [np.array([5, 1])], make_up=make_up, lineage={}).sealed()
        >>> docids = ChangingDocids(table)
        >>> docids.add_token_ids([("c", "blue", [6, 1])])
        >>> docids.remove(["a"])
        >>> docids.table.doc_ids(docids.table.present), docids.tree.token_ids(0)
        (['c'], [6, 1])
    """

    where: str | Path = "docids"
    """What errors name."""

    def __init__(self, table: DocidTable, tree: PrefixTree | None = None, *, auto_merge: bool = True) -> None:
        self._auto_merge = auto_merge
        self._mutex = threading.RLock()
        self._known_tokenizer: PreTrainedTokenizerBase | None = None
        self._docids: Docids | None = None
        self._begin(table, tree)

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
        """Add documents, all or none; they are findable when this returns.

        Args:
            docids: document id and docid text of each.
            tokenizer: the one that the table was made with.
            corpus_fingerprint: of the corpus with these documents, where known.

        Raises:
            UsageError: an id that is there already or comes twice, or an empty docid.
            MismatchError: another tokenizer.
            ArtefactError: the change cannot be written.
        """
        make_up = self._changes.table.make_up
        if tokenizer is not self._known_tokenizer:
            wanted = {"tokenizer": tokenizer_fingerprint(tokenizer)}
            check_lineage(self._changes.lineage(), wanted, what="this docid table", where=self.where)
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
        """Remove documents, all or none; nothing finds them when this returns.

        Args:
            doc_ids: their ids.
            corpus_fingerprint: of the corpus without these documents, where known.

        Raises:
            UnknownDocumentError: a document is not there.
            ArtefactError: the change cannot be written.
        """
        self._change(NewDocids(), list(doc_ids), corpus_fingerprint)

    @property
    def merge_is_due(self) -> bool:
        """Whether building table and tree anew pays by now (see the class)."""
        return self._changes.merge_is_due

    def merge(self) -> None:
        """Build table and tree anew from the documents present, which numbers them anew.

        Without changes, or without documents (a tree has one at least), nothing is done.
        """
        with self._mutex:
            self._check_writable()
            if self._changes.any and self._changes.num_present:
                self._merge()

    def write_with(self, write: Callable[[DocidTable], None], path: Path) -> None:
        """Have the table of the documents present, numbered from 0, written as a part of a folder.

        Nothing changes these docids meanwhile, and no other process those that stand there.

        Args:
            write: writes the whole folder.
            path: where it shall stand; absolute.

        Raises:
            UsageError: there are no documents.
            LockedError: another process changes the docids that stand there.
        """
        with self._mutex, live_folder.lock(path):
            write(self._changed_table())

    def _begin(self, table: DocidTable, tree: PrefixTree | None) -> None:
        if isinstance(table, GrownTable):
            table, tree = table.compacted(table.lineage), None
        self._changes = Changes(table, tree or PrefixTree.from_table(table), table.corpus_fingerprint)
        self._docids = None

    def _changed_table(self) -> DocidTable:
        return self._changes.merged() if self._changes.any else self._changes.table

    def _change(self, new: NewDocids, removed: Sequence[str], corpus_fingerprint: str | None) -> None:
        with self._mutex:
            self._check_writable()
            numbers = self._changes.check(new, removed)
            if not (numbers or new.doc_ids):
                return
            self._keep(new, numbers, corpus_fingerprint)
            self._changes.apply(new, numbers, corpus_fingerprint)
            self._docids = None
            if self._auto_merge and self.merge_is_due:
                self.merge()

    def _check_writable(self) -> None:
        """Raise where nothing may be changed."""

    def _keep(self, new: NewDocids, removed: Sequence[int], corpus_fingerprint: str | None) -> None:
        """Write a change down before it is made."""

    def _merge(self) -> None:
        self._begin(self._changes.merged(), None)
