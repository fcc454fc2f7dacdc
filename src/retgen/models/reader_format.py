"""How a question and a passage are written for a model that answers: templates, lengths, truncation."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retgen.errors import UsageError
from retgen.models.prompt_format import PromptFormat, end_token_id
from retgen.types import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SEAMS = 4


@dataclass(frozen=True, slots=True)
class ReaderFormat:
    """What a reader reads and how long its answers are. The defaults are FiD's.

    A passage that is too long loses the end of its text, then of its title; never a word of the question, unless that
    alone is longer than ``max_question_tokens``.

    Args:
        question_template: of the input without a passage (closed book), with ``{question}``.
        passage_template: of the input with one passage, with ``{question}``, ``{text}`` and optionally ``{title}``.
        max_input_tokens: most tokens of an input, the tokenizer's special tokens included.
        max_question_tokens: most tokens of a question.
        max_answer_tokens: most tokens of an answer, the EOS included.

    Raises:
        UsageError: a template has other fields, or the lengths leave no room for a passage.

    Reference:
        Izacard & Grave, "Leveraging Passage Retrieval with Generative Models for Open Domain Question Answering", 2021.
    """

    question_template: str = "question: {question}"
    passage_template: str = "question: {question} title: {title} context: {text}"
    max_input_tokens: int = 250
    max_question_tokens: int = 100
    max_answer_tokens: int = 32

    def __post_init__(self) -> None:
        _check(self.question_template, {"question"}, {"question"})
        _check(self.passage_template, {"question", "text"}, {"question", "title", "text"})
        if self.max_question_tokens < 1 or self.max_answer_tokens < 2:
            raise UsageError(
                "a question needs at least 1 token and an answer 2 (its EOS is one); got "
                f"max_question_tokens={self.max_question_tokens}, max_answer_tokens={self.max_answer_tokens}"
            )
        if self.max_question_tokens >= self.max_input_tokens:
            raise UsageError(
                f"a question of {self.max_question_tokens} tokens leaves no room in an input of "
                f"{self.max_input_tokens}",
                mend="Pass a larger max_input_tokens or a smaller max_question_tokens",
            )

    def input_ids(
        self, tokenizer: PreTrainedTokenizerBase, question: str, passages: Sequence[Document] | None
    ) -> list[list[int]]:
        """The token ids of a question's inputs: one for each passage; without passages (None) a single one.

        Raises:
            UsageError: the template and the question alone have more tokens than ``max_input_tokens``.
        """
        template = self.question_template if passages is None else self.passage_template
        empty = template.format(question="", title="", text="")
        # Where words meet, tokens may part otherwise than in the pieces.
        room = self.max_input_tokens - len(tokenizer(empty)["input_ids"]) - _SEAMS
        if room < 1:
            raise UsageError(
                f"the template {template!r} leaves no room in an input of {self.max_input_tokens} tokens",
                mend="Pass a larger max_input_tokens, or a shorter template",
            )
        asked = cut_text(tokenizer, question.strip(), min(self.max_question_tokens, room))
        if passages is None:
            written = PromptFormat(
                "question", "{text}", max_passage_tokens=self.max_input_tokens, max_query_tokens=1
            ).passage_ids(tokenizer, [Document("", self.question_template.format(question=asked))])
        else:
            written_out = template.replace("{question}", asked.replace("{", "{{").replace("}", "}}"))
            written = PromptFormat("reader", written_out, max_passage_tokens=self.max_input_tokens).passage_ids(
                tokenizer, passages
            )
        return [row or [end_token_id(tokenizer)] for row in written]

    def answer_ids(self, tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> list[list[int]]:
        """The token ids of each answer, EOS last; one that is cut keeps its EOS."""
        return PromptFormat("answer", "{text}", max_query_tokens=self.max_answer_tokens).query_ids(tokenizer, answers)


def cut_text(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> str:
    """The beginning of a text, of at most so many tokens, special ones left out."""
    # A token stands for one byte at the least, so that most texts need not be looked at.
    if len(text.encode("utf-8", "surrogatepass")) <= most:
        return text
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    ids = encoded["input_ids"]
    if len(ids) <= most:
        return text
    if not tokenizer.is_fast:
        return str(tokenizer.decode(ids[:most]))
    return text[: encoded["offset_mapping"][most - 1][1]]


def _check(template: str, needed: set[str], allowed: set[str]) -> None:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise UsageError(f"the template {template!r} cannot be read ({error})") from error
    if not needed <= fields <= allowed:
        raise UsageError(
            f"the template {template!r} needs {', '.join(f'{{{name}}}' for name in sorted(needed))}",
            mend=f"It may have {', '.join(f'{{{name}}}' for name in sorted(allowed))}, and nothing else in braces",
        )
