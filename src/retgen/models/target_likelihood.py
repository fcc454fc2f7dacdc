"""How likely an encoder-decoder of any family writes given targets: token by token, in fp32, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.nn import functional

from retgen.errors import UsageError
from retgen.models.fp32_head import Fp32Head
from retgen.models.outputs import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils.generic import ModelOutput


def target_log_likelihoods(
    model: PreTrainedModel,
    encoder_outputs: ModelOutput,
    attention_mask: Tensor,
    labels: Tensor,
    *,
    source_ids: Tensor | None = None,
    decoder_input_ids: Tensor | None = None,
) -> Tensor:
    """log p(token | input, tokens before it) of every target token. Projection and log-softmax run in fp32 always.

    Args:
        model: any encoder-decoder of transformers, or one that gives ``target_log_probabilities`` itself.
        encoder_outputs: of its encoder, one row a target.
        attention_mask: (R, L) of its inputs.
        labels: (R, T) int64; `IGNORED` where there is no token.
        source_ids: (R, L) the inputs' tokens, for a copy head whose ``encoder_outputs`` do not carry them.
        decoder_input_ids: (R, T) what the decoder reads; by default the labels, shifted behind the start token. A model
            that gives ``target_log_probabilities`` itself shifts them itself.

    Returns:
        (R, T) in fp32, ≤ 0; 0 where there is no token.

    Raises:
        UsageError: the model has no way to shift targets, and ``decoder_input_ids`` was not given.
    """
    own = getattr(model, "target_log_probabilities", None)
    if own is not None:
        found: Tensor = own(encoder_outputs, attention_mask, labels, source_ids)
        return found.float().masked_fill(labels == IGNORED, 0.0)
    if decoder_input_ids is None:
        decoder_input_ids = _shifted(model, labels)
    call: Any = model
    with Fp32Head(model).everywhere():
        logits = call(
            encoder_outputs=encoder_outputs,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
        ).logits
    return -functional.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")


def _shifted(model: PreTrainedModel, labels: Tensor) -> Tensor:
    shift = cast(Callable[..., Tensor], getattr(model, "prepare_decoder_input_ids_from_labels", None))
    if shift is None:
        raise UsageError(
            f"do not know how a {type(model).__name__} is given what it is to write",
            mend="Give an encoder-decoder such as T5 or BART",
        )
    return shift(labels=labels)
