"""What was added to and removed from a table and its tree since they were built, and both as they are now.

In memory only: `live` writes it down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retgen.docids.docid_tree import DocidTree
from retgen.docids.grown_table import GrownTable
from retgen.docids.layered_tree import LayeredTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.table import DocidTable
from retgen.errors import UnknownDocumentError, UsageError

MERGE_FROM = 10_000
"""What a merge costs besides its documents, in documents: small collections are not merged at every change."""


class Docids(NamedTuple):
    """A table and the tree of its documents, as they were at one moment."""

    table: DocidTable
    tree: DocidTree


@dataclass(frozen=True, slots=True)
class NewDocids:
    """Documents to add.

    Args:
        doc_ids: ids that no document present has.
        texts: their docids as texts.
        token_ids: their docids as tokens, each with EOS as its last and only there.
        cut: how many texts were cut.
        special_tokens_dropped: EOS and padding tokens that the texts spelled out.
    """

    doc_ids: Sequence[str] = ()
    texts: Sequence[str] = ()
    token_ids: Sequence[Sequence[int] | npt.NDArray[np.integer]] = ()
    cut: int = 0
    special_tokens_dropped: int = 0

    def to_record(self, removed: Sequence[int], corpus_fingerprint: str | None) -> dict[str, object]:
        """A change that adds these and removes those numbers, as JSON values."""
        rows = zip(self.doc_ids, self.texts, self.token_ids, strict=True)
        return {
            "add": [[doc_id, text, np.asarray(tokens).tolist()] for doc_id, text, tokens in rows],
            "cut": self.cut,
            "dropped": self.special_tokens_dropped,
            "remove": list(removed),
            "corpus": corpus_fingerprint,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[NewDocids, list[int], str | None]:
        """What `to_record` was given."""
        doc_ids, texts, tokens = ([row[column] for row in record["add"]] for column in range(3))
        token_ids = [np.array(ids, dtype=np.int32) for ids in tokens]
        new = cls(doc_ids, texts, token_ids, int(record["cut"]), int(record["dropped"]))
        return new, [int(number) for number in record["remove"]], record["corpus"]


@dataclass(slots=True)
class Changes:
    """Changes to a table and a tree that stay as they were built."""

    table: DocidTable
    tree: PrefixTree
    corpus_fingerprint: str | None
    doc_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    token_ids: list[npt.NDArray[np.int32]] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    resorted: int = 0
    """Documents put into trees of added documents so far, all such trees together: what not merging has cost."""
    any: bool = False
    _later: dict[str, int] = field(default_factory=dict)
    _cut: int = 0
    _dropped: int = 0

    @property
    def num_present(self) -> int:
        """Documents there are now."""
        return len(self.table) + len(self.doc_ids) - len(self.removed)

    @property
    def merge_is_due(self) -> bool:
        """Whether building table and tree anew pays by now; the rule is `live.LiveDocids`'."""
        built = len(self.table)
        many = len(self.doc_ids) + len(self.removed) >= built // 4 + MERGE_FROM
        return self.num_present > 0 and (self.resorted >= built + MERGE_FROM or many)

    def number(self, doc_id: str) -> int:
        """Corpus number of a document present.

        Raises:
            UnknownDocumentError: there is none, or no longer.
        """
        number = self._later.get(doc_id)
        if number is None:
            number = self.table.number(doc_id)
        if number in self.removed:
            raise UnknownDocumentError(doc_id, where="docids")
        return number

    def has(self, doc_id: str) -> bool:
        """Whether a document is there."""
        try:
            self.number(doc_id)
        except UnknownDocumentError:
            return False
        return True

    def check(self, new: NewDocids, removed: Iterable[str]) -> list[int]:
        """Whether a change can be made; the numbers of the documents that it removes.

        Raises:
            UsageError: an id that is there already or comes twice, or a docid that is none.
            UnknownDocumentError: a document to remove is not there.
        """
        numbers = [self.number(doc_id) for doc_id in removed]
        if len(set(numbers)) != len(numbers):
            raise UsageError("a document is to be removed twice", mend="Name every document once")
        seen: set[str] = set()
        for doc_id, text, tokens in zip(new.doc_ids, new.texts, new.token_ids, strict=True):
            if doc_id in seen or self.has(doc_id):
                raise UsageError(
                    f"document {doc_id!r} is there already", mend="Remove it first, or give the new one its own id"
                )
            seen.add(doc_id)
            self._check_docid(doc_id, text, np.asarray(tokens))
        return numbers

    def apply(self, new: NewDocids, removed: Sequence[int], corpus_fingerprint: str | None) -> None:
        """Make a change that was checked."""
        self.removed.update(removed)
        for doc_id in new.doc_ids:
            self._later[doc_id] = len(self.table) + len(self.doc_ids)
            self.doc_ids.append(doc_id)
        self.texts += new.texts
        self.token_ids += [np.asarray(tokens, dtype=np.int32) for tokens in new.token_ids]
        self._cut += new.cut
        self._dropped += new.special_tokens_dropped
        self.corpus_fingerprint = corpus_fingerprint
        self.any = True

    def lineage(self) -> dict[str, str]:
        """Fingerprints of what there is now: the docids' own is not made before they are merged."""
        if not self.any:
            return dict(self.table.lineage)
        kept = {name: value for name, value in self.table.lineage.items() if name == "tokenizer"}
        return kept | ({"corpus": self.corpus_fingerprint} if self.corpus_fingerprint is not None else {})

    def docids(self) -> Docids:
        """The table and the tree as they are now; they do not change with what follows."""
        if not self.any:
            return Docids(self.table, self.tree)
        first = len(self.table)
        gone = np.array(sorted(self.removed), dtype=np.int64)
        numbers = np.setdiff1d(np.arange(first, first + len(self.doc_ids)), gone, assume_unique=True)
        added = self._added_tree(numbers) if len(numbers) else None
        tree = LayeredTree(self.tree, removed=gone[gone < first], added=added, lineage=self.lineage())
        return Docids(self._grown(gone), tree)

    def merged(self) -> DocidTable:
        """A table of the documents present, numbered anew."""
        gone = np.array(sorted(self.removed), dtype=np.int64)
        return self._grown(gone).compacted(self.lineage())

    def _grown(self, gone: npt.NDArray[np.int64]) -> GrownTable:
        added = None
        if self.doc_ids:
            make_up = replace(self.table.make_up, cut=self._cut, special_tokens_dropped=self._dropped)
            added = DocidTable.from_token_ids(self.doc_ids, self.texts, self.token_ids, make_up=make_up, lineage={})
        return GrownTable(self.table, added, gone, lineage=self.lineage())

    def _added_tree(self, numbers: npt.NDArray[np.int64]) -> PrefixTree:
        parts = [self.token_ids[number - len(self.table)] for number in numbers.tolist()]
        self.resorted += len(parts)
        return PrefixTree.from_flat(
            np.concatenate(parts),
            np.cumsum([0, *map(len, parts)]),
            eos_token_id=self.tree.eos_token_id,
            numbers=numbers,
        )

    def _check_docid(self, doc_id: str, text: str, tokens: npt.NDArray[np.integer]) -> None:
        eos, longest = self.tree.eos_token_id, self.table.make_up.max_length
        where = f"docid of {doc_id!r}"
        try:
            (doc_id + text).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the id or text is not valid Unicode ({error.reason})", where=where) from error
        if tokens.ndim != 1 or len(tokens) < 1 or not np.issubdtype(tokens.dtype, np.integer):
            raise UsageError("there are no tokens", where=where)
        if len(tokens) > longest:
            raise UsageError(f"it has {len(tokens)} tokens; those of this table have {longest} at most", where=where)
        if int(tokens.min()) < 0 or int(tokens.max()) >= 2**31:
            raise UsageError("a token id is negative or above 2³¹ − 1", where=where)
        if np.flatnonzero(tokens == eos).tolist() != [len(tokens) - 1]:
            raise UsageError(f"EOS ({eos}) must be its last token, and only that", where=where)
