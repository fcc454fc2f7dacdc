"""Encoders and decoders of the UniGen network, without embeddings of their own: the network's shared ones feed them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from retgen.errors import UsageError
from retgen.models.copying import in_fp32

T5_FAMILY = ("t5", "mt5")
"""Model types whose layers a `T5Stack` holds: T5, T5 v1.1, Flan-T5, ByT5 and mT5."""

_FEW = 512
"""Rows of a search's step; a training batch has more."""

_GENERAL_KEYS = frozenset(PreTrainedConfig().to_dict()) - {"model_type"}


def plain_config(config: PreTrainedConfig) -> dict[str, Any]:
    """What shapes an encoder or a decoder: its configuration without the keys that every model has."""
    plain = {name: value for name, value in config.to_dict().items() if name not in _GENERAL_KEYS}
    return {**plain, "model_type": config.model_type}


def build_encoder(options: dict[str, Any] | None) -> nn.Module:
    """An encoder from its configuration: a `T5Stack`, or a BERT-like model without its word embeddings."""
    options = dict(options or {})
    family = options.pop("model_type")
    if family in T5_FAMILY:
        stack = T5Stack(T5Config(**{**options, "is_decoder": False, "use_cache": False}))
        stack.embed_tokens = None  # type: ignore[assignment]
        return stack
    config = AutoConfig.for_model(family, **options)
    encoder: nn.Module = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # type: ignore[assignment]  # families without one know no option to leave it out
    encoder.set_input_embeddings(None)  # type: ignore[operator]
    return encoder


def build_decoder(options: dict[str, Any] | None) -> T5Stack:
    """A decoder from a `T5Config` as a dict."""
    options = dict(options or {})
    options.pop("model_type", None)
    options.update(is_decoder=True, is_encoder_decoder=True)
    config = T5Config(**options)
    config.num_layers = config.num_decoder_layers or config.num_layers
    stack = T5Stack(config)
    stack.embed_tokens = None  # type: ignore[assignment]
    return stack


def run_encoder(encoder: nn.Module, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """States (B, L, d) for embedded inputs (B, L, d).

    Raises:
        UsageError: the inputs are longer than an encoder with absolute positions can read.
    """
    longest = longest_input(encoder)
    if longest is not None and embeddings.shape[1] > longest:
        raise UsageError(
            f"an input has {embeddings.shape[1]} tokens, and this encoder reads {longest} at most",
            mend="Truncate inputs, or write a shorter context",
        )
    states: Tensor = encoder(inputs_embeds=embeddings, attention_mask=attention_mask).last_hidden_state
    return states


def longest_input(encoder: nn.Module) -> int | None:
    """How many tokens an encoder can read: the size of its table of positions; None where positions are relative."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # Families that count positions from behind the padding id leave that many rows unused.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None


def vocabulary_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """fp32 logits over the vocabulary, (…, V), for decoder states (…, d): the projection itself runs in fp32.

    Rounded to bf16, scores cannot be told apart, and casting them back restores nothing.
    """
    hidden, weight, bias = hidden.float(), weight.float(), None if bias is None else bias.float()
    with in_fp32(hidden.device):
        if hidden.dim() == 2 and len(hidden) <= _FEW and hidden.device.type == "cpu" and not torch.is_grad_enabled():
            # Few rows against a large matrix: the matrix first is up to twice as quick. The rows then lie as columns.
            logits = torch.mm(weight, hidden.t())
            return (logits if bias is None else logits.add_(bias.unsqueeze(1))).t()
        return nn.functional.linear(hidden, weight, bias)
