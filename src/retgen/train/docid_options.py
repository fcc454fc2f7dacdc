"""How the documents of a collection are named: a docid scheme with its options, and the embeddings it may need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retgen.docids.coded_schemes import CodedScheme
from retgen.docids.schemes import docid_scheme, permuted
from retgen.models.marks import without_marks
from retgen.types import Document

if TYPE_CHECKING:
    from retgen.docids.codes import CodeAlphabet

FloatRows = npt.NDArray[np.float32]

_WITH_WORDS = ("lead", "title")
_WITH_VECTORS = ("semantic", "pq")
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class NamedDocuments:
    """Docid texts, and what a tokenizer must hold to write them.

    Args:
        pairs: document id and docid text of every document, in corpus order, free of a context's marks.
        alphabet: of docids that are codes; None for words.
    """

    pairs: list[tuple[str, str]]
    alphabet: CodeAlphabet | None = None


@dataclass(frozen=True, slots=True)
class DocidOptions:
    """How documents are named.

    Args:
        scheme: one of `retgen.docids.schemes.SCHEMES`.
        words: of a lead, or that tell equal titles apart.
        max_tokens: longest docid, EOS included; codes are never cut.
        permute_seed: give every document another's docid: the control in which docids mean nothing. None does not.
        encoder: of the documents, where the scheme needs embeddings and none are handed in: see
            `retgen.dense.encoder.load_encoder`.
        options: the scheme's other options, e.g. ``{"clusters": 30, "leaf": 30}``.
    """

    scheme: str = "lead"
    words: int = 6
    max_tokens: int = 64
    permute_seed: int | None = None
    encoder: str = "minilm"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_vectors(self) -> bool:
        """Whether the scheme reads embeddings."""
        return self.scheme in _WITH_VECTORS

    @property
    def described(self) -> str:
        """The scheme, for the record."""
        return self.scheme if self.permute_seed is None else f"{self.scheme}, permuted"

    def texts(
        self,
        documents: Sequence[Document],
        connectors: Mapping[str, str] | None = None,
        vectors: npt.ArrayLike | None = None,
    ) -> list[tuple[str, str]]:
        """Document id and docid text of every document, free of the marks that set docids off in a context."""
        return self.named(documents, connectors, vectors).pairs

    def named(
        self,
        documents: Sequence[Document],
        connectors: Mapping[str, str] | None = None,
        vectors: npt.ArrayLike | None = None,
    ) -> NamedDocuments:
        """Docid texts with their alphabet.

        Args:
            documents: the collection, in corpus order.
            connectors: by document id, for the scheme ``connector``.
            vectors: ``(documents, d)`` embeddings, for schemes that need them; by default the encoder makes them.

        Raises:
            UsageError: there is no such scheme or option, or documents that it cannot name.
            MissingExtraError: embeddings are needed, and a package that makes or clusters them is not installed.
        """
        options = dict(self.options)
        if self.scheme in _WITH_WORDS:
            options.setdefault("words", self.words)
        if self.needs_vectors:
            options["vectors"] = document_vectors(documents, self.encoder) if vectors is None else vectors
        scheme = docid_scheme(self.scheme, **options)
        alphabet = None
        if isinstance(scheme, CodedScheme):
            coded = scheme.coded(documents)
            found, alphabet = coded.pairs, coded.alphabet
        else:
            found = list(scheme(documents, connectors))
        pairs = [(doc_id, without_marks(text)) for doc_id, text in found]
        if self.permute_seed is not None:
            pairs = list(permuted(pairs, self.permute_seed))
        return NamedDocuments(pairs, alphabet)


def document_vectors(
    documents: Sequence[Document],
    model: str = "minilm",
    *,
    batch_size: int = 64,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FloatRows:
    """Embeddings of documents, title and text as one: ``(documents, d)``, of length 1.

    Args:
        documents: in corpus order.
        model: ``"minilm"``, a folder or a hub id of a sentence-transformers model.
        batch_size: texts encoded at once.
        device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.
        progress: called with (documents encoded, documents in all).

    Raises:
        MissingExtraError: a package is missing.
        FormatError: no model can be loaded from there.
    """
    from retgen.dense.encoder import load_encoder
    from retgen.models.quiet import no_progress_bars

    with no_progress_bars():
        encoder = load_encoder(model, device)
    parts: list[FloatRows] = []
    for start in range(0, len(documents), _BLOCK):
        block = documents[start : start + _BLOCK]
        rows = encoder.encode_document(
            [document.contents for document in block],
            batch_size=batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        parts.append(np.asarray(rows, dtype=np.float32))
        if progress is not None:
            progress(start + len(block), len(documents))
    return np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)
