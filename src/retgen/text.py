"""Text as the field's measures and readers see it: answer normalisation and matching, words, chunks and sentences.

Spans are pairs of character offsets into the text they were asked for, so that whatever is shown can be pointed at.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

import regex  # type: ignore[import-untyped]

from retgen.errors import UsageError

Span = tuple[int, int]
"""Start and end of a stretch of text, in characters; the end is exclusive."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DPR_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")
_WORD = re.compile(r"\S+")


def normalise_answer(text: str) -> str:
    """An answer as SQuAD's official scorer compares it: lower case, no punctuation, no articles, single spaces.

    Reference: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016.

    Example:
        >>> normalise_answer("The  Eiffel-Tower!")
        'eiffeltower'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def dpr_tokens(text: str) -> list[str]:
    """Lower-cased tokens as DPR's answer matching cuts them: runs of letters, digits and marks, or single symbols.

    The text is brought to Unicode form NFD first, as there.

    Reference: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", 2020.

    Example:
        >>> dpr_tokens("U.S. dollars (1999)")
        ['u', '.', 's', '.', 'dollars', '(', '1999', ')']
    """
    return [token.lower() for token in _DPR_TOKEN.findall(unicodedata.normalize("NFD", text))]


def has_answer(answers: Iterable[str], text: str) -> bool:
    """Whether any of the answers occurs in the text, token for token, as DPR's retrieval accuracy counts it.

    One difference: an answer without a token (empty, blank) is found nowhere; there it would be found everywhere.

    Example:
        >>> has_answer(["New York"], "He lived in new york, then left."), has_answer(["York"], "Yorkshire")
        (True, False)
    """
    # No token holds a control character, so a joined search finds exactly the runs of equal tokens.
    haystack = _joined(dpr_tokens(text))
    return any(len(needle) > 1 and needle in haystack for needle in (_joined(dpr_tokens(answer)) for answer in answers))


def _joined(tokens: list[str]) -> str:
    return "\0" + "".join(f"{token}\0" for token in tokens)


def find_answer(answer: str, text: str) -> Span | None:
    """Where an answer first stands in a text, token for token as in `has_answer`; None where it does not.

    Unlike there, accents do not matter: what an unaccented, lower-cased vocabulary wrote is found where it was read.

    Example:
        >>> find_answer("8, 849 metres", "It is 8,849 metres high"), find_answer("York", "Yorkshire")
        ((6, 18), None)
    """
    sought = [token for token, _ in _folded_tokens(answer)]
    found = _folded_tokens(text)
    tokens = [token for token, _ in found]
    if not sought:
        return None
    for place in range(len(tokens) - len(sought) + 1):
        if tokens[place] == sought[0] and tokens[place : place + len(sought)] == sought:
            return found[place][1][0], found[place + len(sought) - 1][1][1]
    return None


def _folded_tokens(text: str) -> list[tuple[str, Span]]:
    """DPR's tokens without case and accents, and where they stand in the text as it is."""
    folded = []
    for match in _DPR_TOKEN.finditer(text):
        decomposed = unicodedata.normalize("NFD", match.group().lower())
        token = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
        if token:
            folded.append((token, match.span()))
    return folded


def words(text: str) -> list[str]:
    """The words between white space, as they stand."""
    return text.split()


def word_spans(text: str) -> list[Span]:
    """Where the words between white space stand."""
    return [match.span() for match in _WORD.finditer(text)]


def chunk_words(text: str, size: int, overlap: int = 0) -> list[Span]:
    """Cut a text into chunks of ``size`` words, each sharing ``overlap`` words with the one before.

    The last chunk may be shorter; none lies wholly inside another. A text without words has no chunk.

    Args:
        text: what to cut.
        size: words (between white space) in a chunk, at least 1. DPR's Wikipedia uses 100.
        overlap: words shared with the chunk before, from 0 up to ``size - 1``.

    Raises:
        UsageError: ``size`` or ``overlap`` is out of range.

    Example:
        >>> text = "one two three four five"
        >>> [text[start:end] for start, end in chunk_words(text, 3, 1)]
        ['one two three', 'three four five']
    """
    if size < 1:
        raise UsageError(f"a chunk needs at least one word, got {size}", where="chunk size")
    if not 0 <= overlap < size:
        raise UsageError(f"the overlap must be from 0 to {size - 1} words, got {overlap}", where="chunk overlap")
    spans = word_spans(text)
    chunks: list[Span] = []
    for first in range(0, len(spans), size - overlap):
        last = min(first + size, len(spans)) - 1
        chunks.append((spans[first][0], spans[last][1]))
        if last == len(spans) - 1:
            break
    return chunks


