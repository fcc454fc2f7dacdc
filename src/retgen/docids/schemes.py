"""Docid schemes: which text names a document.

A scheme reads documents, and their connectors or embeddings where it needs them, and writes one text per document; the
table (`table`) tokenises, cuts and checks it. `SCHEMES` has them by name; those that write codes are in
`coded_schemes`, addresses in `url_scheme`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from retgen.docids.coded_schemes import IntegerScheme, ProductScheme, SemanticScheme
from retgen.docids.url_scheme import UrlScheme
from retgen.errors import UsageError
from retgen.types import Document


class DocidScheme(Protocol):
    """A way to name documents.

    Called with the documents of a corpus (an iterable that can be walked twice) and, where there are any, the
    connector text of each document id; yields document id and docid text in corpus order.
    """

    @property
    def name(self) -> str:
        """What the scheme is called on the command line."""
        ...

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectorScheme:
    """The docid is the document's connector (UniGen's D-Connector).

    Raises:
        UsageError: no connectors, or none for some document.

    Reference:
        UniGen, "LLM-based Connectors Generation".

    Example:
        >>> list(ConnectorScheme()([Document("d1", "long text")], {"d1": "its  gist"}))
        [('d1', 'its gist')]
    """

    name = "connector"

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        if connectors is None:
            raise UsageError(
                "the docid scheme 'connector' needs a connector for every document",
                mend="Write them with `retgen connect --job summarise`, or choose the scheme 'lead'",
            )
        for document in documents:
            text = connectors.get(document.id)
            if text is None:
                raise UsageError(
                    f"document {document.id!r} has no connector",
                    mend="Write the missing connectors with `retgen connect --job summarise`",
                )
            yield document.id, _one_line(text)


@dataclass(frozen=True, slots=True)
class LeadScheme:
    """The docid is the document's first words.

    Args:
        words: how many; None leaves all, for the table's limit to cut at tokens. 30 is a connector's length.
        title: put the title, where there is one, in front; it counts among the words.

    Example:
        >>> list(LeadScheme(words=3, title=True)([Document("d1", "One two three.", "Count")]))
        [('d1', 'Count One two')]
    """

    words: int | None = 30
    title: bool = False
    name = "lead"

    def __post_init__(self) -> None:
        if self.words is not None and self.words < 1:
            raise UsageError(f"the docid scheme 'lead' needs at least one word, not {self.words}")

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        for document in documents:
            source = document.contents if self.title else document.text
            yield document.id, " ".join(source.split()[: self.words])


@dataclass(frozen=True, slots=True)
class TitleScheme:
    """The docid is the title. Passages of one article share it: they are found together, and counted as collisions.

    Args:
        disambiguate: what to add where a title repeats. None: nothing. ``"number"``: 2, 3, … from the second on.
            ``"lead"``: the first words of each such passage, which may still leave collisions.
        words: how many words ``"lead"`` adds.

    Example:
        >>> passages = [Document("a", "x y", "Mars"), Document("b", "z", "Mars"), Document("c", "w", "Io")]
        >>> [text for _, text in TitleScheme()(passages)]
        ['Mars', 'Mars', 'Io']
        >>> [text for _, text in TitleScheme(disambiguate="number")(passages)]
        ['Mars', 'Mars 2', 'Io']
        >>> [text for _, text in TitleScheme(disambiguate="lead", words=1)(passages)]
        ['Mars x', 'Mars z', 'Io']
    """

    disambiguate: str | None = None
    words: int = 10
    name = "title"

    def __post_init__(self) -> None:
        if self.disambiguate not in (None, "number", "lead"):
            raise UsageError(f"disambiguate must be 'number', 'lead' or None, not {self.disambiguate!r}")

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        if iter(documents) is documents:
            documents = list(documents)
        titles = Counter(_one_line(document.title) for document in documents)
        taken: set[str] = set()
        latest: Counter[str] = Counter()
        for document in documents:
            text = title = _one_line(document.title)
            if not title:
                # An empty docid is an error wherever it comes from; a number behind nothing would hide it.
                pass
            elif self.disambiguate == "lead" and titles[title] > 1:
                text = " ".join([title, *document.text.split()[: self.words]])
            elif self.disambiguate == "number" and latest[title]:
                # Numbers that some other title already bears are passed over.
                while text in taken or text in titles:
                    latest[title] += 1
                    text = f"{title} {latest[title]}"
            latest[title] = max(latest[title], 1)
            taken.add(text)
            yield document.id, text


def permuted(docids: Iterable[tuple[str, str]], seed: int) -> Iterator[tuple[str, str]]:
    """The same docids given to other documents: a control that keeps the texts and takes away their sense.

    The permutation is one cycle through all documents, so none keeps its own (though two documents with equal docids
    may swap them).

    Args:
        docids: document id and docid text.
        seed: of the permutation.

    Raises:
        UsageError: fewer than two documents.

    Example:
        >>> list(permuted([("a", "x"), ("b", "y")], seed=0))
        [('a', 'y'), ('b', 'x')]
    """
    pairs = list(docids)
    if len(pairs) < 2:
        raise UsageError("random docids need at least two documents to exchange them")
    order = list(range(len(pairs)))
    chance = random.Random(seed)
    # Sattolo's shuffle: drawing strictly below the current place makes a single cycle.
    for place in range(len(order) - 1, 0, -1):
        other = chance.randrange(place)
        order[place], order[other] = order[other], order[place]
    for (doc_id, _), source in zip(pairs, order, strict=True):
        yield doc_id, pairs[source][1]


SCHEMES: dict[str, Callable[..., DocidScheme]] = {
    ConnectorScheme.name: ConnectorScheme,
    LeadScheme.name: LeadScheme,
    TitleScheme.name: TitleScheme,
    UrlScheme.name: UrlScheme,
    IntegerScheme.name: IntegerScheme,
    SemanticScheme.name: SemanticScheme,
    ProductScheme.name: ProductScheme,
}
"""Scheme by name. ``semantic`` and ``pq`` are given the documents' embeddings as ``vectors``."""


def docid_scheme(name: str, **options: object) -> DocidScheme:
    """The scheme with this name.

    Raises:
        UsageError: there is no such scheme, or it has no such option.

    Example:
        >>> docid_scheme("lead", words=20).words
        20
    """
    if name not in SCHEMES:
        raise UsageError(f"no docid scheme {name!r}", mend=f"There is: {', '.join(SCHEMES)}")
    try:
        return SCHEMES[name](**options)
    except TypeError as error:
        raise UsageError(f"the docid scheme {name!r} cannot take these options ({error})") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())
