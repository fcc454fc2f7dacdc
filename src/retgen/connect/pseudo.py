"""Pseudo questions without a model: statements of the documents with a span taken out and asked for.

They stand in for a query generator's samples where no model is at hand: training data for collections without labels.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from retgen.connect.extract import plain
from retgen.connect.question_forms import ask, clause_of, looks_like_person
from retgen.connect.spans import AnswerSpan, answer_spans
from retgen.connect.terms import FUNCTION_WORDS
from retgen.connect.verbs import base_form
from retgen.errors import UsageError
from retgen.text import has_answer, normalise_answer, sentences
from retgen.types import Document, Query, Triplet, question_split

PSEUDO_PER_DOCUMENT = 10
"""K of the paper."""

_PREFERENCE = {"phrase": 0.35, "quantity": 0.0}
"""How likely a kind of span is asked for, others 1: phrases are many and vague, quantities are asked by number."""
_TIDY = 0.85
_VERBAL = frozenset("to not was were is are or and than such as no some any".split())
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)|(?:fir|seco|thi)[a-z]+|[a-z]+th", re.IGNORECASE)


class PseudoSplit(NamedTuple):
    """Pseudo questions by split."""

    train: list[Triplet]
    dev: list[Triplet]
    test: list[Triplet]


def pseudo_questions(
    documents: Iterable[Document], per_document: int = PSEUDO_PER_DOCUMENT, seed: int = 0
) -> list[Triplet]:
    """Questions made from the documents' own sentences, with their answers.

    A document's questions depend on its id and text and the seed, not on the other documents. No two ask for the same
    place of the same sentence, so that holding some out (`held_out`) holds out facts, not wordings alone.

    Args:
        documents: read once.
        per_document: at most as many each (K of the paper, 10); short documents give fewer, some none.
        seed: of the choice of spans and wordings.

    Returns:
        Triplets with query ids ``<document id>::pq<number>``, numbered from 0, one answer, copied from the text, and
        the document's id. The answer never occurs in its question, and no question is a whole sentence of the document.

    Raises:
        UsageError: ``per_document`` is below 1.

    Reference:
        The paper samples DocT5Query instead (UniGen, "Joint Learning of Retrieval and QA").

    Example:
        >>> text = "Radium was discovered in 1898. Marie Curie isolated the metal in Paris."
        >>> sorted(triplet.answers[0] for triplet in pseudo_questions([Document("radium", text)], 3))
        ['1898', 'Marie Curie', 'Paris']
    """
    if per_document < 1:
        raise UsageError(f"{per_document} questions a document were asked for", mend="Ask for 1 or more")
    triplets: list[Triplet] = []
    for document in documents:
        for number, (question, answer) in enumerate(_questions(document, per_document, seed)):
            query = Query(f"{document.id}::pq{number}", question)
            triplets.append(Triplet(query, (answer,), (document.id,)))
    return triplets


def held_out(pseudo: Sequence[Triplet]) -> PseudoSplit:
    """Pseudo questions in train, dev and test (80/10/10) by the hash of their ids, as all questions are split."""
    split = PseudoSplit([], [], [])
    for triplet in pseudo:
        getattr(split, question_split(triplet.query.id)).append(triplet)
    return split


def _questions(document: Document, wanted: int, seed: int) -> list[tuple[str, str]]:
    digest = hashlib.blake2b(f"{seed}\0{document.id}\0{document.text}".encode(), digest_size=8).digest()
    rng = random.Random(int.from_bytes(digest, "big"))
    text = document.text
    parts = [plain(text[start:end]) for start, end in sentences(text)]
    known = {normalise_answer(part) for part in parts}
    lower = set(re.findall(r"(?<![\w'])[^\W\d_A-Z][\w'-]*", text))
    order = [item for item in _order(parts, rng) if _stands_alone(parts, *item, text)]
    made: list[tuple[str, str]] = []
    asked: dict[int, list[AnswerSpan]] = {}
    questions: set[str] = set()
    # Whole questions first; the loose forms fill up what is left, and come in now and then besides.
    for tidy, number, span in [
        *((rng.random() < _TIDY, *item) for item in order),
        *((False, *item) for item in order),
    ]:
        if len(made) == wanted:
            break
        if any(span.start < other.end and other.start < span.end for other in asked.get(number, [])):
            continue
        person = span.kind == "name" and looks_like_person(parts[number], span, text)
        question = ask(clause_of(parts[number], span, lower), rng, is_person=person, tidy=tidy)
        if question is None or question in questions or not _is_fair(question, span.text, known):
            continue
        questions.add(question)
        asked.setdefault(number, []).append(span)
        made.append((question, span.text))
    return made


def _order(parts: Sequence[str], rng: random.Random) -> list[tuple[int, AnswerSpan]]:
    """All candidate spans, in the random order they are tried in; sentences take turns."""
    keyed: list[tuple[float, int, AnswerSpan]] = []
    for number, part in enumerate(parts):
        spans = [span for span in answer_spans(part) if _may_be_asked(span)]
        # Efraimidis and Spirakis' keys: a weighted random order without replacement.
        spans.sort(key=lambda span: rng.random() ** (1 / _PREFERENCE.get(span.kind, 1.0)), reverse=True)
        keyed += [(turn + rng.random(), number, span) for turn, span in enumerate(spans)]
    keyed.sort(key=lambda item: (item[0], item[1], item[2].start, item[2].end))
    return [(number, span) for _, number, span in keyed]


def _may_be_asked(span: AnswerSpan) -> bool:
    if _PREFERENCE.get(span.kind, 1.0) == 0 or span.text.lower() in FUNCTION_WORDS:
        return False
    return not (span.kind == "number" and _ORDINAL.fullmatch(span.text)) and bool(normalise_answer(span.text))


def _stands_alone(parts: Sequence[str], number: int, span: AnswerSpan, text: str) -> bool:
    """Whether a name or phrase is whole: not a modifier, part of a longer name, a verb, or a plain word's capital."""
    if span.kind not in ("name", "phrase"):
        return True
    part = parts[number]
    before, after = part[: span.start].split(), part[span.end :].split()
    following = after[0] if after and part[span.end : span.end + 1] == " " else ""
    if span.kind == "phrase":
        modifies = following[:1].isalpha() and following.lower().strip(".,;:") not in FUNCTION_WORDS
        last = before[-1].lower() if before else ""
        verbal = " " not in span.text and (span.text.endswith(("ed", "ing")) or last in _VERBAL)
        return not modifies and not verbal
    plain_word = following.isalpha() and following.islower() and following not in FUNCTION_WORDS
    if plain_word and base_form(following) is None:
        return False
    if len(before) > 1 and before[-1].lower() in ("of", "de", "von", "van") and before[-2][:1].isupper():
        return False
    if not before and " " not in span.text:
        return re.search(rf"[^\s.!?]\s{re.escape(span.text)}\b", text) is not None
    return True


def _is_fair(question: str, answer: str, known: set[str]) -> bool:
    """The answer is not given away, and the question is not a sentence of the document."""
    asked = normalise_answer(question)
    inside = f" {normalise_answer(answer)} " in f" {asked} "
    return not inside and not has_answer([answer], question) and asked not in known
