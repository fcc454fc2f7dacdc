"""Codes as docids: sequences of small numbers, such as a path down a tree of clusters, and how a tokenizer writes them.

A code is written in one of two alphabets:

- ``position``: every number at every place is a new token of its own, ``<place:number>``. So NCI writes its clusters
  (302 tokens for ten places of thirty) and Ultron its product quantisation (6,144 tokens for 24 places of 256): the
  same number means another thing at another place. The network's embeddings grow by these tokens
  (`retgen.models.docid_tokens`).
- ``digits``: decimal digits in the tokenizer's own vocabulary, as DSI writes all its docids, set apart so that each is
  a token. Nothing grows, and a pretrained model knows the tokens, though not in this sense.

How codes are made is the schemes' work (`coded_schemes`).
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from retgen.errors import UsageError

POSITION, DIGITS = "position", "digits"
ALPHABETS = (POSITION, DIGITS)
Code = tuple[int, ...]

_TOKEN = re.compile(r"<(\d+):(\d+)>")


@dataclass(frozen=True, slots=True)
class CodeAlphabet:
    """How codes of some places and some numbers are written.

    Args:
        sizes: of each place, how many numbers may stand there.
        kind: ``position`` or ``digits``.
        last: how many numbers may stand last in a code, wherever that is; 0: as many as its place has.

    Raises:
        UsageError: another kind, no place, or a place without numbers.

    Example:
        >>> CodeAlphabet((3, 3)).text((2, 0)), CodeAlphabet((3, 3), "digits", last=12).text((2, 7))
        ('<0:2><1:0>', '2 0 7')
        >>> CodeAlphabet((2, 1)).tokens()
        ['<0:0>', '<0:1>', '<1:0>']
    """

    sizes: tuple[int, ...]
    kind: str = POSITION
    last: int = 0

    def __post_init__(self) -> None:
        check_alphabet(self.kind)
        if not self.sizes or min(self.sizes) < 1 or self.last < 0:
            raise UsageError(f"codes need places with one number at least, not {self.sizes}")

    def tokens(self) -> list[str]:
        """What a tokenizer must hold as tokens of their own to write any code, used so far or not; none for digits."""
        if self.kind == DIGITS:
            return []
        sizes = [max(size, self.last) for size in self.sizes]
        return [_token(place, number) for place, size in enumerate(sizes) for number in range(size)]

    def text(self, code: Sequence[int]) -> str:
        """A code as docid text, on one line.

        Digits are filled up with zeros to the width of their place, so that codes which differ are written differently.

        Raises:
            UsageError: the code is empty, or has more places or higher numbers than there are.
        """
        sizes = list(self.sizes[: len(code)])
        if self.last and sizes:
            sizes[-1] = self.last
        if not 0 < len(code) == len(sizes) or any(not 0 <= n < size for n, size in zip(code, sizes, strict=True)):
            raise UsageError(f"the code {tuple(code)} does not fit into places of {self.sizes} numbers")
        if self.kind == POSITION:
            return "".join(_token(place, number) for place, number in enumerate(code))
        return " ".join("".join(f"{n:0{len(str(size - 1))}}" for n, size in zip(code, sizes, strict=True)))


def check_alphabet(kind: str) -> None:
    """Whether there is such an alphabet.

    Raises:
        UsageError: there is not.
    """
    if kind not in ALPHABETS:
        raise UsageError(f"no alphabet {kind!r} for codes", mend=f"Choose one of {', '.join(ALPHABETS)}")


def read_code(text: str) -> Code:
    """The code that a docid text in the alphabet ``position`` writes.

    Raises:
        UsageError: it writes none.

    Example:
        >>> read_code("<0:2><1:0>")
        (2, 0)
    """
    found = [(int(place), int(number)) for place, number in _TOKEN.findall(text)]
    if not found or text != "".join(_token(*each) for each in found) or [p for p, _ in found] != [*range(len(found))]:
        raise UsageError(f"{text!r} is no code in tokens of place and number")
    return tuple(number for _, number in found)


def unknown_token(text: str, vocabulary: Container[str]) -> str | None:
    """The first token of a code in the alphabet ``position`` that a vocabulary which has such tokens lacks.

    Example:
        >>> unknown_token("<0:2><1:9>", {"<0:0>", "<0:2>"})
        '<1:9>'
    """
    if _token(0, 0) not in vocabulary:
        return None
    return next((found[0] for found in _TOKEN.finditer(text) if found[0] not in vocabulary), None)


def _token(place: int, number: int) -> str:
    return f"<{place}:{number}>"
