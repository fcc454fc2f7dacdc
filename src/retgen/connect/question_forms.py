"""A statement and a span of it, turned into a question whose answer is the span. English, by rules.

Three tidy forms: the span is the subject ("Who discovered radium?"), an auxiliary goes before the subject ("When was
radium discovered?"), do-support ("When did she discover radium?"). Two loose ones, for the many clauses that allow
none of these: the statement with a question word in the span's place ("Radium was discovered in what year?"), and its
telling words after a question word ("When radium discovered Curie?").
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Collection
from dataclasses import dataclass

from retgen.connect.spans import AnswerSpan
from retgen.connect.terms import FUNCTION_WORDS
from retgen.connect.verbs import AUXILIARIES, base_form

_PARENTHESES = re.compile(r"\s*(?:\([^()]*\)|\[[^\][]*\])")
_BREAK_LEFT = re.compile(r"[;:—–]|\s-\s|,\s(?:and|but|while|so)\s")
_BREAK_RIGHT = re.compile(r"[;:—–]|\s-\s|,\s(?:and|but|while|which|who|where|with|so)\b")
_PUNCTUATION = string.punctuation + "“”‘’…—–«»"
_ARTICLES = frozenset("a an the this that these those".split())
_TIME_PREPOSITIONS = frozenset("in on during at by since until from around about circa".split())
_PLACE_PREPOSITIONS = frozenset("in at near on".split())
_TITLES = frozenset("mr mrs dr sir lord lady king queen pope president prince princess emperor general st".split())
_OPENERS = frozenset("and but or however thus also therefore moreover furthermore additionally currently".split())
_SUBJECT_OPENERS = frozenset("his her its their he she it they some many most all there".split())
_LONGEST_SIDE = 14
_SUBJECT_WORDS = 7


@dataclass(frozen=True, slots=True)
class Clause:
    """What stands around a span: the words before and after it."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    span: AnswerSpan
    opens: bool
    """Whether ``left`` begins where a clause does, so that a subject may be looked for there."""


def clause_of(sentence: str, span: AnswerSpan, lower: Collection[str]) -> Clause:
    """The span's surroundings: parentheses removed, cut at semicolons, dashes and side clauses.

    Args:
        sentence: the statement.
        span: in it.
        lower: words that open a sentence with a capital but are written small elsewhere in the document.
    """
    left = _PARENTHESES.sub("", sentence[: span.start])
    right = _PARENTHESES.sub("", sentence[span.end :])
    right = re.sub(r"^['’]s\b", " 's", right)
    breaks = [0, *(match.end() for match in _BREAK_LEFT.finditer(left))]
    before = next((words for place in reversed(breaks) if (words := left[place:].split())), [])
    while len(before) > 1 and before[0].lower().rstrip(",") in _OPENERS:
        before.pop(0)
    opens = len(before) <= _LONGEST_SIDE
    before = before[-_LONGEST_SIDE:]
    after = _BREAK_RIGHT.split(right.rstrip(" .!?…\"'”’"), maxsplit=1)[0].split()[:_LONGEST_SIDE]
    if before and (before[0].lower() in FUNCTION_WORDS or before[0].lower() in lower):
        before[0] = before[0].lower()
    return Clause(tuple(before), tuple(after), span, opens)


def ask(clause: Clause, rng: random.Random, *, is_person: bool, tidy: bool) -> str | None:
    """A question for the clause.

    Args:
        clause: see `clause_of`.
        rng: chooses among the wordings, and the words that drop out.
        is_person: whether a name is better asked for with "who".
        tidy: one of the first three forms, a whole question; else one of the last two, which every clause allows.

    Returns:
        The question; None where the clause allows no such form, or holds fewer than two content words.
    """
    if len(_content(clause.left + clause.right)) < 2:
        return None
    if tidy:
        if clause.opens and not _is_coordinated(clause):
            for form in (_as_subject, _fronted, _with_do):
                words = form(clause, rng, is_person)
                if words is not None:
                    return _finish(words)
        return None
    return _finish((_in_place if rng.random() < 0.5 else _keywords)(clause, rng, is_person))


def _as_subject(clause: Clause, rng: random.Random, is_person: bool) -> list[str] | None:
    left = [word for word in clause.left if word.lower() not in _ARTICLES]
    if left or not clause.right or clause.span.kind not in ("name", "phrase"):
        return None
    verb = clause.right[0].lower()
    if verb not in AUXILIARIES and base_form(verb) is None:
        return None
    word = "Who" if is_person else rng.choice(("What", "What", "Which"))
    return [word, *clause.right]


def _fronted(clause: Clause, rng: random.Random, is_person: bool) -> list[str] | None:
    left, right, question = _question_words(clause, rng, is_person)
    for place, word in enumerate(left[: _SUBJECT_WORDS + 1]):
        if word.lower() in AUXILIARIES and place and _is_subject(left[:place]):
            return [*question, word.lower(), *left[:place], *left[place + 1 :], *right]
    return None


