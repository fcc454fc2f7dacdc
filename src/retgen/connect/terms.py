"""What a word is worth: stemmed content words, and their inverse document frequency in a collection."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from retgen.lexical.analyzer import Analyzer
from retgen.types import Document

FUNCTION_WORDS = frozenset(
    """a about above after again against all also although am among an and another any are as at be because been before
    being below between both but by can could did do does doing down during each either else ever every few for from
    further had has have having he her here hers herself him himself his how however i if in into is it its itself just
    many may me might more most much must my myself near neither no nor not of off often on once one only onto or other
    our ours ourselves out over own per quite rather same several shall she should since so some such than that the
    their theirs them themselves then there these they this those though through thus to together too toward towards
    under until up upon very was we were what whatever when where whether which while who whom whose why will with
    within without would yet you your yours yourself""".split()
)
"""English words that carry structure rather than subject. "us" is not among them: it may be a country."""

_WORD = re.compile(r"\w+(?:['’.-]\w+)*")


class TermWeights:
    """Weights of stemmed content words: idf over a collection, or 1 for each where no collection was counted.

    ``idf(t) = ln(1 + (N − df + 0.5) / (df + 0.5))``, BM25's, always positive; a word that occurs nowhere gets df = 0.

    Args:
        document_frequencies: stem → number of documents that hold it; None for equal weights.
        size: N, the number of documents counted.
        language: of the analyser (see `retgen.lexical.languages`). In English all function words are dropped besides
            its stop words; elsewhere idf does that work.

    Raises:
        UsageError: there is no analyser for that language.

    Example:
        >>> weights = TermWeights.from_documents([Document("a", "Iron melts."), Document("b", "Tin melts.")])
        >>> weights.terms("Which metals melt?"), weights.weight("iron") > weights.weight("melt")
        (['metal', 'melt'], True)
    """

    def __init__(
        self,
        document_frequencies: Mapping[str, int] | None = None,
        size: int = 0,
        language: str = "english",
    ) -> None:
        self.language = language
        self._analyse = Analyzer(language)
        self._frequencies = document_frequencies
        self._size = size
        english = language in ("english", "porter")
        self._dropped = frozenset(self._analyse(" ".join(sorted(FUNCTION_WORDS)))) if english else frozenset[str]()

    @classmethod
    def from_documents(cls, documents: Iterable[Document], language: str = "english") -> TermWeights:
        """Weights counted over a collection, title and text; one pass, memory grows with the vocabulary."""
        plain = cls(language=language)
        counts: Counter[str] = Counter()
        size = 0
        for document in documents:
            counts.update(set(plain.terms(document.contents)))
            size += 1
        return cls(counts, size, language)

    def terms(self, text: str) -> list[str]:
        """The stemmed content words of a text, in order, repeats kept."""
        return [term for term in self._analyse(text) if term not in self._dropped]

    def weight(self, term: str) -> float:
        """The weight of a stem, > 0."""
        if self._frequencies is None:
            return 1.0
        frequency = self._frequencies.get(term, 0)
        return math.log1p((self._size - frequency + 0.5) / (frequency + 0.5))

    def total(self, terms: Iterable[str]) -> float:
        """The summed weight of distinct stems."""
        # Sorted: a set's order differs between processes, and floating-point sums with it.
        return sum(self.weight(term) for term in sorted(set(terms)))

    def key_words(self, text: str, count: int) -> list[str]:
        """The words of a text with the highest tf·idf, best first, each as it stands where it comes first.

        Args:
            text: of any length.
            count: at most so many.

        Example:
            >>> documents = [Document("a", "Iron melts, iron rusts."), Document("b", "Tin melts.")]
            >>> TermWeights.from_documents(documents).key_words("Iron melts, iron rusts.", 2)
            ['Iron', 'rusts']
        """
        first: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for word in _WORD.findall(text):
            for term in self.terms(word):
                first.setdefault(term, word)
                counts[term] += 1
        ranked = sorted(counts, key=lambda term: -counts[term] * self.weight(term))
        return [first[term] for term in ranked[:count]]
