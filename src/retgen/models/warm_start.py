"""UniGen models whose first weights are another model's: a T5-family checkpoint, or a BERT-like encoder.

Only the network is built here; `retgen.models.sources` names the sources and brings the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForSeq2SeqLM

from retgen.errors import FormatError, UsageError
from retgen.models.config import UniGenConfig, check_options
from retgen.models.mark_tokens import MarkTokens, ensure_marks
from retgen.models.pretrained import copy_weights, load_tokenizer, load_weights, model_type
from retgen.models.stacks import T5_FAMILY, plain_config
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from retgen.models.vocabulary import fit_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BERT_LIKE = "Give a BERT-like encoder, e.g. BERT, RoBERTa, MiniLM or DistilBERT"


def from_seq2seq(
    path: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    texts: Iterable[str] | None = None,
    dropout: float | None = None,
    **options: Any,
) -> UniGenForRetrievalAndAnswering:
    """A model from a T5-family checkpoint: its encoder, and its decoder twice.

    Both decoders share one output head, tied to the embeddings only if the checkpoint's is: each decoder's logits
    equal the checkpoint's.

    Args:
        path: a folder or hub id.
        tokenizer: the checkpoint's, by default loaded from the same place where it is needed: with a copy head or a
            span head, for which the marks are added to it if need be, and with texts.
        texts: the corpus, for token weights; without it, all tokens but special ones weigh alike.
        dropout: of encoder and decoders; the checkpoint's own by default.
        options: `retgen.models.config.MODEL_OPTIONS`.

    Returns:
        The model in evaluation mode, in fp32.

    Raises:
        FormatError: no T5-family checkpoint can be loaded from there.
        UsageError: an unknown option.
    """
    check_options(options, ("dropout",))
    require_seq2seq(path)
    reads_layout = bool(options.get("copy_head") or options.get("span_head"))
    if tokenizer is None and (reads_layout or texts is not None):
        tokenizer = load_tokenizer(path)
    marks = ensure_marks(tokenizer) if reads_layout and tokenizer is not None else None
    source: Any = load_weights(AutoModelForSeq2SeqLM, path)
    config = source.config
    shape = plain_config(config)
    if dropout is not None:
        shape["dropout_rate"] = dropout
    start = config.decoder_start_token_id
    model = UniGenForRetrievalAndAnswering(
        UniGenConfig(
            encoder=shape,
            decoder={**shape, "model_type": "t5"},
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            scale_decoder_outputs=bool(getattr(config, "scale_decoder_outputs", False)),
            tie_word_embeddings=source.lm_head.weight is source.shared.weight,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
            decoder_start_token_id=config.pad_token_id if start is None else start,
            **mark_ids(marks),
            **options,
        )
    )
    for encoder in _encoders(model):
        copy_weights(source.encoder, encoder, leave_out="embed_tokens")
    for decoder in (model.retrieval_decoder, model.answer_decoder):
        if decoder is not None:
            copy_weights(source.decoder, decoder, leave_out="embed_tokens")
    with torch.no_grad():
        model.shared.weight.copy_(source.shared.weight)
        model.lm_head.weight.copy_(source.lm_head.weight)
    if tokenizer is not None:
        fit_vocabulary(model, tokenizer, marks, texts)
    model.train(False)
    return model


def from_encoder(
    path: str | Path,
    *,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    encoder_layers: int | None = None,
    decoder_layers: int = 2,
    d_ff: int = 1024,
    dropout: float = 0.0,
    **options: Any,
) -> UniGenForRetrievalAndAnswering:
    """A model with a BERT-like checkpoint's encoder and two fresh decoders.

    Embeddings and output head are the encoder's word embeddings; the output bias is the log unigram frequency of the
    corpus' tokens. The decoders are T5 stacks of the encoder's width; torch's generator makes their weights.

    Args:
        path: a folder or hub id.
        texts: the corpus, for output bias and token weights; read once, as a stream.
        tokenizer: the checkpoint's, loaded from the same place by default; marks are added to it if need be.
        encoder_layers: keep the lowest so many of the encoder's; all by default. Fewer train faster.
        decoder_layers: of each decoder.
        d_ff: width of the decoders' gated feed-forward layers.
        dropout: of encoder and decoders.
        options: `retgen.models.config.MODEL_OPTIONS`.

    Returns:
        The model in evaluation mode, in fp32.

    Raises:
        FormatError: no BERT-like encoder can be loaded from there.
        UsageError: an unknown option, or no texts.
    """
    check_options(options, ("encoder_layers", "decoder_layers", "d_ff", "dropout"))
    tokenizer = tokenizer if tokenizer is not None else load_tokenizer(path)
    parts = encoder_parts(path, tokenizer, layers=encoder_layers, dropout=dropout)
    marks = ensure_marks(tokenizer)
    words = parts.words
    model = UniGenForRetrievalAndAnswering(
        UniGenConfig(
            encoder=parts.shape,
            decoder=decoder_shape(words.num_embeddings, words.embedding_dim, decoder_layers, d_ff, dropout),
            vocab_size=words.num_embeddings,
            d_model=words.embedding_dim,
            scale_decoder_outputs=False,
            output_bias=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=parts.end,
            decoder_start_token_id=parts.start,
            **mark_ids(marks),
            **options,
        )
    )
    with torch.no_grad():
        model.shared.weight.copy_(words.weight)
    for encoder in _encoders(model):
        copy_weights(parts.network, encoder, leave_out="pooler")
    fit_vocabulary(model, tokenizer, marks, texts)
    model.train(False)
    return model


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """A BERT-like checkpoint, taken apart.

    Args:
        network: the encoder, without its word embeddings.
        words: its word embeddings, as wide as its states.
        shape: its configuration for `retgen.models.stacks.build_encoder`.
        start: the id of the token that its inputs begin with.
        end: of the one that they end with.
    """

    network: nn.Module
    words: nn.Embedding
    shape: dict[str, Any]
    start: int
    end: int


def encoder_parts(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, *, layers: int | None, dropout: float
) -> EncoderParts:
    """What a decoder needs of a BERT-like checkpoint to share its embeddings.

    Args:
        path: a folder or hub id.
        tokenizer: the checkpoint's.
        layers: keep the lowest so many; None keeps all.
        dropout: every rate of the configuration becomes this one.

    Raises:
        FormatError: no such encoder can be loaded from there, or its tokenizer lacks a special token.
        UsageError: it has fewer layers.
    """
    kind = require_encoder(path)
    source: Any = load_weights(AutoModel, path)
    words = source.get_input_embeddings()
    width = getattr(source.config, "hidden_size", None)
    if source.config.is_encoder_decoder or getattr(source.config, "is_decoder", False):
        raise FormatError(f"this is a model of type {kind!r}, not an encoder", where=path, mend=_BERT_LIKE)
    if not isinstance(words, nn.Embedding) or words.embedding_dim != width:
        raise FormatError(
            f"the word embeddings of this {kind!r} are not as wide as its states: decoders cannot share them",
            where=path,
            mend=_BERT_LIKE,
        )
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    if end is None or start is None or tokenizer.pad_token_id is None:
        raise FormatError("its tokenizer has no separator, no start or no padding token", where=path, mend=_BERT_LIKE)
    if layers is not None:
        keep_lowest(source, layers, path)
    # Families name their rates differently: hidden_dropout_prob, attention_dropout, …
    shape = {
        name: dropout if name.endswith(("dropout", "dropout_prob")) and isinstance(value, int | float) else value
        for name, value in plain_config(source.config).items()
    }
    source.set_input_embeddings(None)
    return EncoderParts(source, words, shape, int(start), int(end))


def keep_lowest(encoder: Any, layers: int, path: str | Path) -> None:
    """Take all but the lowest so many layers from an encoder, in place.

    Raises:
        UsageError: it has fewer, or none that can be found.
    """
    has = getattr(encoder.config, "num_hidden_layers", 0)
    stacks = [part for part in encoder.modules() if isinstance(part, nn.ModuleList) and len(part) == has]
    if not 1 <= layers <= has or not stacks:
        raise UsageError(
            f"cannot keep {layers} layers of an encoder that has {has}", where=path, mend=f"Choose 1 to {has}"
        )
    del stacks[0][layers:]
    encoder.config.num_hidden_layers = layers


def require_seq2seq(path: str | Path) -> str:
    """The model type of a T5-family checkpoint.

    Raises:
        FormatError: there is no model, or one of another family.
    """
    kind = model_type(path)
    if kind not in T5_FAMILY:
        raise FormatError(
            f"this is a model of type {kind!r}, where a T5-family encoder-decoder is needed ({', '.join(T5_FAMILY)})",
            where=path,
            mend=f"For a BERT-like encoder with fresh decoders, give warm:{path}",
        )
    return kind


def require_encoder(path: str | Path) -> str:
    """The model type of a checkpoint that is not of the T5 family.

    Raises:
        FormatError: there is no model, or a T5.
    """
    kind = model_type(path)
    if kind in (*T5_FAMILY, UniGenConfig.model_type):
        raise FormatError(
            f"this is an encoder-decoder of type {kind!r}; its decoder need not be made afresh",
            where=path,
            mend=f"Give {path} without warm:",
        )
    return kind


def decoder_shape(vocab_size: int, width: int, layers: int, d_ff: int, dropout: float) -> dict[str, Any]:
    """A fresh decoder's `T5Config`: heads of 64 (32 in narrow models), gated GELU."""
    d_kv = 64 if width >= 512 and width % 64 == 0 else 32
    return {
        "model_type": "t5",
        "vocab_size": vocab_size,
        "d_model": width,
        "d_kv": d_kv,
        "num_heads": max(1, width // d_kv),
        "d_ff": d_ff,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "dropout_rate": dropout,
        "feed_forward_proj": "gated-gelu",
    }


def mark_ids(marks: MarkTokens | None) -> dict[str, Any]:
    """The marks as `UniGenConfig` names them."""
    return {} if marks is None else {"boundary_token_id": marks.boundary, "docid_end_token_id": marks.docid_end}


def _encoders(model: UniGenForRetrievalAndAnswering) -> list[nn.Module]:
    return [model.encoder] if model.answer_encoder is None else [model.encoder, model.answer_encoder]
