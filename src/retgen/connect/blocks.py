"""A question's context as blocks, one for each passage, and the flat text that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retgen.models.marks import BOUNDARY, DOCID_END, without_marks

BLOCK_SEPARATOR = f" {BOUNDARY} "
TEXT_SEPARATOR = f" {DOCID_END} "
ANSWER_LABEL = "answer"


@dataclass(frozen=True, slots=True)
class ContextBlock:
    """What a context tells of one passage, or of the previous round's answer.

    Args:
        doc_id: the passage; empty in an answer block, which belongs to none.
        docid_text: the text docid of the passage, what a retrieval decoder may copy; ``"answer"`` in an answer block.
        sentences: sentences of the passage (or the clipped part of one), in its order; the answer in an answer block.
            Empty where only the docid is listed.
    """

    doc_id: str
    docid_text: str
    sentences: tuple[str, ...] = ()

    @classmethod
    def of_answer(cls, answer: str) -> ContextBlock:
        """The block that carries a previous round's answer."""
        return cls("", ANSWER_LABEL, (answer,))

    @property
    def is_answer(self) -> bool:
        """Whether this block carries an answer, not a passage."""
        return not self.doc_id and self.docid_text == ANSWER_LABEL

    @property
    def text(self) -> str:
        """The block flattened: ``docid » sentences``, the docid alone, or ``answer: …``; free of marks of its own."""
        body = without_marks(" ".join(self.sentences))
        if self.is_answer:
            return f"{ANSWER_LABEL}: {body}"
        return TEXT_SEPARATOR.join(part for part in (without_marks(self.docid_text), body) if part)


def render(blocks: Sequence[ContextBlock], question: str = "") -> str:
    """The flat text: the question, then the blocks, a boundary before each and one behind the last.

    A previous answer stands with the question, before the first boundary: it is something to look for, not a passage.

    Args:
        blocks: in the order they are shown.
        question: comes first; left out where empty.

    Example:
        >>> render([ContextBlock("d1", "Iron", ("Iron melts at 1538 °C.",)), ContextBlock("d2", "Tin")], "What melts?")
        'What melts? | Iron » Iron melts at 1538 °C. | Tin |'
        >>> render([ContextBlock.of_answer("iron"), ContextBlock("d2", "Tin")], "What melts?")
        'What melts? answer: iron | Tin |'
    """
    answers = [block.text for block in blocks if block.is_answer]
    texts = [block.text for block in blocks if block.text and not block.is_answer]
    head = " ".join(part for part in (without_marks(question).strip(), *answers) if part)
    flat = BLOCK_SEPARATOR.join(part for part in (head, *texts) if part)
    return f"{flat} {BOUNDARY}" if texts else flat
