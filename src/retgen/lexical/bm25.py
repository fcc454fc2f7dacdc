"""BM25 over one field or several, on bm25s and PyStemmer. What a word is lives in `retgen.lexical.analyzer`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import bm25s
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retgen import store
from retgen.errors import MismatchError, UsageError
from retgen.lexical.analyzer import Analyzer
from retgen.lexical.ranking import Allowed, NumberedDocuments, best
from retgen.lexical.settings import BM25Settings, field_text
from retgen.pipeline import Component, Progress, SearchableSource, check_fingerprint
from retgen.types import Document, DocumentFilter, DocumentSource, Explanation, Query, Run

logging.getLogger("bm25s").setLevel(logging.WARNING)

KIND = "bm25"
_PROGRESS_EVERY = 1000


class BM25(Component):
    """BM25 with Lucene's idf: a Retriever. Scores are sums of term weights, above 0 and without an upper bound.

    Only documents that share a term with the query are hits; ties stand in corpus order. A query without terms has no
    hits. It reads the question (`Query.text`), never the connector.

    ``BM25()`` is not yet over any documents: `bind` (which `over` calls) takes an index' own BM25, or builds one over a
    corpus. `BM25.build` builds one at once.

    Args:
        fields, language, k1, b: see `BM25Settings`. Left out, an index' own settings or the defaults hold.

    Reference:
        Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009;
        Kamphuis et al., "Which BM25 Do You Mean?", 2020 (the Lucene variant).

    Example:
        >>> bm25 = BM25.build([Document("a", "Oxygen is a gas."), Document("b", "Iron is a metal.")])
        >>> bm25.search([Query("q", "which metals are heavy?")]).doc_ids("q")
        ['b']
    """

    def __init__(
        self,
        *,
        fields: str | Mapping[str, float] | None = None,
        language: str | None = None,
        k1: float | None = None,
        b: float | None = None,
    ) -> None:
        self.settings = BM25Settings.of(
            "flat" if fields is None else fields,
            "english" if language is None else language,
            0.9 if k1 is None else k1,
            0.4 if b is None else b,
        )
        self._asked = {
            name
            for name, value in (("fields", fields), ("language", language), ("k1", k1), ("b", b))
            if value is not None
        }
        self.fingerprint: str | None = None
        self._analyse = Analyzer(self.settings.language)
        self._indexes: dict[str, bm25s.BM25] = {}
        self._ids: Sequence[str] | pa.Array = ()
        self._documents: NumberedDocuments | Sequence[Document] | None = None

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        *,
        fields: str | Mapping[str, float] = "flat",
        language: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        progress: Progress | None = None,
    ) -> BM25:
        """Index documents: a `Corpus`, a list, or anything that yields them. It is read once.

        Args:
            documents: with unique ids.
            fields: ``"flat"`` for title and text as one field, or field → weight.
            language: of the stemmer and the stop words.
            k1: see `BM25Settings`.
            b: see `BM25Settings`.
            progress: called with (documents read, documents in all) now and then; 0 in all where not known.

        Raises:
            UsageError: no document, an id that occurs twice, or settings that cannot be used.
        """
        bm25 = cls(fields=fields, language=language, k1=k1, b=b)
        bm25._build(documents, progress)
        return bm25

    def bind(self, source: DocumentSource | SearchableSource) -> BM25:
        """This BM25 over a source: itself where it is built, else the index' own, else a new one over the corpus.

        Raises:
            MismatchError: it was built from another corpus, or the index' BM25 has other settings than asked for.
            UsageError: the source can be neither searched nor listed.
        """
        corpus = source.corpus if isinstance(source, SearchableSource) else source
        if self._indexes:
            check_fingerprint(self.fingerprint, corpus, "this BM25 index")
            return self
        if isinstance(source, SearchableSource):
            found = source.retriever("bm25")
            if isinstance(found, BM25):
                self._check_settings(found.settings)
                return found
        listed = corpus.values() if isinstance(corpus, Mapping) else corpus
        if not isinstance(listed, Iterable):
            raise UsageError(
                f"BM25 cannot be built over a {type(corpus).__name__}, which does not list its documents",
                mend="Give a Corpus, an Index or a dict",
            )
        return BM25.build(listed, **asdict(self.settings))

    def search(self, queries: Sequence[Query], k: int = 100, *, filter: DocumentFilter | None = None) -> Run:
        """The best ``k`` documents of every query.

        Args:
            queries: with unique ids.
            k: at most so many hits each; at least 1.
            filter: keeps the documents for which it is true. Scores do not change: term statistics are the corpus'.

        Raises:
            UsageError: k < 1, a query id that occurs twice, no documents yet, or a filter without documents to read.
        """
        self._require_built()
        if k < 1:
            raise UsageError(f"k must be at least 1; got {k}")
        allowed = Allowed(filter, self._documents) if filter is not None else None
        doc_ids: list[list[str]] = []
        scores: list[npt.NDArray[np.float64]] = []
        for query in queries:
            values = self._scores(self._analyse(query.text))
            numbers = best(values, k) if allowed is None else allowed.best(values, k)
            doc_ids.append([str(self._ids[int(number)]) for number in numbers])
            scores.append(values[numbers])
        return Run(
            [query.id for query in queries],
            doc_ids,
            scores,
            components={"bm25": scores},
            fingerprint=self.fingerprint,
            presorted=True,
        )

    def explain(self, query: Query, document: Document) -> Explanation:
        """What each term of the query gives this document; the term scores add up to its score.

        A term that occurs twice in the query counts twice. Terms the document lacks are listed with 0. With several
        fields, the components name what each of them gives.

        Raises:
            UsageError: the document is not in this index.
        """
        self._require_built()
        number = self._number(document.id)
        terms = self._analyse(query.text)
        per_term = dict.fromkeys(terms, 0.0)
        components: dict[str, float] = {}
        for name, weight in self.settings.fields.items():
            given = [weight * _term_score(self._indexes[name], term, number) for term in terms]
            components[name] = sum(given)
            for term, score in zip(terms, given, strict=True):
                per_term[term] += score
        total = {"bm25": sum(components.values())}
        return Explanation(
            query.id, document.id, total | (components if len(components) > 1 else {}), tuple(per_term.items())
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the index to a folder, whole or not at all (see `retgen.store`)."""
        self._require_built()
        with store.create(path, kind=KIND, made_by={"fingerprint": self.fingerprint}, overwrite=overwrite) as staging:
            for position, name in enumerate(self.settings.fields):
                self._indexes[name].save(staging / f"field-{position}", show_progress=False)
            ids = pa.table({"id": pa.array(list(self._ids), pa.string())})
            with pa.OSFile(str(staging / "ids.arrow"), "wb") as sink, pa.ipc.new_file(sink, ids.schema) as writer:
                writer.write_table(ids)
            settings = asdict(self.settings) | {"fields": list(self.settings.fields.items())}
            (staging / "settings.json").write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def open(cls, path: str | Path, documents: NumberedDocuments | None = None, *, mmap: bool = True) -> BM25:
        """Open a saved index; its arrays stay on disk and are read as searches touch them.

        Args:
            path: the folder.
            documents: the corpus it was built from; filters need it.
            mmap: map the arrays instead of reading them into memory.

        Raises:
            ArtefactError: the folder is missing, torn or of another kind.
            MismatchError: ``documents`` is another corpus.
        """
        manifest = store.open_folder(path, kind=KIND)
        settings = json.loads((manifest.path / "settings.json").read_text(encoding="utf-8"))
        bm25 = cls(**settings | {"fields": dict(settings["fields"])})
        for position, name in enumerate(bm25.settings.fields):
            bm25._indexes[name] = bm25s.BM25.load(manifest.path / f"field-{position}", mmap=mmap, show_progress=False)
        with pa.memory_map(str(manifest.path / "ids.arrow")) as mapped:
            bm25._ids = pa.ipc.open_file(mapped).read_all().column("id").combine_chunks()
        fingerprint = manifest.made_by["fingerprint"]
        bm25.fingerprint = str(fingerprint) if fingerprint is not None else None
        if documents is not None:
            check_fingerprint(bm25.fingerprint, documents, f"the BM25 index {path}")
            if len(documents) != len(bm25):
                raise MismatchError(
                    f"this BM25 index holds {len(bm25)} documents and the corpus {len(documents)}", where=path
                )
            bm25._documents = documents
        return bm25

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"BM25({len(self)} documents)" if self._indexes else "BM25()"

    def _build(self, documents: Iterable[Document], progress: Progress | None) -> None:
        # The empty term stands at 0 so that no vocabulary is empty; bm25s would add it at the end.
        vocabularies: dict[str, dict[str, int]] = {name: {"": 0} for name in self.settings.fields}
        terms: dict[str, list[list[int]]] = {name: [] for name in self.settings.fields}
        ids: dict[str, None] = {}
        total = len(documents) if isinstance(documents, Sequence | NumberedDocuments) else 0
        for document in documents:
            if document.id in ids:
                raise UsageError(f"the document id {document.id!r} occurs twice", mend="Give every document its own id")
            ids[document.id] = None
            for name, vocabulary in vocabularies.items():
                found = self._analyse(field_text(document, name))
                terms[name].append([vocabulary.setdefault(term, len(vocabulary)) for term in found])
            if progress is not None and len(ids) % _PROGRESS_EVERY == 0:
                progress(len(ids), total)
        if not ids:
            raise UsageError("there is no document to index", mend="Give at least one document")
        for name in self.settings.fields:
            index = bm25s.BM25(k1=self.settings.k1, b=self.settings.b, method="lucene", backend="numpy")
            with np.errstate(invalid="ignore"):  # a field without any word has mean length 0, and no score to spoil
                index.index((terms.pop(name), vocabularies[name]), show_progress=False)
            self._indexes[name] = index
        self._ids = tuple(ids)
        self.fingerprint = getattr(documents, "fingerprint", None)
        self._documents = documents if isinstance(documents, Sequence | NumberedDocuments) else None
        if progress is not None:
            progress(len(ids), len(ids))

    def _scores(self, terms: Sequence[str]) -> npt.NDArray[np.float64]:
        """Every document's score, shape (documents,)."""
        total = np.zeros(len(self), dtype=np.float64)
        for name, weight in self.settings.fields.items():
            numbers = self._indexes[name].get_tokens_ids(terms)
            if numbers:
                total += weight * self._indexes[name].get_scores_from_ids(numbers).astype(np.float64)
        return total

    def _number(self, doc_id: str) -> int:
        if isinstance(self._ids, pa.Array):
            number = int(self._ids.index(doc_id).as_py())
        else:
            number = self._ids.index(doc_id) if doc_id in self._ids else -1
        if number < 0:
            raise UsageError(f"the document {doc_id!r} is not in this BM25 index")
        return number

    def _check_settings(self, found: BM25Settings) -> None:
        for name in sorted(self._asked):
            if getattr(found, name) != getattr(self.settings, name):
                raise MismatchError(
                    f"BM25 was asked for with {name}={getattr(self.settings, name)!r}, and this index' BM25 has "
                    f"{getattr(found, name)!r}",
                    mend="Build the index with these settings, or leave them out to use the index as it is",
                )

    def _require_built(self) -> None:
        if not self._indexes:
            raise UsageError(
                "this BM25 is not over any documents yet",
                mend="Use BM25.build(documents), BM25.open(path), or (BM25() >> ...).over(index)",
            )


def _term_score(index: bm25s.BM25, term: str, number: int) -> float:
    token = index.vocab_dict.get(term)
    if token is None:
        return 0.0
    start, stop = int(index.scores["indptr"][token]), int(index.scores["indptr"][token + 1])
    place = start + int(np.searchsorted(index.scores["indices"][start:stop], number))
    if place == stop or index.scores["indices"][place] != number:
        return 0.0
    return float(index.scores["data"][place])
