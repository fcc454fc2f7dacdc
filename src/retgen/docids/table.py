"""The docid table: which text, as which tokens, names each document.

Which text that is, a scheme decides (`schemes`); searching the docids is the prefix tree's work (`prefix_tree`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retgen import store
from retgen.docids.lineage import check_lineage, tokenizer_fingerprint
from retgen.errors import ArtefactError, UnknownDocumentError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KIND = "docid-table"
_BATCH = 1024
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
        self.tokens = tokens
        self.offsets = offsets
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
        if max_length < 2:
            raise UsageError(f"max_length must leave room for a token and EOS: at least 2, not {max_length}")
        end = eos_token_id if eos_token_id is not None else tokenizer.eos_token_id
        end = end if end is not None else tokenizer.sep_token_id
        if end is None:
            raise UsageError("the tokenizer has neither an EOS nor a SEP token", mend="Pass eos_token_id")
        doc_ids: list[str] = []
        texts: list[str] = []
        parts: list[npt.NDArray[np.int32]] = []
        cut = dropped = 0
        special = {end, tokenizer.pad_token_id}
        for batch in _batches(docids):
            encoded = tokenizer(
                [text for _, text in batch], add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            for (doc_id, text), ids in zip(batch, encoded, strict=True):
                kept = [token for token in ids if token not in special]
                dropped += len(ids) - len(kept)
                if not kept:
                    raise UsageError(
                        f"document {doc_id!r} has an empty docid" + (f" under the scheme {scheme!r}" if scheme else ""),
                        mend="Choose a scheme that gives every document a text, or leave the document out",
                    )
                cut += len(kept) > max_length - 1
                parts.append(np.array([*kept[: max_length - 1], end], dtype=np.int32))
                doc_ids.append(doc_id)
                texts.append(text)
        if not doc_ids:
            raise UsageError("there are no documents to name", mend="Give a corpus that is not empty")
        if len(set(doc_ids)) != len(doc_ids):
            twice = Counter(doc_ids).most_common(1)[0][0]
            raise UsageError(f"the document id {twice!r} occurs twice", mend="Give every document its own id")
        tokens = np.concatenate(parts)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        lineage = {"tokenizer": tokenizer_fingerprint(tokenizer), "docids": _fingerprint(doc_ids, tokens, offsets)}
        if corpus_fingerprint is not None:
            lineage["corpus"] = corpus_fingerprint
        columns = pa.table({"doc_id": pa.array(doc_ids, pa.large_string()), "text": pa.array(texts, pa.large_string())})
        make_up = DocidMakeUp(scheme, max_length, int(end), cut, dropped)
        return cls(columns, tokens, offsets, make_up=make_up, lineage=lineage)

    @property
    def eos_token_id(self) -> int:
        """The token every docid ends with."""
        return self.make_up.eos_token_id

    @property
    def corpus_fingerprint(self) -> str | None:
        """Fingerprint of the corpus, where the table was told."""
        return self.lineage.get("corpus")

    def __len__(self) -> int:
        return len(self.offsets) - 1

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
        for number, (start, stop) in enumerate(zip(self.offsets[:-1], self.offsets[1:], strict=True)):
            groups.setdefault(self.tokens[start:stop].tobytes(), []).append(number)
        return tuple(tuple(self.doc_ids(group)) for group in groups.values() if len(group) > 1)

    @property
    def collision_rate(self) -> float:
        """Share of documents, 0 to 1, whose docid some other document has too."""
        return sum(map(len, self.collisions)) / len(self)

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


def _batches(docids: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    rest = iter(docids)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _fingerprint(doc_ids: Sequence[str], tokens: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for doc_id in doc_ids:
        digest.update(doc_id.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(offsets.astype("<i8").tobytes())
    digest.update(tokens.astype("<i4").tobytes())
    return digest.hexdigest()


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("its manifest lacks what a docid table needs")
    return value
