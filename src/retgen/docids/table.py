"""The docid table: which text, as which tokens, names each document.

Which text that is, a scheme decides (`schemes`); searching the docids is the prefix tree's work (`prefix_tree`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retgen import store
from retgen.docids.lineage import check_lineage, tokenizer_fingerprint
from retgen.docids.tokenising import end_token, tokenise_docids
from retgen.errors import ArtefactError, UnknownDocumentError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KIND = "docid-table"
_BLOCK = 2**18
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class DocidMakeUp:
    """How a table's docids were made, and what had to be done to them.

    Args:
        scheme: name of the scheme, where known.
        max_length: most tokens of a docid, EOS included.
        eos_token_id: the token every docid ends with.
        cut: documents whose text was longer than ``max_length`` allows, and was cut.
        special_tokens_dropped: EOS and padding tokens that the texts spelled out, and that were left out.
    """

    scheme: str
    max_length: int
    eos_token_id: int
    cut: int = 0
    special_tokens_dropped: int = 0


class DocidTable:
    """Document id ↔ docid text ↔ token ids, in corpus order.

    Made by `DocidTable.build` or `DocidTable.load`.

    Args:
        columns: ``doc_id`` and ``text`` of every document.
        tokens: ``(t,)`` docids laid end to end, each ending with EOS.
        offsets: ``(documents + 1,)``: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``.
        make_up: how they were made.
        lineage: fingerprints by name: ``tokenizer``, ``corpus`` (where known), ``docids`` (ids and tokens).
    """

    def __init__(
        self,
        columns: pa.Table,
        tokens: npt.NDArray[np.int32],
        offsets: npt.NDArray[np.int64],
        *,
        make_up: DocidMakeUp,
        lineage: Mapping[str, str],
    ) -> None:
        self._columns = columns
        self._tokens = tokens
        self._offsets = offsets
        self.make_up = make_up
        self.lineage = dict(lineage)

    @classmethod
    def build(
        cls,
        docids: Iterable[tuple[str, str]],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 64,
        eos_token_id: int | None = None,
        scheme: str = "",
        corpus_fingerprint: str | None = None,
    ) -> DocidTable:
        """Tokenise docids.

        Args:
            docids: document id and docid text of every document, in corpus order.
            tokenizer: the model's own.
            max_length: most tokens of a docid, EOS included; longer ones are cut, and counted. 64 holds a connector
                of 30 words, UniGen's length.
            eos_token_id: the token that ends a docid; by default the tokenizer's EOS, or its SEP where it has none.
            scheme: name of the scheme, for the record.
            corpus_fingerprint: of the corpus the documents come from.

        Raises:
            UsageError: a docid text that is empty or has no tokens, a document id that repeats, no documents at all,
                a limit below 2, or a tokenizer with neither EOS nor SEP.
        """
        end = int(eos_token_id) if eos_token_id is not None else end_token(tokenizer)
        made = tokenise_docids(docids, tokenizer, max_length=max_length, eos_token_id=end, scheme=scheme)
        lineage = {"tokenizer": tokenizer_fingerprint(tokenizer)}
        if corpus_fingerprint is not None:
            lineage["corpus"] = corpus_fingerprint
        make_up = DocidMakeUp(scheme, max_length, end, made.cut, made.special_tokens_dropped)
        return cls.from_token_ids(made.doc_ids, made.texts, made.token_ids, make_up=make_up, lineage=lineage).sealed()

    @classmethod
    def from_token_ids(
        cls,
        doc_ids: Sequence[str],
        texts: Sequence[str],
        token_ids: Sequence[npt.NDArray[np.integer]],
        *,
        make_up: DocidMakeUp,
        lineage: Mapping[str, str],
    ) -> DocidTable:
        """A table of docids that are tokens already, each ending with EOS; ids are looked at by `sealed`."""
        columns = pa.table({"doc_id": pa.array(doc_ids, pa.large_string()), "text": pa.array(texts, pa.large_string())})
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in token_ids])]).astype(np.int64)
        tokens = np.concatenate([np.zeros(0, dtype=np.int32), *token_ids]).astype(np.int32, copy=False)
        return cls(columns, tokens, offsets, make_up=make_up, lineage=lineage)

    def sealed(self) -> DocidTable:
        """This table, once its ids are found distinct, with the fingerprint ``docids`` in its lineage.

        Raises:
            UsageError: a document id that repeats, or no documents at all.
        """
        if not len(self):
            raise UsageError("there are no documents to name", mend="Give a corpus that is not empty")
        doc_ids = self._columns["doc_id"]
        if pc.count_distinct(doc_ids).as_py() != len(self):
            twice = Counter(doc_ids.to_pylist()).most_common(1)[0][0]
            raise UsageError(f"the document id {twice!r} occurs twice", mend="Give every document its own id")
        lineage = {**self.lineage, "docids": _fingerprint(doc_ids, self.tokens, self.offsets)}
        return DocidTable(self._columns, self.tokens, self.offsets, make_up=self.make_up, lineage=lineage)

    @property
    def columns(self) -> pa.Table:
        """``doc_id`` and ``text`` of every document."""
        return self._columns

    @property
    def tokens(self) -> npt.NDArray[np.int32]:
        """``(t,)`` docids laid end to end, each ending with EOS."""
        return self._tokens

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """``(documents + 1,)``: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``."""
        return self._offsets

    @property
    def eos_token_id(self) -> int:
        """The token every docid ends with."""
        return self.make_up.eos_token_id

    @property
    def corpus_fingerprint(self) -> str | None:
        """Fingerprint of the corpus, where the table was told."""
        return self.lineage.get("corpus")

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Corpus numbers of its documents, rising; in a table that was not changed (`grown_table`), all of them."""
        return np.arange(len(self))

    def doc_id(self, number: int) -> str:
        """Id of the document with this corpus number."""
        return str(self._columns["doc_id"][int(number)].as_py())

    def doc_ids(self, numbers: Iterable[int]) -> list[str]:
        """Ids of the documents with these corpus numbers."""
        return [self.doc_id(number) for number in numbers]

    def number(self, doc_id: str) -> int:
        """Corpus number of a document.

        Raises:
            UnknownDocumentError: the table does not have it.
        """
        try:
            return self._numbers[doc_id]
        except KeyError:
            raise UnknownDocumentError(doc_id, where="docid table") from None

    def text(self, number: int) -> str:
        """The docid as text, as its scheme wrote it, before any cut."""
        return str(self._columns["text"][int(number)].as_py())

    def token_ids(self, number: int) -> list[int]:
        """The docid as tokens, EOS last."""
        return [int(token) for token in self.tokens[self.offsets[number] : self.offsets[number + 1]]]

    def padded(
        self, numbers: Sequence[int] | npt.NDArray[np.integer], *, fill: int = _IGNORED
    ) -> npt.NDArray[np.int64]:
        """Docids of several documents as one rectangle.

        Args:
            numbers: corpus numbers.
            fill: what stands behind a docid's end; −100 is what losses ignore.

        Returns:
            ``(len(numbers), tokens of the longest)``.
        """
        rows = [self.token_ids(int(number)) for number in numbers]
        padded = np.full((len(rows), max(map(len, rows), default=0)), fill, dtype=np.int64)
        for row, ids in zip(padded, rows, strict=True):
            row[: len(ids)] = ids
        return padded

    @cached_property
    def collisions(self) -> tuple[tuple[str, ...], ...]:
        """Groups of documents that share one docid (after any cut), each in corpus order."""
        groups: dict[bytes, list[int]] = {}
        for number in self.present.tolist():
            start, stop = self.offsets[number : number + 2]
            groups.setdefault(self.tokens[start:stop].tobytes(), []).append(number)
        return tuple(tuple(self.doc_ids(group)) for group in groups.values() if len(group) > 1)

    @property
    def collision_rate(self) -> float:
        """Share of documents, 0 to 1, whose docid some other document has too."""
        return sum(map(len, self.collisions)) / max(1, len(self.present))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the table as a folder.

        Raises:
            ArtefactError: something stands there that may not be replaced, or the disk is full.
        """
        made_by = {"make_up": asdict(self.make_up), "lineage": self.lineage}
        with store.create(path, kind=KIND, made_by=made_by, overwrite=overwrite) as staging:
            np.save(staging / "tokens.npy", self.tokens)
            np.save(staging / "offsets.npy", self.offsets)
            target = str(staging / "documents.arrow")
            with pa.OSFile(target, "wb") as sink, pa.ipc.new_file(sink, self._columns.schema) as writer:
                writer.write_table(self._columns)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        corpus_fingerprint: str | None = None,
        verify: bool = False,
    ) -> DocidTable:
        """A saved table, mapped into memory.

        Args:
            path: the folder.
            tokenizer: the one it will be used with; checked when given.
            corpus_fingerprint: of the corpus it will be used with; checked when given.
            verify: also read every file and compare checksums.

        Raises:
            ArtefactError: the folder is torn, foreign or of another kind.
            MismatchError: it was made with another tokenizer or from another corpus.
        """
        manifest = store.open_folder(path, kind=KIND, verify=verify)
        try:
            make_up = DocidMakeUp(**_mapping(manifest.made_by["make_up"]))
            lineage = _mapping(manifest.made_by["lineage"])
            tokens = np.load(manifest.path / "tokens.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
            offsets = np.load(manifest.path / "offsets.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
            columns = pa.ipc.open_file(pa.memory_map(str(manifest.path / "documents.arrow"))).read_all()
            if not (len(columns) == len(offsets) - 1 >= 1 and int(offsets[-1]) == len(tokens)):
                raise ValueError("its files do not fit together")
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise ArtefactError(
                f"this docid table cannot be read ({error})", where=manifest.path, mend="Build it again"
            ) from error
        wanted = {}
        if tokenizer is not None:
            wanted["tokenizer"] = tokenizer_fingerprint(tokenizer)
        if corpus_fingerprint is not None:
            wanted["corpus"] = corpus_fingerprint
        check_lineage(lineage, wanted, what="this docid table", where=manifest.path)
        return cls(columns, tokens, offsets, make_up=make_up, lineage=lineage)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {doc_id: number for number, doc_id in enumerate(self._columns["doc_id"].to_pylist())}


def _fingerprint(doc_ids: pa.ChunkedArray, tokens: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for first in range(0, len(doc_ids), _BLOCK):
        for doc_id in doc_ids.slice(first, _BLOCK).to_pylist():
            digest.update(doc_id.encode() + b"\0")
    for array, kind in ((offsets, "<i8"), (tokens, "<i4")):
        for first in range(0, len(array), _BLOCK):
            digest.update(array[first : first + _BLOCK].astype(kind).tobytes())
    return digest.hexdigest()


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("its manifest lacks what a docid table needs")
    return value
