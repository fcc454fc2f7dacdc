"""The marks of a written context as single tokens of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel

from retgen.errors import FormatError
from retgen.models.marks import BOUNDARY, DOCID_END

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class MarkTokens:
    """Token ids of the marks.

    Args:
        boundary: of `BOUNDARY`.
        docid_end: of `DOCID_END`.
        pieces: id of each mark that was added → the tokens it was written with before.
    """

    boundary: int
    docid_end: int
    pieces: dict[int, list[int]]


def ensure_marks(tokenizer: PreTrainedTokenizerBase) -> MarkTokens:
    """See to it that each mark is one token wherever it stands, adding it to the tokenizer if need be.

    Many tokenizers write a mark in one way behind a space and in another behind a word, or do not know it. Some write
    a text's first word in another way than the same word within: these are told not to, as a docid or an answer could
    not be found in a context otherwise.

    Raises:
        FormatError: the tokenizer splits a mark even when it has been added.
    """
    _write_words_alike(tokenizer)
    ids, pieces = [], {}
    for mark in (BOUNDARY, DOCID_END):
        before = _encode(tokenizer, mark)
        if not _is_single(tokenizer, mark):
            # The space before a mark goes with it, so that no lone space is left as a token.
            tokenizer.add_tokens([AddedToken(mark, lstrip=True, normalized=False)])
            if not _is_single(tokenizer, mark):
                raise FormatError(
                    f"this tokenizer cannot hold {mark!r} as a token of its own",
                    where=tokenizer.name_or_path or type(tokenizer).__name__,
                    mend="Use a fast tokenizer, or a model without copy head and span head",
                )
            pieces[_mark_id(tokenizer, mark)] = before
        ids.append(_mark_id(tokenizer, mark))
    return MarkTokens(ids[0], ids[1], pieces)


def _write_words_alike(tokenizer: PreTrainedTokenizerBase) -> None:
    core = getattr(tokenizer, "backend_tokenizer", None)
    cut = getattr(core, "pre_tokenizer", None)
    if core is None or not isinstance(cut, ByteLevel) or cut.add_prefix_space:
        return
    cut.add_prefix_space = True
    core.pre_tokenizer = cut
    # Classes that rebuild their pre-tokenizer when they are loaded go by what was saved under this name.
    tokenizer.init_kwargs["add_prefix_space"] = True
    setattr(tokenizer, "add_prefix_space", True)  # noqa: B010


def _mark_id(tokenizer: PreTrainedTokenizerBase, mark: str) -> int:
    number = tokenizer.convert_tokens_to_ids(mark)
    return number if isinstance(number, int) else -1


def _is_single(tokenizer: PreTrainedTokenizerBase, mark: str) -> bool:
    number = _mark_id(tokenizer, mark)
    if number < 0 or number == tokenizer.unk_token_id:
        return False
    word = _encode(tokenizer, "the")
    return all(
        _encode(tokenizer, text) == expected
        for text, expected in (
            (f"the {mark} the", [*word, number, *word]),
            (f"the{mark} the", [*word, number, *word]),
            (f"the {mark} {mark}", [*word, number, number]),
            (f"{mark} the", [number, *word]),
        )
    )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
