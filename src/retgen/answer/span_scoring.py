"""How likely a span of a passage answers a question: a linear score of what is asked for and where the span stands.

No network and no embedding: 17 features and a table of question type × span kind. Candidate spans and their kinds are
`retgen.connect.spans`'.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from retgen.connect.spans import AnswerSpan, Kind, answer_spans
from retgen.connect.terms import TermWeights
from retgen.text import Span, sentences

# All weights: maximum likelihood of the spans that match an accepted answer among those of BM25's top three passages,
# over 4,000 questions of SQuAD's development file whose split (`retgen.types.question_split`) is "train"; features
# chosen on "dev". Kinds too rare there to fit ("percent", "money" as asked for) are set like their neighbours.
_TYPE_AND_KIND: Mapping[str, Mapping[Kind, float]] = {
    "year": {"year": 2.9, "date": 0.5, "number": -0.4, "quantity": -0.2, "name": -1.0, "phrase": -1.2},
    "when": {"date": 2.0, "year": 2.0, "number": -0.5, "quantity": -0.6, "name": -0.9, "phrase": -1.9},
    "percent": {"percent": 2.7, "number": -0.3, "name": -0.6, "phrase": -0.8},
    "money": {"money": 2.7, "number": 0.3, "name": -0.6, "phrase": -0.5},
    "many": {"number": 2.7, "percent": 0.2, "name": -1.4, "phrase": -1.4},
    "much": {"quantity": 1.0, "money": 1.0, "percent": 1.0, "number": -0.1, "name": -1.1, "phrase": -1.4},
    "who": {"name": 2.3, "date": -0.1, "year": -0.2, "number": -0.6, "quantity": -0.4, "phrase": -0.8},
    "where": {"name": 1.4, "date": -0.1, "year": -0.3, "number": -0.2, "quantity": -0.3, "phrase": -0.5},
    "entity": {"name": 1.6, "date": -0.1, "year": -0.2, "number": -0.6, "quantity": 0.2, "phrase": -1.0},
    "which": {"name": 1.4, "year": 0.2, "number": -0.4, "quantity": -0.3, "phrase": -0.8},
    "what": {"name": 0.6, "money": 1.1, "date": -0.4, "year": -0.7, "quantity": -0.4, "phrase": -0.2},
}
_QUESTION_TYPES = tuple(
    (name, re.compile(cue))
    for name, cue in (
        ("year", r"\b(?:what|which) (?:year|decade)"),
        ("when", r"\bwhen\b|\b(?:what|which) (?:date|day|month|century|time)"),
        ("percent", r"\bwhat (?:percent|percentage|proportion|fraction)|\bhow much percent"),
        ("money", r"\bhow much (?:money|did .* cost|does .* cost|was .* worth)|\bcost\b"),
        ("many", r"\bhow many\b|\bwhat (?:number|total|population)"),
        ("much", r"\bhow (?:much|long|far|tall|high|old|large|big|deep|fast|hot|heavy|wide|often)\b"),
        ("who", r"\bwho\b|\bwhom\b|\bwhose\b"),
        ("where", r"\bwhere\b|\b(?:what|which) (?:city|country|state|place|town|county|continent)"),
        (
            "entity",
            r"\b(?:what|which) (?:\w+ )?(?:company|team|person|man|woman|university|school|river|book)|\bname\b",
        ),
        ("which", r"\bwhich\b"),
    )
)
_ASKED_THING = re.compile(
    r"\b(?:what|which)\s+((?:\w+[-\s]*){1,3}?)"
    r"(?:\b(?:is|are|was|were|did|do|does|has|have|had|can|could|will|would|to|of|in|on|that|for|by)\b|\?|$)"
)
_FEATURES: Mapping[str, float] = {
    "sentence holds the question": 4.2,  # its terms' share of weight, 0 to 1
    "a neighbouring sentence does": 0.7,
    "terms before are near": 4.3,  # each term's share of weight, halved every 40 characters away
    "terms after are near": 3.3,
    "follows a term of the question": 0.5,
    "precedes a term of the question": 0.5,
    "holds the thing asked for": 1.6,  # "which river …?" and "the River Nile"
    "follows the thing asked for": 1.3,
    "precedes the thing asked for": 1.1,
    "repeats the question": -0.5,  # share of its terms
    "only repeats the question": -2.3,
    "words": 0.3,  # up to six
    "passage's score": 2.8,  # as a share of the first passage's
    "first passage": 0.7,
    "opens its sentence": 0.5,
    "in brackets or quotes": -0.4,
    "place after in, at, near, from": 0.6,  # for "where" alone; set by hand
}
_HALVED_EVERY = 40
_ARTICLES = ("the", "a", "an")
_PLACE_WORDS = ("in", "at", "near", "from")


@dataclass(frozen=True, slots=True)
class ScoredSpan:
    """A candidate: offsets in the passage's text, its sentence's offsets, and its score (a log-odds, no bounds)."""

    start: int
    end: int
    sentence: Span
    score: float


class QuestionReader:
    """Scores the spans of passages for one question.

    Args:
        question: any text; its type is read from English cue words.
        weights: what each word is worth.
    """

    def __init__(self, question: str, weights: TermWeights) -> None:
        lowered = question.lower()
        self._type = question_type(question)
        self._kinds = _TYPE_AND_KIND[self._type]
        self._weights = weights
        self._wanted = frozenset(weights.terms(question))
        self._whole = weights.total(self._wanted) or 1.0
        thing = _ASKED_THING.search(lowered)
        self._thing = frozenset(weights.terms(thing.group(1))) if thing else frozenset[str]()

    def spans(self, text: str, *, share: float = 1.0, first: bool = True) -> Iterator[ScoredSpan]:
        """Every candidate span of a passage, in order of place.

        Args:
            text: the passage.
            share: the passage's retrieval score as a share of the first passage's, 0 to 1.
            first: whether it is the first passage.
        """
        places = sentences(text)
        matches = [self._matches(text[start:end]) for start, end in places]
        held = [self._weights.total(term for *_, term in found) / self._whole for found in matches]
        passage = share * _FEATURES["passage's score"] + first * _FEATURES["first passage"]
        for number, (start, end) in enumerate(places):
            beside = max((held[n] for n in (number - 1, number + 1) if 0 <= n < len(held)), default=0.0)
            base = passage + held[number] * _FEATURES["sentence holds the question"]
            base += beside * _FEATURES["a neighbouring sentence does"]
            sentence = text[start:end]
            for span in answer_spans(sentence):
                score = base + self._score(sentence, span, matches[number])
                yield ScoredSpan(start + span.start, start + span.end, (start, end), score)

    def _score(self, sentence: str, span: AnswerSpan, matches: list[tuple[int, int, str]]) -> float:
        terms = self._weights.terms(span.text)
        word = _word_before(sentence, span.start)
        before, after = frozenset(self._weights.terms(word)), self._word_after(sentence, span.end)
        repeated = sum(term in self._wanted for term in terms) / max(1, len(terms))
        near_before, near_after = self._nearness(span, matches)
        values: Mapping[str, float] = {
            "terms before are near": near_before,
            "terms after are near": near_after,
            "follows a term of the question": not before.isdisjoint(self._wanted),
            "precedes a term of the question": not after.isdisjoint(self._wanted),
            "holds the thing asked for": not self._thing.isdisjoint(terms),
            "follows the thing asked for": not before.isdisjoint(self._thing),
            "precedes the thing asked for": not after.isdisjoint(self._thing),
            "repeats the question": repeated,
            "only repeats the question": repeated == 1.0,
            "words": min(len(span.text.split()), 6),
            "opens its sentence": not sentence[: span.start].strip(),
            "place after in, at, near, from": self._type == "where" and word in _PLACE_WORDS,
            "in brackets or quotes": sentence[max(0, span.start - 1) : span.start] in ("(", '"', "“"),
        }
        return self._kinds.get(span.kind, 0.0) + sum(_FEATURES[name] * value for name, value in values.items())

    def _matches(self, sentence: str) -> list[tuple[int, int, str]]:
        """The question's terms in a sentence: start, end, stem."""
        return [
            (match.start(), match.end(), term)
            for match in re.finditer(r"\w+", sentence)
            for term in self._weights.terms(match.group())
            if term in self._wanted
        ]

    def _nearness(self, span: AnswerSpan, matches: list[tuple[int, int, str]]) -> tuple[float, float]:
        """The question's terms before and after the span, each worth its share of weight, less with distance."""
        nearest: tuple[dict[str, float], dict[str, float]] = ({}, {})
        for start, end, term in matches:
            if span.start <= start < span.end:
                continue
            side = nearest[0] if end <= span.start else nearest[1]
            distance = max(0, span.start - end if end <= span.start else start - span.end)
            side[term] = max(side.get(term, 0.0), math.exp2(-distance / _HALVED_EVERY))
        before, after = (
            sum(self._weights.weight(term) * near for term, near in sorted(side.items())) / self._whole
            for side in nearest
        )
        return before, after

    def _word_after(self, sentence: str, place: int) -> frozenset[str]:
        found = re.match(r"\W*(\w+)", sentence[place:])
        return frozenset(self._weights.terms(found.group(1))) if found else frozenset()


def _word_before(sentence: str, place: int) -> str:
    """The word before a place, an article passed over; in lower case, empty at the start."""
    words = sentence[:place].lower().split()
    if words and words[-1] in _ARTICLES:
        words.pop()
    return words[-1] if words else ""


def question_type(question: str) -> str:
    """What a question asks for, from its English cue words; ``"what"`` where there is no other cue.

    Example:
        >>> question_type("In which year did it open?"), question_type("What melts?")
        ('year', 'what')
    """
    lowered = question.lower()
    return next((name for name, cue in _QUESTION_TYPES if cue.search(lowered)), "what")