def _with_do(clause: Clause, rng: random.Random, is_person: bool) -> list[str] | None:
    left, right, question = _question_words(clause, rng, is_person)
    for place, word in enumerate(left[: _SUBJECT_WORDS + 1]):
        base = base_form(word) if word.islower() else None
        if base is None:
            continue
        # "the united team", "had moved": an adjective or a participle, not the verb.
        if place == 0 or left[place - 1].lower() in FUNCTION_WORDS - {"he", "she", "it", "they", "also"}:
            return None
        subject = [word for word in left[:place] if word.lower() != "also"]
        if not _is_subject(subject):
            return None
        return [*question, "did", *subject, base, *left[place + 1 :], *right]
    return None


def _in_place(clause: Clause, rng: random.Random, is_person: bool) -> list[str]:
    left, right, question = _question_words(clause, rng, is_person)
    question = [question[0].lower(), *question[1:]]
    return [*left, *question, *right]


def _keywords(clause: Clause, rng: random.Random, is_person: bool) -> list[str]:
    left, right, question = _question_words(clause, rng, is_person)
    parts = [_dropped(_content(left[-8:]), rng), _dropped(_content(right[:8]), rng)]
    rng.shuffle(parts)
    return [*question, *parts[0], *parts[1]]


def _question_words(
    clause: Clause, rng: random.Random, is_person: bool
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """The sides without the words that the question words take over, and the question words."""
    left, right, kind = list(clause.left), list(clause.right), clause.span.kind
    taken = _ARTICLES | ({"early", "late", "mid"} if kind in ("year", "date") else set())
    while left and left[-1].lower() in taken:
        left.pop()
    before = left[-1].lower() if left else ""
    question = ["What"]
    if kind in ("year", "date"):
        if before in _TIME_PREPOSITIONS:
            left.pop()
        timed = before in ("in", "during", "on")
        words = ("In what year", "When", "In which year") if kind == "year" and timed else ("When",)
        question = rng.choice(words).split()
    elif kind == "percent":
        question = ["What", "percentage"]
    elif kind == "money":
        question = ["How", "much", "money"]
    elif kind == "number":
        unit: list[str] = []
        while right and len(unit) < 2 and right[0].isalpha() and right[0].islower() and right[0] not in FUNCTION_WORDS:
            unit.append(right.pop(0))
            if unit[-1].endswith("s"):
                break
        question = ["How", "many", *unit] if unit else ["What", "number"]
    elif kind == "name" and is_person:
        question = ["Who"]
    elif kind == "name" and before in _PLACE_PREPOSITIONS:
        left.pop()
        question = ["Where"]
    elif kind == "name" and left and left[-1].islower() and _is_noun(before):
        question = [rng.choice(("Which", "What")), left.pop()]  # "physicist Marie Curie": which physicist
    while left and left[-1].lower() in _ARTICLES:
        left.pop()
    return tuple(left), tuple(right), question


def looks_like_person(sentence: str, span: AnswerSpan, document: str) -> bool:
    """A guess whether a name is a person's: a title before it, or two or three names where the text says he or she."""
    before = sentence[: span.start].split()
    last = before[-1].lower().rstrip(".") if before else ""
    if last in _TITLES or span.text.split()[0].lower().rstrip(".") in _TITLES:
        return True
    if last in _ARTICLES | _PLACE_PREPOSITIONS | {"of", "from", "to"}:
        return False
    plain = 2 <= len(span.text.split()) <= 3 and all(word[:1].isupper() for word in span.text.split())
    return plain and re.search(r"\b(?:he|she|his|her|him)\b", document, re.IGNORECASE) is not None


def _is_coordinated(clause: Clause) -> bool:
    """The span is one of a list, or has a complement: moved to the front it would leave a torn clause behind."""
    before = clause.left[-1].lower() if clause.left else ""
    after = clause.right[0].lower() if clause.right else ""
    return before.endswith(",") or before in ("and", "or", "as") or after in ("of", "and", "or")


def _is_noun(word: str) -> bool:
    """A guess, for a plain word right before a name."""
    if not word.isalpha() or word in FUNCTION_WORDS | AUXILIARIES:
        return False
    return base_form(word) is None and not word.endswith(("ing", "ly"))


def _is_subject(words: tuple[str, ...] | list[str]) -> bool:
    """No verb and no comma in it, and something other than a preposition at its start."""
    opening = words[0].lower() if words else ""
    if not words or opening in FUNCTION_WORDS - _ARTICLES - _SUBJECT_OPENERS:
        return False
    return not any("," in word or word.lower() in ("that", "which", "who", "when", "where") for word in words)


def _content(words: tuple[str, ...] | list[str]) -> list[str]:
    stripped = (word.strip(_PUNCTUATION) for word in words)
    return [word for word in stripped if word and word != "s" and word.lower() not in FUNCTION_WORDS]


def _dropped(words: list[str], rng: random.Random) -> list[str]:
    """Word dropout, one in eight; never below two words."""
    left = [word for word in words if rng.random() >= 0.125]
    return left if len(left) >= min(2, len(words)) else words


def _finish(words: list[str]) -> str:
    text = " ".join(words)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text).replace(" 's", "'s")
    text = re.sub(r"(?:^[\W_]+|[\s,.;:!?\-–—\"“”]+$)", "", text)
    return f"{text[:1].upper()}{text[1:]}?"
