"""The best answer span of a passage for a question: cue words say what kind is asked for, overlap says where."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from retgen.connect.spans import AnswerSpan, Kind, answer_spans
from retgen.connect.terms import TermWeights
from retgen.text import sentences

_KIND_WEIGHT = 1.0
_OVERLAP_WEIGHT = 2.0
_NEARNESS_WEIGHT = 1.5
_REPEAT_PENALTY = 1.5
"""Chosen on training questions of SQuAD's development file (question split ``train``), by exact match, coarsely."""

_PLACE_WORDS = frozenset("in at near from to on across".split())

_CUES: tuple[tuple[str, Mapping[Kind, float]], ...] = (
    (r"\b(?:what|which) (?:year|decade)", {"year": 1.0, "date": 0.4}),
    (r"\bwhen\b|\b(?:what|which) (?:date|day|month|century|time)", {"date": 1.0, "year": 0.9}),
    (r"\bwhat (?:percent|percentage|proportion|fraction)|\bhow much percent", {"percent": 1.0, "number": 0.4}),
    (r"\bhow much (?:money|did .* cost|does .* cost|was .* worth)|\bcost\b", {"money": 1.0, "number": 0.4}),
    (r"\bhow many\b|\bwhat (?:number|total|population)", {"number": 1.0, "money": 0.3, "percent": 0.2}),
    (
        r"\bhow (?:much|long|far|tall|high|old|large|big|deep|fast|hot|heavy|wide|often)\b",
        {"quantity": 1.0, "money": 0.8, "percent": 0.8, "number": 0.8},
    ),
    (r"\bwho\b|\bwhom\b|\bwhose\b", {"name": 1.0, "phrase": 0.2}),
    (r"\bwhere\b|\b(?:what|which) (?:city|country|state|place|town|county)", {"name": 1.0, "phrase": 0.3}),
    (r"\b(?:what|which) (?:\w+ )?(?:company|team|person|man|woman|university|school|river|book)", {"name": 1.0}),
    (r"\bname\b", {"name": 1.0, "phrase": 0.5}),
    (r"\bwhich\b", {"name": 0.8, "phrase": 0.6}),
)
_ANY: Mapping[Kind, float] = {"phrase": 0.7, "name": 0.6, "quantity": 0.2, "number": 0.1, "percent": 0.1, "money": 0.1}


@dataclass(frozen=True, slots=True)
class ScoredSpan:
    """An answer span of a passage: offsets in its text, and a score to compare spans of one question by (no unit)."""

    start: int
    end: int
    text: str
    kind: Kind
    score: float


def expected_kinds(question: str) -> Mapping[Kind, float]:
    """What kinds of answer a question asks for, from its cue words: kind → weight from 0 to 1; others weigh 0.

    Example:
        >>> expected_kinds("In what year was radium found?")["year"]
        1.0
    """
    lowered = question.lower()
    for cue, kinds in _CUES:
        if re.search(cue, lowered):
            return kinds
    return _ANY


def best_span(question: str, text: str, weights: TermWeights) -> ScoredSpan | None:
    """The best answer span of a passage.

    The score adds the expected kind's weight, the share of the question's term weight in the sentence, and the
    nearness of those terms to the span; spans that repeat the question's own words lose.

    Args:
        question: any text; cue words are English.
        text: the passage.
        weights: of words.

    Returns:
        A span of at most six words with its offsets in ``text``; the earliest among equals. None where the passage
        offers no candidate.
    """
    kinds = expected_kinds(question)
    wanted = set(weights.terms(question))
    whole = weights.total(wanted) or 1.0
    place = bool(re.search(r"\bwhere\b", question.lower()))
    best: ScoredSpan | None = None
    for start, end in sentences(text):
        sentence = text[start:end]
        matches = _matches(sentence, wanted, weights)
        overlap = weights.total(term for _, term in matches) / whole
        for span in answer_spans(sentence):
            score = _KIND_WEIGHT * kinds.get(span.kind, 0.0) + _OVERLAP_WEIGHT * overlap
            score += _NEARNESS_WEIGHT * _nearness(span, matches, weights, whole)
            terms = weights.terms(span.text)
            score -= _REPEAT_PENALTY * sum(term in wanted for term in terms) / max(1, len(terms))
            if place and _word_before(sentence, span.start) in _PLACE_WORDS:
                score += 0.4
            if best is None or score > best.score:
                best = ScoredSpan(start + span.start, start + span.end, span.text, span.kind, score)
    return best


def _matches(sentence: str, wanted: set[str], weights: TermWeights) -> list[tuple[int, str]]:
    """The question's terms in a sentence: character position and stem."""
    return [
        (match.start(), term)
        for match in re.finditer(r"\w+", sentence)
        for term in weights.terms(match.group())
        if term in wanted
    ]


def _nearness(span: AnswerSpan, matches: list[tuple[int, str]], weights: TermWeights, whole: float) -> float:
    """Question terms outside the span, each worth its share, halved every 40 characters away; from 0 to 1."""
    best: dict[str, float] = {}
    for position, term in matches:
        if span.start <= position < span.end:
            continue
        distance = span.start - position if position < span.start else position - span.end
        best[term] = max(best.get(term, 0.0), math.exp2(-max(0, distance) / 40))
    return sum(weights.weight(term) * near for term, near in sorted(best.items())) / whole


def _word_before(sentence: str, position: int) -> str:
    words = sentence[:position].split()
    if words and words[-1].lower() == "the":
        words.pop()
    return words[-1].lower() if words else ""
