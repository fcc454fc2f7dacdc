"""Candidate answers in a sentence: dates, numbers, names and noun-like phrases, found by form alone (no tagger).

The rules read English. Other scripts with capitals give names and numbers; scripts without give numbers only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from retgen.connect.terms import FUNCTION_WORDS

Kind = Literal["date", "year", "number", "quantity", "percent", "money", "name", "phrase"]
LONGEST_SPAN = 6

MONTHS = frozenset("january february march april may june july august september october november december".split())
NUMBER_WORDS = frozenset(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety""".split()
)
_ORDINALS = frozenset(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first".split()
)
_MAGNITUDES = frozenset("hundred thousand million billion trillion dozen".split())
_CURRENCIES = frozenset("dollars dollar pounds euros euro yen cents francs marks".split())
_JOINERS = frozenset("of de del della der den di da du la le van von al el ibn bin".split())
_PHRASE_STARTERS = frozenset(
    """a an the of by for with as in on to from its their his her our no some any into through between against under
    over and or was were is are called named such than""".split()
)
_TOKEN = re.compile(
    r"[$£€¥]?\d+(?:[.,]\d+)*(?:%|st|nd|rd|th|s)?(?!\w)"  # numbers, with their sign, ending or per cent
    r"|\w+(?:[-'’.&]\w+)*"  # words, with inner hyphens, apostrophes and points
    r"|\S"
)


@dataclass(frozen=True, slots=True)
class AnswerSpan:
    """A candidate answer: its place in the text it was found in, and its kind."""

    start: int
    end: int
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    text: str

    @property
    def lower(self) -> str:
        return self.text.lower()

    @property
    def is_number(self) -> bool:
        return any(c.isdigit() for c in self.text[:2]) or self.lower in NUMBER_WORDS

    @property
    def is_capitalised(self) -> bool:
        return self.text[0].isupper()

    @property
    def is_lower_word(self) -> bool:
        return self.text[0].isalpha() and self.text[0].islower() and self.lower not in FUNCTION_WORDS


def answer_spans(sentence: str) -> list[AnswerSpan]:
    """The candidate answers of one sentence.

    Args:
        sentence: any text; treated as one sentence.

    Returns:
        Spans of at most six words, by their start, then their end; they may nest (``May 1898`` and ``1898``).

    Example:
        >>> [(span.text, span.kind) for span in answer_spans("Marie Curie found radium in 1898.")]
        [('Marie Curie', 'name'), ('1898', 'year')]
    """
    tokens = [_Token(*match.span(), match.group()) for match in _TOKEN.finditer(sentence)]
    found: dict[tuple[int, int], AnswerSpan] = {}
    for first in range(len(tokens)):
        for last, kind in _candidates(tokens, first):
            start, end = tokens[first].start, tokens[last].end
            text = sentence[start:end]
            for ending in ("'s", "’s"):
                if kind == "name" and text.endswith(ending):
                    text = text.removesuffix(ending)
            if len(text.split()) <= LONGEST_SPAN:
                found.setdefault((start, start + len(text)), AnswerSpan(start, start + len(text), text, kind))
    return [found[place] for place in sorted(found)]


def _candidates(tokens: list[_Token], first: int) -> list[tuple[int, Kind]]:
    """The spans that start at a token: index of the last token and kind, the surest first."""
    token = tokens[first]
    before = tokens[first - 1] if first else None
    if token.is_number or token.lower in _ORDINALS:
        return _numbers(tokens, first)
    if token.lower in MONTHS and token.is_capitalised:
        last = _date_end(tokens, first)
        if last > first or token.lower not in ("may", "march"):
            return [(last, "date")]
    if token.is_capitalised and not (before is not None and before.is_capitalised and _is_name_word(tokens, first - 1)):
        return _names(tokens, first)
    if token.is_lower_word and before is not None and before.lower in _PHRASE_STARTERS:
        return _phrases(tokens, first)
    return []


