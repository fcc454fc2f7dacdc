"""Composition: ``retriever >> reranker >> answerer``, bound to a corpus and run in blocks of queries.

Depends on the types alone, so that every component may derive from `Component`. What each part does lives with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, Protocol, runtime_checkable

from retgen.errors import MismatchError, UsageError
from retgen.types import Answer, Answerer, Document, DocumentSource, Explanation, Query, Reranker, Retriever, Run

Progress = Callable[[int, int], None]
"""Called with (done, total) as work proceeds."""


class Component:
    """Base of everything that may stand in a pipeline: gives it ``>>`` and ``over``.

    A component is a Retriever, a Reranker or an Answerer by the methods it has; this class adds only composition.

    Example:
        >>> class Nothing(Component):
        ...     def search(self, queries, k=100):
        ...         return Run([query.id for query in queries], [[] for _ in queries], [[] for _ in queries])
        >>> pipeline = Nothing().over({})
        >>> pipeline(["is anyone there?"]).run["q1"]
        ()
    """

    def __rshift__(self, other: object) -> Chain:
        return Chain((*_parts(self), *_parts(other)))

    def over(self, source: DocumentSource | SearchableSource) -> Pipeline:
        """Bind this component, or chain of them, to a corpus or an index."""
        return Pipeline(_parts(self), source)


class Chain(Component):
    """Components in the order they work. Written ``a >> b``; `over` makes a `Pipeline` of it."""

    def __init__(self, parts: Sequence[object]) -> None:
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        return " >> ".join(type(part).__name__ for part in self.parts)


@runtime_checkable
class SearchableSource(Protocol):
    """An index: a corpus with retrievers over it, each under its name."""

    @property
    def corpus(self) -> DocumentSource:
        """The documents."""
        ...

    def retriever(self, name: str) -> Retriever:
        """The retriever of that name."""
        ...


@runtime_checkable
class Bindable(Protocol):
    """A part that needs to know the corpus before it can work, e.g. a BM25 without an index."""

    def bind(self, source: DocumentSource | SearchableSource) -> object:
        """The part that works over this source; may be ``self``."""
        ...


@runtime_checkable
class Explainer(Protocol):
    """A part that can say why a document stands where it does."""

    def explain(self, query: Query, document: Document) -> Explanation:
        """Named and token scores of this document for this query."""
        ...


@runtime_checkable
class SearcherAndAnswerer(Protocol):
    """A model that retrieves and answers from one pass over its input."""

    def search_and_answer(self, queries: Sequence[Query], k: int = 100) -> tuple[Run, list[Answer]]:
        """The run and one answer for every query."""
        ...


class Result(NamedTuple):
    """What a pipeline gives: a run with every query, and one answer each where there is an answerer (else none)."""

    run: Run
    answers: list[Answer]


class Pipeline:
    """Components bound to a corpus.

    The order is: one retriever (or none, when a run is given or the answerer needs none), rerankers, one answerer.

    Args:
        parts: the components, in order.
        source: a `Corpus`, an `Index`, or any mapping from document id to `Document`.

    Raises:
        UsageError: a part is none of the three kinds, or stands where it cannot work.
        MismatchError: a part belongs to another corpus.

    Example:
        >>> from retgen.lexical import BM25
        >>> documents = {"d1": Document("d1", "Joseph Priestley discovered oxygen in 1774.")}
        >>> pipeline = BM25.build(documents.values()).over(documents)
        >>> pipeline(["who discovered oxygen?"]).run.doc_ids("q1")
        ['d1']
    """

    def __init__(self, parts: Sequence[object], source: DocumentSource | SearchableSource) -> None:
        self.documents = source.corpus if isinstance(source, SearchableSource) else source
        bound = [part.bind(source) if isinstance(part, Bindable) else part for part in parts]
        self.retriever, self.rerankers, self.answerer = _roles(bound)
        self.parts = tuple(bound)

    def __call__(
        self,
        queries: Sequence[str | Query],
        *,
        k: int = 100,
        run: Run | None = None,
        block_size: int = 256,
        progress: Progress | None = None,
    ) -> Result:
        """Run all queries. See `stream` for the arguments."""
        runs: list[Run] = []
        answers: list[Answer] = []
        for block in self.stream(queries, k=k, run=run, block_size=block_size, progress=progress):
            runs.append(block.run)
            answers.extend(block.answers)
        return Result(Run.concat(runs) if runs else Run([], [], []), answers)

    def stream(
        self,
        queries: Sequence[str | Query],
        *,
        k: int = 100,
        run: Run | None = None,
        block_size: int = 256,
        progress: Progress | None = None,
    ) -> Iterator[Result]:
        """Run the queries block by block, so that memory does not grow with their number.

        Args:
            queries: questions, or `Query` objects where ids matter; plain strings become q1, q2, ….
            k: how many documents the retriever finds for each.
            run: start from this run instead of the pipeline's retriever; it must hold every query.
            block_size: queries per block.
            progress: called with (queries done, queries in all) after each block.

        Yields:
            One `Result` per block, in the queries' order.

        Raises:
            UsageError: a query id occurs twice, or ``run`` lacks one.
            MismatchError: the run comes from another corpus.
        """
        if k < 1 or block_size < 1:
            raise UsageError(f"k and block_size must be at least 1; got k={k}, block_size={block_size}")
        asked = as_queries(queries)
        if run is not None:
            self._check(run)
            missing = [query.id for query in asked if query.id not in run]
            if missing:
                raise UsageError(
                    f"the given run lacks {len(missing)} of the {len(asked)} queries, the first {missing[0]!r}",
                    mend="Give a run over these queries; a query without hits has an empty list in it",
                )
        elif self.retriever is None and self.rerankers:
            raise UsageError(
                f"{type(self.rerankers[0]).__name__} orders the documents of a run, and there is none",
                mend="Put a retriever before it (retriever >> reranker), or pass run=...",
            )
        for start in range(0, len(asked), block_size):
            block = asked[start : start + block_size]
            yield self._run_block(block, k, run.select([query.id for query in block]) if run is not None else None)
            if progress is not None:
                progress(start + len(block), len(asked))

    def explain(self, query: str | Query, doc_id: str) -> list[Explanation]:
        """Why this document stands where it does: one explanation from every part that offers one, in their order."""
        asked = as_queries([query])[0]
        document = self.documents[doc_id]
        return [part.explain(asked, document) for part in self.parts if isinstance(part, Explainer)]

    def __repr__(self) -> str:
        return f"Pipeline({' >> '.join(type(part).__name__ for part in self.parts)})"

    def _run_block(self, queries: Sequence[Query], k: int, run: Run | None) -> Result:
        found: Run | None = run
        if found is None and self.retriever is not None:
            if len(self.parts) == 1 and self.answerer is not None and isinstance(self.parts[0], SearcherAndAnswerer):
                found, answers = self.parts[0].search_and_answer(queries, k)
                self._check(found)
                return Result(found, answers)
            found = self.retriever.search(queries, k)
            self._check(found)
        for reranker in self.rerankers:
            if found is not None:
                found = reranker.rerank(queries, found, self.documents)
        answers = self.answerer.answer(queries, found, self.documents) if self.answerer is not None else []
        if found is None:
            nothing: list[list[str]] = [[] for _ in queries]
            found = Run([query.id for query in queries], nothing, [[] for _ in queries])
        return Result(found, answers)

    def _check(self, run: Run) -> None:
        check_fingerprint(run.fingerprint, self.documents, "this run")


def as_queries(queries: Sequence[str | Query]) -> list[Query]:
    """Strings as queries q1, q2, …; queries as they are.

    Raises:
        UsageError: ``queries`` is one string, or an id occurs twice.
    """
    if isinstance(queries, str):
        raise UsageError("one string was given where a list of questions is expected", mend='Write ["..."]')
    asked = [Query(f"q{n}", query) if isinstance(query, str) else query for n, query in enumerate(queries, 1)]
    seen: set[str] = set()
    for query in asked:
        if query.id in seen:
            raise UsageError(f"the query id {query.id!r} occurs twice", mend="Give every query its own id")
        seen.add(query.id)
    return asked


def check_fingerprint(fingerprint: str | None, documents: object, what: str) -> None:
    """Refuse what was made from another corpus. Unknown fingerprints (None on either side) pass.

    Raises:
        MismatchError: both fingerprints are known and differ.
    """
    expected = getattr(documents, "fingerprint", None)
    if fingerprint is not None and expected is not None and fingerprint != expected:
        raise MismatchError(
            f"{what} was made from another corpus (fingerprint {fingerprint[:12]}, the corpus' is {expected[:12]})",
            mend="Use the corpus or index it was made from, or make it again",
        )


def _parts(component: object) -> tuple[object, ...]:
    return component.parts if isinstance(component, Chain) else (component,)


def _roles(parts: Sequence[object]) -> tuple[Retriever | None, list[Reranker], Answerer | None]:
    """Which part retrieves, which rerank, which answers. A part that could do two things does what its place asks."""
    if not parts:
        raise UsageError("a pipeline needs at least one component")
    retriever: Retriever | None = None
    answerer: Answerer | None = None
    rerankers: list[Reranker] = []
    last = len(parts) - 1
    for position, part in enumerate(parts):
        if position == 0 and isinstance(part, Retriever):
            retriever = part
            if position == last and isinstance(part, Answerer):
                answerer = part
        elif position == last and isinstance(part, Answerer):
            answerer = part
        elif isinstance(part, Reranker):
            rerankers.append(part)
        else:
            raise UsageError(_misplaced(part, position, last))
    return retriever, rerankers, answerer


def _misplaced(part: object, position: int, last: int) -> str:
    name = type(part).__name__
    kinds = [
        kind
        for kind, protocol in (("a retriever", Retriever), ("a reranker", Reranker), ("an answerer", Answerer))
        if isinstance(part, protocol)
    ]
    if not kinds:
        return f"{name} has none of search, rerank and answer, so it cannot stand in a pipeline"
    expected = list(
        chain(
            ["a retriever"] if position == 0 else [],
            ["a reranker"],
            ["an answerer"] if position == last else [],
        )
    )
    return (
        f"part {position + 1} of the pipeline, {name}, is {' and '.join(kinds)}; "
        f"{' or '.join(expected)} is expected there (the order is retriever >> rerankers >> answerer)"
    )
