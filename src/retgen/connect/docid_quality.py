"""How good the docid texts of a corpus are as names: how long, how distinct, how close to their documents."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from retgen.connect.docid_texts import DocidText
from retgen.errors import UsageError
from retgen.text import normalise_answer
from retgen.types import Document

Tokenise = Callable[[str], Sequence[object]]
"""A docid text as the tokens it is searched by."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, middle and largest of some counts, and their mean; all 0 where there are none."""

    low: float
    median: float
    mean: float
    high: float

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """Of these values."""
        if not values:
            return cls(0, 0, 0, 0)
        return cls(min(values), statistics.median(values), statistics.fmean(values), max(values))


@dataclass(frozen=True, slots=True)
class DocidQuality:
    """The docid texts of a corpus as names.

    Args:
        documents: how many.
        words: of a docid text.
        tokens: of a docid text, in `unit`.
        repaired: reason → docids that are the document's first words for it.
        cut: docids that were cut.
        sharing: documents whose docid some other document has too: no search can tell them apart.
        groups: such docids.
        overlap: share, 0 to 1, of a docid's words (lower case, no articles) that stand in its document; the mean.
        until_unique: tokens of the shortest beginning that no other docid has, of the documents that share no docid:
            what a search has to get right. A docid that is the beginning of another counts its end as a token.
        unit: ``"words"``, or ``"tokens"`` of a tokenizer.
    """

    documents: int
    words: Spread
    tokens: Spread
    repaired: Mapping[str, int]
    cut: int
    sharing: int
    groups: int
    overlap: float
    until_unique: Spread
    unit: str

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {**asdict(self), "repaired": dict(self.repaired)}

    def __str__(self) -> str:
        repaired = ", ".join(f"{count} {why}" for why, count in self.repaired.items()) or "none"
        shared = f"{self.sharing} of {self.documents} documents share theirs" if self.sharing else "none is shared"
        return (
            f"docids: {self.words.median:g} words (from {self.words.low:g} to {self.words.high:g}), {shared}, "
            f"{self.overlap:.0%} of their words stand in the document, unique after {self.until_unique.mean:.1f} "
            f"{self.unit} (at most {self.until_unique.high:g}); replaced by the document's first words: {repaired}; "
            f"cut: {self.cut}"
        )


def docid_quality(
    documents: Sequence[Document], docids: Sequence[DocidText], *, tokenise: Tokenise | None = None
) -> DocidQuality:
    """Measure docid texts.

    Args:
        documents: the collection.
        docids: of each document.
        tokenise: as the model that will write them reads them; words (lower case) by default.

    Raises:
        UsageError: not as many docids as documents.

    Example:
        >>> documents = [Document("a", "Tin melts."), Document("b", "Tin is soft.")]
        >>> found = docid_quality(documents, [DocidText("Tin melts", "m"), DocidText("Tin bends", "m")])
        >>> found.overlap, found.until_unique.high, found.sharing
        (0.75, 2, 0)
    """
    if len(documents) != len(docids):
        raise UsageError(f"there are {len(documents)} documents and {len(docids)} docids; they must pair up")
    split = tokenise if tokenise is not None else _words
    rows = [tuple(split(docid.text)) for docid in docids]
    counts = Counter(rows)
    shared = [count for count in counts.values() if count > 1]
    overlaps = [_overlap(document, docid.text) for document, docid in zip(documents, docids, strict=True)]
    return DocidQuality(
        documents=len(documents),
        words=Spread.of([len(docid.text.split()) for docid in docids]),
        tokens=Spread.of([len(row) for row in rows]),
        repaired=dict(sorted(Counter(docid.repair for docid in docids if docid.repair).items())),
        cut=sum(docid.cut for docid in docids),
        sharing=sum(shared),
        groups=len(shared),
        overlap=statistics.fmean(overlaps) if overlaps else 0.0,
        until_unique=Spread.of(until_unique(rows)),
        unit="words" if tokenise is None else "tokens",
    )


def until_unique(rows: Sequence[Sequence[object]]) -> list[int]:
    """Tokens until each docid is the only one that begins so; docids that occur twice are left out.

    Args:
        rows: the tokens of each docid, without an end token.

    Example:
        >>> until_unique([("tin", "melts"), ("tin", "bends"), ("iron",), ("iron", "rusts")])
        [2, 2, 2, 2]
    """
    if not rows:
        return []
    counts = Counter(map(tuple, rows))
    numbers: dict[object, int] = {}
    # Sorted by any one order, a docid shares its longest beginning with a neighbour. 0 ends each: the end is an edge.
    ordered = sorted((*(numbers.setdefault(token, len(numbers) + 1) for token in row), 0) for row in counts)
    common = [_common(one, two) for one, two in itertools.pairwise(ordered)]
    lengths = {
        row: 1 + max(before, after) for row, before, after in zip(ordered, [0, *common], [*common, 0], strict=True)
    }
    keys = ((*(numbers[token] for token in row), 0) for row in rows if counts[tuple(row)] == 1)
    return [lengths[key] for key in keys]


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _words(text: str) -> list[str]:
    return text.lower().split()


def _overlap(document: Document, docid: str) -> float:
    named = normalise_answer(docid).split()
    there = set(normalise_answer(document.contents).split())
    return sum(word in there for word in named) / len(named) if named else 0.0