def _numbers(tokens: list[_Token], first: int) -> list[tuple[int, Kind]]:
    token = tokens[first]
    after = tokens[first + 1] if first + 1 < len(tokens) else None
    if after is not None and after.lower in MONTHS and after.is_capitalised:
        return [(_date_end(tokens, first + 1), "date")]
    if token.lower in _ORDINALS or re.fullmatch(r"\d+(?:st|nd|rd|th)", token.lower):
        if after is not None and after.lower in ("century", "centuries", "millennium"):
            return [(first + 1, "date")]
        return [(first, "number")]
    last = first
    while last + 1 < len(tokens) and tokens[last + 1].lower in _MAGNITUDES:
        last += 1
    following = [other.lower for other in tokens[last + 1 : last + 3]]
    if token.text.endswith("%"):
        return [(last, "percent")]
    if following[:1] in (["%"], ["percent"]):
        return [(last + 1, "percent")]
    if following == ["per", "cent"]:
        return [(last + 2, "percent")]
    if token.text[0] in "$£€¥":
        return [(last, "money")]
    if following and following[0] in _CURRENCIES:
        return [(last + 1, "money")]
    if last == first and re.fullmatch(r"(?:1\d|20)\d\ds?", token.lower):
        return [(last, "year")]
    spans: list[tuple[int, Kind]] = [(last, "number")]
    if last + 1 < len(tokens) and tokens[last + 1].is_lower_word:
        spans.append((last + 1, "quantity"))
    return spans


def _date_end(tokens: list[_Token], month: int) -> int:
    """The last token of a date around a month: ``May``, ``May 4``, ``May 1898``, ``May 4, 1898``."""
    last = month
    if last + 1 < len(tokens) and re.fullmatch(r"[0-3]?\d(?:st|nd|rd|th)?", tokens[last + 1].text):
        last += 1
    step = 2 if last + 2 < len(tokens) and tokens[last + 1].text == "," else 1
    if last + step < len(tokens) and re.fullmatch(r"(?:1\d|20)\d\d", tokens[last + step].text):
        last += step
    return last


def _is_name_word(tokens: list[_Token], index: int) -> bool:
    """Capitalised and part of a name; a function word is, unless it only opens the sentence."""
    token = tokens[index]
    return token.is_capitalised and (token.lower not in FUNCTION_WORDS or (len(token.text) == 1 and index > 0))


def _names(tokens: list[_Token], first: int) -> list[tuple[int, Kind]]:
    if not _is_name_word(tokens, first):
        return []
    last = first
    while True:
        step = 1
        if len(tokens[last].text) == 1 and last + 1 < len(tokens) and tokens[last + 1].text == ".":
            step = 2  # an initial: Glenn T. Seaborg
        while last + step < len(tokens) and tokens[last + step].lower in _JOINERS | {"the"} and step < 3:
            step += 1
        joined = [token.lower for token in tokens[last + 1 : last + step] if token.text != "."]
        if last + step >= len(tokens) or not _is_name_word(tokens, last + step) or joined[:1] == ["the"]:
            break
        if tokens[last].text.endswith(("'s", "’s")):
            break
        last += step
    spans: list[tuple[int, Kind]] = [(last, "name")]
    if last + 1 < len(tokens) and re.fullmatch(r"\d{1,2}|[IVX]+", tokens[last + 1].text):
        spans.insert(0, (last + 1, "name"))  # Super Bowl 50
    return spans


def _phrases(tokens: list[_Token], first: int) -> list[tuple[int, Kind]]:
    last = first
    while last + 1 < len(tokens) and last - first < 3 and tokens[last + 1].is_lower_word:
        last += 1
    spans: list[tuple[int, Kind]] = []
    for end in range(last, first - 1, -1):
        if len(tokens[end].text) > 2 and not tokens[end].lower.endswith("ly"):
            spans.append((end, "phrase"))
    return spans
