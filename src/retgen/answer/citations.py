"""What an answer stands on: the passages that were read for it, their shares, and where in them it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from retgen.text import find_answer
from retgen.types import Answer, Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Citation:
    """One passage behind an answer.

    Args:
        doc_id: the passage.
        share: what it had in the answer, 0 to 1: FiD's cross-attention, RAG's posterior. Shares of an answer sum to 1.
        start: where the answer first stands in the passage's text, in characters; None where it does not.
        end: where it ends.
    """

    doc_id: str
    share: float
    start: int | None = None
    end: int | None = None


def cite(text: str, passages: Sequence[Document], shares: Sequence[float]) -> list[Citation]:
    """The passages of an answer: first those in which it stands, then the others, each by falling share.

    Args:
        text: the answer.
        passages: that were read, best first; the order decides between equal shares.
        shares: one for each.

    Example:
        >>> [one, other] = cite("Nepal", [Document("a", "It is high."), Document("b", "It lies in Nepal.")], [0.7, 0.3])
        >>> one.doc_id, one.start, other.start
        ('b', 11, None)
    """
    found = []
    for passage, share in zip(passages, shares, strict=True):
        start, end = find_answer(text, passage.text) or (None, None)
        found.append(Citation(passage.id, float(share), start, end))
    return sorted(found, key=lambda citation: (citation.start is None, -citation.share))


def citations_of(answer: Answer) -> list[Citation]:
    """The citations that a reader's answer carries in its details; none for other answers."""
    rows = answer.details.get("citations", ())
    return [Citation(**row) for row in rows] if isinstance(rows, list | tuple) else []


def as_details(citations: Sequence[Citation]) -> list[dict[str, object]]:
    """Citations as JSON values."""
    return [asdict(citation) for citation in citations]


def as_it_stands(text: str, passage: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A text with the case and spacing of its passage, where the tokenizer could not have told the two apart.

    Args:
        text: what a model wrote.
        passage: a stretch of a passage that has its words.
        tokenizer: of the model, which may lose case, accents and spacing.
    """
    ids = tokenizer(passage, add_special_tokens=False)["input_ids"]
    return passage if str(tokenizer.decode(ids, skip_special_tokens=True)).strip() == text else text
