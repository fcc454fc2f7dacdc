"""Choosing sentences: those closest to a question under a word budget, and those most central to a document.

Word budgets count whitespace-separated words. What is chosen stays as it is written, so that an answer's span in it is
a span of the passage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retgen.connect.terms import TermWeights
from retgen.text import sentences, word_spans

RANK_PRIOR = 0.25
NEIGHBOUR = 0.2
RESERVE = 0.08
"""Chosen on SQuAD's development file, question split ``train``, by how often a context of 60, 90 or 150 words holds the
answer. Without a reserve it does so more often (60 words: 80.5 %, against 79.6 %), but quotes 1.5 passages of three.
"""
_SHORTEST_CLIP = 4
"""A clipped sentence of fewer words says nothing."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    score: float
    rank: int
    position: int
    sentence: str


def quote(
    question: str, passages: Sequence[str], budget: int, weights: TermWeights, *, skip: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """The sentences of some passages that are closest to a question, within one word budget.

    A sentence scores the share of the question's term weight it holds, plus ``RANK_PRIOR / rank`` of its passage, plus
    ``NEIGHBOUR`` times the better share of the sentences beside it (what a sentence calls "it", its neighbour names).
    The best come first while they fit, whichever passage they stand in, so higher ranks get more; a sentence longer
    than the words left gives its densest stretch of that length. ``RESERVE`` of the budget is kept for each passage not
    quoted yet, so that a reader sees something of all of them.

    Args:
        question: where it has no content words, rank and position decide.
        passages: best first.
        budget: words at most, of all passages together.
        weights: of words.
        skip: for each passage a text that is shown already; a sentence that is part of it is left out.

    Returns:
        For each passage its sentences, or parts of them, in its order; at most ``budget`` words in all.
    """
    wanted = set(weights.terms(question))
    candidates: list[_Candidate] = []
    for rank, passage in enumerate(passages):
        shown = plain(skip[rank]) if skip else ""
        candidates += [each for each in _candidates(passage, rank, wanted, weights) if each.sentence not in shown]
    candidates.sort(key=lambda each: (-each.score, each.rank, each.position))
    reserve = int(RESERVE * budget)
    reserve = reserve if reserve >= _SHORTEST_CLIP else 0
    unquoted = {each.rank for each in candidates}
    shortest = min(_SHORTEST_CLIP, budget)
    chosen: list[list[tuple[int, str]]] = [[] for _ in passages]
    left = budget
    for each in candidates:
        room = left - reserve * len(unquoted - {each.rank})
        length = len(each.sentence.split())
        if room < min(shortest, length) or room < 1:
            continue
        kept = each.sentence if length <= room else clip(each.sentence, room, wanted, weights)
        chosen[each.rank].append((each.position, kept))
        unquoted.discard(each.rank)
        left -= min(length, room)
    return [tuple(sentence for _, sentence in sorted(row)) for row in chosen]


def _candidates(passage: str, rank: int, wanted: set[str], weights: TermWeights) -> list[_Candidate]:
    whole = weights.total(wanted) or 1.0
    parts = [plain(passage[start:end]) for start, end in sentences(passage)]
    overlaps = [weights.total(wanted.intersection(weights.terms(part))) / whole for part in parts]
    padded = [0.0, *overlaps, 0.0]
    return [
        _Candidate(
            overlaps[position] + RANK_PRIOR / (1 + rank) + NEIGHBOUR * max(padded[position], padded[position + 2]),
            rank,
            position,
            part,
        )
        for position, part in enumerate(parts)
        if part
    ]


def clip(sentence: str, words: int, terms: Iterable[str], weights: TermWeights) -> str:
    """The stretch of ``words`` consecutive words with the most weight of the terms; its terms lie near its middle.

    Args:
        sentence: any text.
        words: the stretch's length; the whole sentence where it has no more.
        terms: stems to cover; each counts once.
        weights: of the stems.
    """
    spans = word_spans(sentence)
    if words < 1 or not spans:
        return ""
    if len(spans) <= words:
        return sentence[spans[0][0] : spans[-1][1]]
    wanted = set(terms)
    found = [sorted(wanted.intersection(weights.terms(sentence[start:end]))) for start, end in spans]
    worth = {term: weights.weight(term) for term in wanted}
    best, where = (-1.0, 0.0), 0
    middle = (words - 1) / 2
    counts: Counter[str] = Counter(term for row in found[:words] for term in row)
    for first in range(len(spans) - words + 1):
        if first:
            counts.update(found[first + words - 1])
            counts.subtract(found[first - 1])
        covered = sum(worth[term] for term in sorted(counts) if counts[term] > 0)
        hits = [i - first for i in range(first, first + words) if found[i]]
        offset = abs(sum(hits) / len(hits) - middle) if hits else first
        if (round(covered, 9), -offset) > best:
            best, where = (round(covered, 9), -offset), first
    return sentence[spans[where][0] : spans[where + words - 1][1]]


def central_words(text: str, words: int, weights: TermWeights) -> str:
    """An extractive summary: the most central sentences, cut to a word budget.

    A sentence's centrality is the mean, over its words, of ``weight(t) · (tf(t) − 1/2)``: it holds the text's telling
    words, the more so those that recur. A position prior favours early sentences (``1 + 1 / (1 + position)``).

    Args:
        text: a document.
        words: at most as many whitespace-separated words.
        weights: of the stems.

    Returns:
        Words of the text in its order; never empty for a text that is not blank, if ``words ≥ 1``.
    """
    spans = [(start, end) for start, end in sentences(text) if text[start:end].strip()]
    counts = Counter(weights.terms(text))
    scored: list[tuple[float, int, str]] = []
    for position, (start, end) in enumerate(spans):
        sentence = plain(text[start:end])
        mass = sum(weights.weight(term) * (counts[term] - 0.5) for term in weights.terms(sentence))
        centrality = mass / max(8, len(sentence.split()))  # a floor, so that three-word sentences do not win
        scored.append((-centrality * (1 + 1 / (1 + position)), position, sentence))
    chosen: list[tuple[int, str]] = []
    left = words
    for _, position, sentence in sorted(scored):
        if left < min(_SHORTEST_CLIP, words) or left < 1:
            break
        kept = sentence.split()[:left]
        chosen.append((position, " ".join(kept)))
        left -= len(kept)
    return " ".join(sentence for _, sentence in sorted(chosen))


def lead(text: str, words: int) -> str:
    """The first words of a text.

    Example:
        >>> lead("Iron is a metal.  It rusts.", 5)
        'Iron is a metal. It'
    """
    return " ".join(text.split()[:words])


def plain(text: str) -> str:
    """The text with single spaces for every run of white space, and none at its ends."""
    return " ".join(text.split())
