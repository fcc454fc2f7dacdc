"""Text to index terms: words, lower-cased, without stop words, stemmed. The same for documents and queries."""

from __future__ import annotations

import re
import unicodedata

import Stemmer
from bm25s import stopwords

from retgen.errors import UsageError

# Apostrophes and full stops inside a word belong to it ("U.S.", "3.5"), as in Unicode's word boundaries; full stops
# only in runs that stay words, so "end.Next" is one word here as it is there.
_WORD_WITH_APOSTROPHE = re.compile(r"\w+(?:['’.]\w+)*")
_WORD = re.compile(r"\w+(?:\.\w+)*")
_POSSESSIVE = ("'s", "’s")

# bm25s' English list is Lucene's; the others are NLTK's.
_STOP_WORDS: dict[str, tuple[str, ...]] = {
    "danish": stopwords.STOPWORDS_DANISH,
    "dutch": stopwords.STOPWORDS_DUTCH,
    "english": stopwords.STOPWORDS_EN,
    "french": stopwords.STOPWORDS_FRENCH,
    "german": stopwords.STOPWORDS_GERMAN,
    "italian": stopwords.STOPWORDS_ITALIAN,
    "norwegian": stopwords.STOPWORDS_NORWEGIAN,
    "porter": stopwords.STOPWORDS_EN,
    "portuguese": stopwords.STOPWORDS_PORTUGUESE,
    "russian": stopwords.STOPWORDS_RUSSIAN,
    "spanish": stopwords.STOPWORDS_SPANISH,
    "swedish": stopwords.STOPWORDS_SWEDISH,
    "turkish": stopwords.STOPWORDS_TURKISH,
}


def languages() -> list[str]:
    """The names `Analyzer` takes: Snowball's stemmers, ``"porter"``, and ``"none"`` (words as they are).

    Example:
        >>> "english" in languages() and "finnish" in languages()
        True
    """
    return [*sorted(Stemmer.algorithms()), "none"]


class Analyzer:
    """Cuts a text into the terms BM25 counts.

    Unicode NFKC, lower case, words, possessive 's removed (English), stop words removed where there is a list for the
    language, Snowball stems. With ``"none"``: words only, no stop words, no stems.

    Args:
        language: a name from `languages`.

    Raises:
        UsageError: the language is not known.

    Example:
        >>> Analyzer("english")("The planet's moons were discovered in 1610.")
        ['planet', 'moon', 'were', 'discov', '1610']
    """

    def __init__(self, language: str = "english") -> None:
        if language not in languages():
            raise UsageError(
                f"there is no analyser for the language {language!r}", mend=f"Known are: {', '.join(languages())}"
            )
        self.language = language
        self._stem = Stemmer.Stemmer(language) if language != "none" else None
        self._stop_words = frozenset(_STOP_WORDS.get(language, ()))
        self._english = language in ("english", "porter")
        self._word = _WORD_WITH_APOSTROPHE if self._english else _WORD

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated as they are."""
        words = self._word.findall(unicodedata.normalize("NFKC", text).lower())
        if self._english:
            words = [word[:-2] if word.endswith(_POSSESSIVE) else word for word in words]
        if self._stop_words:
            words = [word for word in words if word not in self._stop_words]
        if self._stem is None:
            return words
        stems: list[str] = self._stem.stemWords(words)
        return stems
