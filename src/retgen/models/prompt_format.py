"""How a passage and a query are written for a query generator p(query | passage): templates, lengths, truncation.

What is cut is the passage. An instruction that stands behind it is kept whole. Scoring and training both write their
inputs here, so that a model is asked what it was taught.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retgen.errors import UsageError
from retgen.types import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REDUCTIONS = ("mean", "sum")


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """What a query generator reads and what it is asked to write.

    Args:
        name: of the preset, or of your own format.
        passage_template: of the input, with ``{text}`` and optionally ``{title}``. Where a title or a text is empty,
            one space beside it goes too.
        query_template: of the target, with ``{query}``.
        max_passage_tokens: most tokens of an input, the tokenizer's special tokens included.
        max_query_tokens: most tokens of a target, the EOS included.
        reduction: how a query's token log-likelihoods become its score, ``"mean"`` or ``"sum"``.
        append_eos: end the target with EOS, which is scored too.

    Raises:
        UsageError: a template has other fields, or a length or the reduction cannot be used.

    Example:
        >>> upr = PRESETS["upr"]
        >>> upr.passage_text(Document("d1", "Mars has two moons", title="Mars"))
        'Passage: Mars Mars has two moons. Please write a question based on this passage.'
        >>> upr.query_text("how many moons has Mars")
        'Question: how many moons has Mars?'
    """

    name: str
    passage_template: str = "{title} {text}"
    query_template: str = "{query}"
    max_passage_tokens: int = 512
    max_query_tokens: int = 128
    reduction: str = "mean"
    append_eos: bool = True

    def __post_init__(self) -> None:
        _check_template(self.passage_template, needed="text", allowed={"title", "text"})
        _check_template(self.query_template, needed="query", allowed={"query"})
        if self.max_passage_tokens < 1 or self.max_query_tokens < 1:
            raise UsageError("a passage and a query need at least 1 token each", where=f"prompt format {self.name!r}")
        if self.reduction not in REDUCTIONS:
            raise UsageError(f"unknown reduction {self.reduction!r}", mend=f"Pass {' or '.join(REDUCTIONS)}")

    def passage_text(self, document: Document) -> str:
        """The whole input for a passage, however long."""
        return "".join(self._passage_parts(document.title.strip(), document.text.strip()))

    def query_text(self, query: str) -> str:
        """The whole target for a query, however long."""
        return self.query_template.format(query=query.strip())

    def passage_ids(self, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Document]) -> list[list[int]]:
        """The token ids of each passage's input, at most ``max_passage_tokens`` of them.

        A passage that is too long loses the end of its text, then of its title; the template stays whole.

        Args:
            tokenizer: of the model; it adds its own special tokens.
            passages: titles or texts may be empty.

        Raises:
            UsageError: the template alone has more tokens than ``max_passage_tokens``.
        """
        if not passages:
            return []
        rows = _encode(tokenizer, [self.passage_text(passage) for passage in passages])
        return [
            ids if len(ids) <= self.max_passage_tokens else self._cut(tokenizer, passage)
            for ids, passage in zip(rows, passages, strict=True)
        ]

    def query_ids(self, tokenizer: PreTrainedTokenizerBase, queries: Sequence[str]) -> list[list[int]]:
        """The token ids of each query's target, at most ``max_query_tokens`` of them; a target that is cut keeps EOS.

        No other special token is in it: the EOS of an empty query stands alone. With the template ``{query}`` and T5's
        tokenizer these are the tokenizer's own ids.

        Raises:
            UsageError: the tokenizer has no token that ends a text, and ``append_eos`` asks for one.
        """
        if not queries:
            return []
        end = [end_token_id(tokenizer)] if self.append_eos else []
        rows = _encode(tokenizer, [self.query_text(query) for query in queries], special_tokens=False)
        return [[*ids[: self.max_query_tokens - len(end)], *end] for ids in rows]

    def _passage_parts(self, title: str, text: str) -> tuple[str, str, str]:
        """What stands before the text, the text, and what stands behind it."""
        before, after = "", ""
        values = {"title": title, "text": text}
        reached = False
        drop_space = False
        for literal, field, _, _ in string.Formatter().parse(self.passage_template):
            piece = literal.removeprefix(" ") if drop_space else literal
            drop_space = False
            if field is not None and not values[field]:
                # The space that would stand alone: the one behind the empty value, or the one before it.
                drop_space = self._space_follows(field)
                if not drop_space:
                    piece = piece.removesuffix(" ")
            if reached:
                after += piece + (values[field] if field is not None else "")
            else:
                before += piece + (values[field] if field == "title" else "")
            reached = reached or field == "text"
        return before if text or after else before.rstrip(), text, after

    def _space_follows(self, field: str) -> bool:
        return f"{{{field}}} " in self.passage_template

    def _cut(self, tokenizer: PreTrainedTokenizerBase, passage: Document) -> list[int]:
        title, text = passage.title.strip(), passage.text.strip()
        ids: list[int] = []
        while text:
            before, _, after = self._passage_parts(title, text)
            ids, kept = _cut_once(tokenizer, before, text, after, self.max_passage_tokens)
            if len(ids) <= self.max_passage_tokens:
                return ids
            text = text[:kept].rstrip()
        # Without any text: words of the title go, last first.
        while True:
            (ids,) = _encode(tokenizer, ["".join(self._passage_parts(title, ""))])
            if len(ids) <= self.max_passage_tokens:
                return ids
            if not title:
                raise UsageError(
                    f"the template alone has {len(ids)} tokens, and an input may have {self.max_passage_tokens}",
                    where=f"prompt format {self.name!r}",
                    mend=f"Pass max_passage_tokens of at least {len(ids) + 1}, or a shorter template",
                )
            title = title.rpartition(" ")[0].rstrip() if " " in title else title[: len(title) // 2]


def end_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text: EOS, or where there is none, as in BERT's vocabulary, the separator.

    Raises:
        UsageError: the tokenizer has neither.
    """
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return int(token)
    raise UsageError(
        "this tokenizer has no token that ends a text (neither EOS nor a separator)",
        mend="Set tokenizer.eos_token to the token the model was trained to end with",
    )