# A name follows these: their full stop ends nothing. Only with a capital, for "col", "gen" and "ft" are words as well.
_TITLES = """
Mr Mrs Ms Mx Dr Prof Rev Hon Fr Sr Sra St Ste Mt Ft Messrs Mme Mlle Gen Col Maj Capt Cmdr Lt Sgt Cpl Pvt Adm Gov Sen Rep
Pres Supt Insp mr mrs ms dr prof cf vs viz approx eg ie e.g i.e c.f
"""
# A number follows these, or they are words.
_REFERENCES = "no nos vol vols fig figs eq eqs sec sect ch chap pp p art"
# A full stop after these may end a sentence: it does when a word that often begins one follows.
_TAILS = """
etc inc ltd co corp plc llc jr esq ph.d m.d b.a m.a b.sc m.sc a.m p.m am pm a.d b.c u.s u.k u.n e.u u.s.a u.s.s.r d.c al
ca cent min max hrs hr mins secs lbs lb oz kg km cm mm ft dept univ assn bros ave blvd rd
Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thurs Fri Sat Sun
"""
_STARTERS = """
The A An This That These Those He She It They We You I His Her Its Their Our My In On At As If When While After Before
Although Though However But And So Then There Here For From With By To Of One Two Some Many Most Each Every No Not All
Both What Who Why How Where Which Since Because During According Among Another Other Also Later Once
"""
_TITLE_WORDS = frozenset(_TITLES.split())
_REFERENCE_WORDS = frozenset(_REFERENCES.split())
_TAIL_WORDS = frozenset(_TAILS.split())
_STARTER_WORDS = frozenset(_STARTERS.split())
_ENDING = re.compile(
    r"""(?P<mark>[.!?…]+|[。！？]+)(?P<close>["'”’»)\]]*)(?P<gap>\s+|$|(?<=[。！？])|(?<=[。！？]["'”’»)\]]))"""
    r"|(?P<blank>\s*\n[ \t\r]*\n\s*)"
)
_OPENERS = "\"'“‘«([¿¡—–-"
_LAST_WORD = re.compile(r"[^\s\"'“‘«(\[]+$")
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_ROMAN = re.compile(r"(?:[IVXLC]{2,}|[VX])\b")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


def sentences(text: str) -> list[Span]:
    """Cut a text into sentences, by rules: abbreviations, initials, decimals and quotations do not end one.

    Empty lines always do. The spans are in order, disjoint, without white space at their ends, and cover every other
    character of the text.

    Example:
        >>> text = 'Dr. J. R. Smith paid $3.50 in the U.S. today. "Why?" he asked. Nobody knew.'
        >>> [text[start:end] for start, end in sentences(text)]
        ['Dr. J. R. Smith paid $3.50 in the U.S. today.', '"Why?" he asked.', 'Nobody knew.']
    """
    spans: list[Span] = []
    start = 0
    for match in _ENDING.finditer(text):
        if match["blank"] is None and not _ends_sentence(text, start, match):
            continue
        stop = match.start() if match["blank"] is not None else match.end("close")
        _append_stripped(spans, text, start, stop)
        start = match.end()
    _append_stripped(spans, text, start, len(text))
    return spans


def _append_stripped(spans: list[Span], text: str, start: int, stop: int) -> None:
    piece = text[start:stop]
    lead = len(piece) - len(piece.lstrip())
    body = piece.strip()
    if body:
        spans.append((start + lead, start + lead + len(body)))


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    mark = match["mark"]
    if mark[0] in "。！？":
        return True
    position = match.end()
    while position < len(text) and text[position] in _OPENERS:
        position += 1
    if position >= len(text):
        return True
    following = text[position]
    if following.islower() or following in ",;:":
        return False
    if mark != ".":
        return True
    last = _LAST_WORD.search(text, max(start, match.start() - 40), match.start())
    word = last.group() if last else ""
    first = _FIRST_WORD.match(text, position)
    starter = first is not None and first.group() in _STARTER_WORDS
    if word in _TITLE_WORDS:
        return False
    if word.lower() in _REFERENCE_WORDS:
        return not (following.isdigit() or _ROMAN.match(text, position))
    if _INITIALS.fullmatch(word) or word in _TAIL_WORDS or (not word.istitle() and word.lower() in _TAIL_WORDS):
        # "J. R. Smith", "Inc. The firm": a lone initial ends nothing unless a usual opening follows.
        return starter and not (len(word) == 1 and word not in "Ii" and _is_initial_in_name(text, start, match.start()))
    return True


def _is_initial_in_name(text: str, start: int, end: int) -> bool:
    """Whether the letter before ``end`` follows a capitalised word or opens the sentence: an initial, not a label."""
    before = text[start : end - 1].rstrip()
    return before == "" or before.split()[-1][:1].isupper()
