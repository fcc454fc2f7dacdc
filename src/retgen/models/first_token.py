"""The last layer of a BERT-like classifier, computed for the first token alone.

Such a classifier's head reads the first token's state and no other. In the last layer the other tokens are still looked
at, as keys and values, but their own queries, outputs and feed-forward states are thrown away: of a layer's twelve
matrix products of width d by d, two are needed. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Model types whose layers are BERT's and whose classification head reads the first token."""
_ATTENTION = ("sdpa", "eager")


@contextmanager
def first_token_only(model: PreTrainedModel) -> Iterator[None]:
    """Within it, a classifier of `FAMILIES` computes its last layer for the first token; any other model is as it was.

    The last hidden state has then one position, shape (B, 1, d). Gradients flow. With gradient checkpointing, whose
    second forward pass may come later, nothing changes.

    Args:
        model: a sequence-classification model.
    """
    layer = _last_layer(model)
    if layer is None or "forward" in vars(layer):
        yield
        return

    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        return for_first_token(layer, hidden, attention_mask)

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def _last_layer(model: PreTrainedModel) -> Any:
    config = model.config
    if (
        config.model_type not in FAMILIES
        or config._attn_implementation not in _ATTENTION
        or getattr(config, "is_decoder", False)
        or any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    ):
        return None
    trunk: Any = model.base_model
    return trunk.encoder.layer[-1]


def for_first_token(layer: Any, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """What a BERT layer makes of the first token, (B, 1, d).

    Args:
        layer: of a family of `FAMILIES`.
        hidden: (B, L, d).
        attention_mask: (B, 1, 1, L) or (B, 1, L, L), bool or added; None where all tokens are real.
    """
    attention = layer.attention.self
    heads, width = attention.num_attention_heads, attention.attention_head_size
    first = hidden[:, :1]

    def by_head(states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], heads, width).transpose(1, 2)

    read = functional.scaled_dot_product_attention(
        by_head(attention.query(first)),
        by_head(attention.key(hidden)),
        by_head(attention.value(hidden)),
        attn_mask=None if attention_mask is None else attention_mask[:, :, :1],
        dropout_p=attention.dropout.p if layer.training else 0.0,
        scale=attention.scaling,
    )
    read = layer.attention.output(read.transpose(1, 2).flatten(2), first)
    states: Tensor = layer.feed_forward_chunk(read)
    return states
