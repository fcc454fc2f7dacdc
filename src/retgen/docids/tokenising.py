"""Docid texts as tokens that end and fit; tables of them are made in `table`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 1024


@dataclass(slots=True)
class TokenisedDocids:
    """Docids as tokens, in the order they came.

    Args:
        doc_ids: document ids.
        texts: as the scheme wrote them.
        token_ids: of each, ending with EOS.
        cut: documents whose text was longer than the limit, and was cut.
        special_tokens_dropped: EOS and padding tokens that the texts spelled out, and that were left out.
    """

    doc_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    token_ids: list[npt.NDArray[np.int32]] = field(default_factory=list)
    cut: int = 0
    special_tokens_dropped: int = 0


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What ends a docid: the tokenizer's EOS, or its SEP where it has none.

    Raises:
        UsageError: it has neither.
    """
    for token_id in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token_id is not None:
            return int(token_id)
    raise UsageError("the tokenizer has neither an EOS nor a SEP token", mend="Pass eos_token_id")


def tokenise_docids(
    docids: Iterable[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    eos_token_id: int,
    scheme: str = "",
) -> TokenisedDocids:
    """Docid texts as tokens.

    Args:
        docids: document id and docid text of every document.
        tokenizer: the model's own.
        max_length: most tokens of a docid, EOS included; longer ones are cut, and counted.
        eos_token_id: the token that ends a docid.
        scheme: its name, for the message.

    Raises:
        UsageError: a text that is empty or has no tokens, or a limit below 2.
    """
    if max_length < 2:
        raise UsageError(f"max_length must leave room for a token and EOS: at least 2, not {max_length}")
    made = TokenisedDocids()
    special = {eos_token_id, tokenizer.pad_token_id}
    for batch in _batches(docids):
        encoded = tokenizer(
            [text for _, text in batch], add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        for (doc_id, text), ids in zip(batch, encoded, strict=True):
            kept = [token for token in ids if token not in special]
            made.special_tokens_dropped += len(ids) - len(kept)
            if not kept:
                raise UsageError(
                    f"document {doc_id!r} has an empty docid" + (f" under the scheme {scheme!r}" if scheme else ""),
                    mend="Choose a scheme that gives every document a text, or leave the document out",
                )
            made.cut += len(kept) > max_length - 1
            made.token_ids.append(np.array([*kept[: max_length - 1], eos_token_id], dtype=np.int32))
            made.doc_ids.append(doc_id)
            made.texts.append(text)
    return made


def _batches(docids: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    rest = iter(docids)
    while batch := list(islice(rest, _BATCH)):
        yield batch
