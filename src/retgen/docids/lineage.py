"""Fingerprints: which tokenizer, corpus and docids a table or tree was made from, and whether they still fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from retgen.errors import MismatchError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Case, accents, digits, punctuation, spaces, other scripts, an emoji: where tokenizers with one vocabulary may differ.
_PROBES = (
    "The Quick brown fox; it's 1,234.56 km (approx.)",
    "naïve café Ångström  two  spaces\tand a tab",
    "Привет, 世界! नमस्ते مرحبا 🦊",
    "e-mail_address@example.org https://example.org/a?b=c",
)
_NAMES = {"tokenizer": "another tokenizer", "corpus": "another corpus", "docids": "other docids"}


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what a tokenizer does: its whole vocabulary with ids, and how it splits a few probing texts.

    Saving and loading a tokenizer, or using its fast or slow form, keeps the fingerprint as long as the ids stay.

    Returns:
        64 hexadecimal digits.
    """
    vocabulary = sorted(tokenizer.get_vocab().items())
    probes = [tokenizer.encode(text, add_special_tokens=False) for text in _PROBES]
    return hashlib.sha256(json.dumps([vocabulary, probes]).encode()).hexdigest()


def check_lineage(found: Mapping[str, str], wanted: Mapping[str, str], *, what: str, where: str | Path) -> None:
    """Compare fingerprints by name; a name that either side lacks is not compared.

    Raises:
        MismatchError: one differs; the message says which.
    """
    for name, described in _NAMES.items():
        if name in found and name in wanted and found[name] != wanted[name]:
            raise MismatchError(
                f"{what} was made with {described}" if name == "tokenizer" else f"{what} was made from {described}",
                where=where,
                mend="Use the one it was made with, or build it again",
            )
