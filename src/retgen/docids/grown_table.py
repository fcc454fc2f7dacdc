"""A docid table that changed: rows added behind those of the table that was built, and rows that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retgen.docids.table import DocidMakeUp, DocidTable
from retgen.errors import UnknownDocumentError

_BLOCK = 2**18


class GrownTable(DocidTable):
    """A table with other rows behind its own, without copying it.

    Numbers run on from the base's. A removed document keeps its number, under which it can still be read (a search that
    began before may ask); its id is unknown, or that of a document added later.

    Args:
        base: the table that was built.
        added: rows added since, one at least; ids may be those of removed documents. None where there are none.
        removed: ``(r,)`` numbers of documents that are gone, rising.
        lineage: fingerprints of what it now stands for.
    """

    def __init__(
        self,
        base: DocidTable,
        added: DocidTable | None,
        removed: npt.NDArray[np.int64],
        *,
        lineage: Mapping[str, str],
    ) -> None:
        self._base, self._added, self._removed = base, added, removed
        make_up, columns = base.make_up, base.columns
        if added is not None:
            make_up = _added_up(make_up, added.make_up)
            columns = pa.concat_tables([columns, added.columns])
        super().__init__(columns, base.tokens, base.offsets, make_up=make_up, lineage=lineage)

    @cached_property
    def tokens(self) -> npt.NDArray[np.int32]:
        """``(t,)`` docids of all rows laid end to end; they are copied when first asked for."""
        return self._base.tokens if self._added is None else np.concatenate([self._base.tokens, self._added.tokens])

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """``(rows + 1,)``: row ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``."""
        if self._added is None:
            return self._base.offsets
        return np.concatenate([self._base.offsets, self._base.offsets[-1] + self._added.offsets[1:]])

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Corpus numbers of its documents, rising: of all rows but the removed."""
        return np.setdiff1d(np.arange(len(self)), self._removed, assume_unique=True)

    def number(self, doc_id: str) -> int:
        """Corpus number of a document.

        Raises:
            UnknownDocumentError: the table does not have it, or no longer.
        """
        if doc_id in self._later:
            return self._later[doc_id]
        number = self._base.number(doc_id)
        if number in self._gone:
            raise UnknownDocumentError(doc_id, where="docid table")
        return number

    def token_ids(self, number: int) -> list[int]:
        """The docid as tokens, EOS last."""
        if number < len(self._base) or self._added is None:
            return self._base.token_ids(number)
        return self._added.token_ids(number - len(self._base))

    def compacted(self, lineage: Mapping[str, str]) -> DocidTable:
        """A table of the documents present, numbered from 0 in their order.

        Args:
            lineage: its fingerprints; ``docids`` is made.

        Raises:
            UsageError: there are none left.
        """
        keep = self.present
        split = int(np.searchsorted(keep, len(self._base)))
        parts = [(self._base, keep[:split])]
        if self._added is not None:
            parts.append((self._added, keep[split:] - len(self._base)))
        lengths = np.concatenate([np.diff(table.offsets)[rows] for table, rows in parts])
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        tokens = np.empty(int(offsets[-1]), dtype=np.int32)
        place = 0
        for table, rows in parts:
            for block in np.array_split(rows, len(rows) // _BLOCK + 1):
                starts, counts = table.offsets[block], np.diff(table.offsets)[block]
                source = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
                tokens[place : place + len(source)] = table.tokens[source]
                place += len(source)
        columns = pa.concat_tables([table.columns.take(pa.array(rows)) for table, rows in parts]).combine_chunks()
        return DocidTable(columns, tokens, offsets, make_up=self.make_up, lineage=lineage).sealed()

    @cached_property
    def _later(self) -> dict[str, int]:
        if self._added is None:
            return {}
        rows = enumerate(self._added.columns["doc_id"].to_pylist(), start=len(self._base))
        return {doc_id: number for number, doc_id in rows if number not in self._gone}

    @cached_property
    def _gone(self) -> frozenset[int]:
        return frozenset(self._removed.tolist())


def _added_up(base: DocidMakeUp, added: DocidMakeUp) -> DocidMakeUp:
    return replace(
        base,
        cut=base.cut + added.cut,
        special_tokens_dropped=base.special_tokens_dropped + added.special_tokens_dropped,
    )
