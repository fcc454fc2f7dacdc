"""The documents of a generative retriever come and go, without a training and without a tree built anew.

Which of them a search may find is decided here too.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from retgen.docids.allowed import AllowedTree
from retgen.docids.changes import Docids
from retgen.docids.changing import ChangingDocids
from retgen.docids.codes import unknown_token
from retgen.docids.docid_tree import DocidTree
from retgen.docids.live import LiveDocids
from retgen.docids.table import DocidTable
from retgen.errors import UnknownDocumentError, UsageError
from retgen.models.marks import without_marks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LivingCollection:
    """What a system that finds documents by docids offers to change them.

    Args:
        docids: the docids, in memory or in the system's folder.
        tokenizer: the one that they were made with.
    """

    def __init__(self, docids: ChangingDocids, tokenizer: PreTrainedTokenizerBase) -> None:
        self.docids = docids
        self.tokenizer = tokenizer
        self._whole: AllowedTree | None = None
        self._only: frozenset[str] | None = None

    @property
    def table(self) -> DocidTable:
        """The docids as they are now; ``docids.docids`` has them with their tree, as corpus numbers want it."""
        return self.docids.table

    @property
    def tree(self) -> DocidTree:
        """The tree of docids as it is now; see `table`."""
        return self.docids.tree

    def add(self, docids: Iterable[tuple[str, str]], *, corpus_fingerprint: str | None = None) -> None:
        """Add documents by their docids, all or none. The next search can find them.

        Of a system opened with ``write=True`` they are in its folder when this returns, also if the process is killed
        at that moment; of one in memory, `save` keeps them. No weight changes: a document is found as well as the model
        makes up docids it was never trained on, which texts allow and numbers do not (``docs/docid-tree.md``).

        Args:
            docids: document id and docid text of each, as the docid scheme of the others writes them, e.g.
                ``LeadScheme(words=6)(documents)``.
            corpus_fingerprint: of the corpus with these documents; without it, the system no longer knows its corpus,
                and cannot refuse another one's runs.

        Raises:
            UsageError: an id that is there already or comes twice, an empty docid, a code that the model has no tokens
                for, or a system opened to be read.
            ArtefactError: the change cannot be written; nothing is added then.
        """
        pairs = [(doc_id, without_marks(text)) for doc_id, text in docids]
        vocabulary = self.tokenizer.get_vocab()
        for doc_id, text in pairs:
            if token := unknown_token(text, vocabulary):
                raise UsageError(
                    f"the docid of {doc_id!r} holds {token}, which this model has no token for",
                    mend="Codes name the documents they were made for: train again, or name them by text",
                )
        self.docids.add(pairs, self.tokenizer, corpus_fingerprint=corpus_fingerprint)

    def remove(self, doc_ids: Iterable[str], *, corpus_fingerprint: str | None = None) -> None:
        """Remove documents, all or none. The next search does not find them; see `add`.

        Raises:
            UnknownDocumentError: a document is not there.
            UsageError: a system opened to be read.
            ArtefactError: the change cannot be written; nothing is removed then.
        """
        self.docids.remove(doc_ids, corpus_fingerprint=corpus_fingerprint)

    def only(self, documents: Iterable[str]) -> Self:
        """The same system over some of its documents (a tenant's, those of a year): no search of it finds another.

        Args:
            documents: their ids; those that the system does not have are left out. What is added later is not among
                them.
        """
        narrowed = copy.copy(self)
        chosen = frozenset(documents)
        narrowed._only = chosen if self._only is None else chosen & self._only
        narrowed._whole = None
        return narrowed

    def refresh(self) -> bool:
        """Take up the documents that another process added to the folder or removed; whether there were any.

        Raises:
            ArtefactError: the folder is gone or damaged.
        """
        return isinstance(self.docids, LiveDocids) and self.docids.refresh()

    def close(self) -> None:
        """Let another process change the folder. What was opened can still be searched."""
        if isinstance(self.docids, LiveDocids):
            self.docids.close()

    def _allowed(self, docids: Docids, documents: Iterable[str] | None) -> AllowedTree:
        """The tree as it may be searched; what `only` leaves of it is kept, with what it knows of the tree's hubs.

        Raises:
            UnknownDocumentError: one of ``documents`` has no docid.
        """
        table, tree = docids
        if documents is not None:
            asked = {doc_id: table.number(doc_id) for doc_id in documents}
            return AllowedTree(tree, [n for doc_id, n in asked.items() if self._only is None or doc_id in self._only])
        if self._whole is None or self._whole.tree is not tree:
            self._whole = AllowedTree(tree, None if self._only is None else _present(table, self._only))
        return self._whole

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _present(table: DocidTable, doc_ids: Iterable[str]) -> list[int]:
    """Corpus numbers of those documents that a table has."""
    numbers = []
    for doc_id in doc_ids:
        with contextlib.suppress(UnknownDocumentError):
            numbers.append(table.number(doc_id))
    return numbers