def _check_template(template: str, *, needed: str, allowed: set[str]) -> None:
    try:
        fields = [tuple(parts) for _, *parts in string.Formatter().parse(template) if parts[0] is not None]
    except ValueError as error:
        raise UsageError(f"this template cannot be read ({error})", where=template) from error
    names = [field for field, _, _ in fields]
    if (
        any(spec or conversion for _, spec, conversion in fields)
        or names.count(needed) != 1
        or len(names) != len(set(names))
        or not set(names) <= allowed
    ):
        raise UsageError(
            f"this template has the fields {names}, not {needed!r} once and nothing but {sorted(allowed)}",
            where=template,
            mend="Write a literal brace twice",
        )


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special_tokens: bool = True
) -> list[list[int]]:
    # Inputs longer than the model's limit are expected here: they are cut afterwards, so no warning.
    encoded = tokenizer(list(texts), add_special_tokens=special_tokens, return_attention_mask=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def _cut_once(
    tokenizer: PreTrainedTokenizerBase, before: str, text: str, after: str, limit: int
) -> tuple[list[int], int]:
    """The ids of the three parts, and where they are too many how many characters of the text may remain (fewer)."""
    whole = before + text + after
    if not tokenizer.is_fast:
        (ids,) = _encode(tokenizer, [whole])
        return ids, min(len(text) - 1, int(len(text) * limit / max(len(ids), 1)) or 0)
    encoded = tokenizer(whole, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    ids = list(encoded["input_ids"])
    surplus = len(ids) - limit
    if surplus <= 0:
        return ids, len(text)
    begin, end = len(before), len(before) + len(text)
    # A token may be a trimmed space, of no length, so tokens are counted from the first to the last inside the text.
    offsets = encoded["offset_mapping"]
    inside = [number for number, (start, stop) in enumerate(offsets) if stop > start and begin <= start < end]
    cut = inside[-1] + 1 - surplus if inside else 0
    kept = max(offsets[cut][0] - begin, 0) if inside and cut > inside[0] else 0
    return ids, min(kept, len(text) - 1)


PRESETS = {
    preset.name: preset
    for preset in (
        PromptFormat("jpr"),
        PromptFormat("jpr-beir", "Passage: {title} {text}"),
        PromptFormat("authors-code", max_passage_tokens=256, max_query_tokens=64),
        PromptFormat("authors-code-beir", "Passage: {title} {text}", max_passage_tokens=256, max_query_tokens=64),
        PromptFormat(
            "upr",
            "Passage: {title} {text}. Please write a question based on this passage.",
            "Question: {query}?",
            reduction="sum",
        ),
        PromptFormat(
            "upr-causal",
            "Passage: {title} {text}. Please write a question based on this passage. Question:",
            " {query}?",
            reduction="sum",
            append_eos=False,
        ),
    )
}
"""Formats by name.

``jpr`` and ``jpr-beir`` have the paper's lengths (open-domain question answering and BEIR); ``authors-code`` and
``authors-code-beir`` those of its authors' code. ``upr`` is the instruction of UPR for encoder-decoders; ``upr-causal``
the same for decoder-only models, of which the words before the query are read, not scored.
"""


def find_format(preset: str | PromptFormat) -> PromptFormat:
    """A format by its name; one that is a format already, as it is.

    Raises:
        UsageError: there is no preset of this name.
    """
    if isinstance(preset, PromptFormat):
        return preset
    if preset not in PRESETS:
        raise UsageError(f"unknown prompt format {preset!r}", mend=f"Give one of {', '.join(PRESETS)}")
    return PRESETS[preset]
