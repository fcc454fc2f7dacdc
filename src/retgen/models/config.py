"""Configuration of the UniGen model: one encoder, two decoders, and the options the paper leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from retgen.errors import UsageError

MODEL_OPTIONS = (
    "share_encoder",
    "answers",
    "retrieval_loss_weight",
    "loss_reduction",
    "copy_head",
    "copy_gate_init",
    "lexical_prior",
    "span_head",
    "span_loss_weight",
    "max_blocks",
)
"""Options of `UniGenConfig` that every source of models takes."""


class UniGenConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Shape and options of `UniGenForRetrievalAndAnswering`.

    Args:
        encoder: the encoder's own configuration as a dict with its ``model_type`` (``t5`` or a BERT-like family).
        decoder: a `T5Config` as a dict; both decoders have this shape.
        share_encoder: one encoder for both tasks (the paper); False gives the answer decoder its own (ablation).
        answers: False leaves the answer decoder out: a generative retriever alone, with the retrieval loss alone.
        retrieval_loss_weight: λ of Eq. 7, in [0, 1].
        loss_reduction: ``"sum"`` sums a target's token losses per example and averages over the batch (Eqs. 5–6);
            ``"token_mean"`` averages over tokens, the way transformers does. λ means different things under the two.
        scale_decoder_outputs: multiply decoder states by ``d_model ** -0.5`` before the output head (T5 v1.0).
        output_bias: give the output head a bias (log unigram frequency for fresh decoders).
        copy_head: mix a distribution over the input's tokens into both decoders. Not in the paper.
        copy_gate_init: the copy gate's initial logit; positive starts towards copying.
        lexical_prior: let the copy head see how much of the question each block of the input repeats.
        span_head: an auxiliary extractive head on the encoder. Not in the paper.
        span_loss_weight: its weight beside Eq. 7.
        boundary_token_id: token that separates the blocks of a written context, or None for plain text.
        docid_end_token_id: token that ends a block's docid, or None.
        docid_tokens: first and one past the last of the tokens that only docids are written with, or None.
        docid_outputs_only: the retrieval decoder writes docid tokens and EOS alone: its softmax is over these.
        prefix_head_layers: of NCI's prefix-aware head (`retgen.models.prefix_head`); 0 has none.
        max_blocks: how many blocks have a rank bias of their own.
    """

    model_type = "unigen"

    encoder: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None
    vocab_size: int = 32128
    d_model: int = 512
    share_encoder: bool = True
    answers: bool = True
    retrieval_loss_weight: float = 0.6
    loss_reduction: str = "sum"
    scale_decoder_outputs: bool = True
    output_bias: bool = False
    copy_head: bool = False
    copy_gate_init: float = 2.0
    lexical_prior: bool = True
    span_head: bool = False
    span_loss_weight: float = 1.0
    boundary_token_id: int | None = None
    docid_end_token_id: int | None = None
    docid_tokens: list[int] | None = None
    docid_outputs_only: bool = False
    prefix_head_layers: int = 0
    max_blocks: int = 16
    tie_word_embeddings: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | None = 1
    decoder_start_token_id: int | None = 0

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> UniGenConfig:
        """This configuration itself: the parts it names ``encoder`` and ``decoder`` are plain dicts."""
        return self


AutoConfig.register(UniGenConfig.model_type, UniGenConfig, exist_ok=True)


def check_options(options: Mapping[str, Any], own: Iterable[str] = ()) -> None:
    """Refuse options that the source of a model does not know.

    Args:
        options: those meant for `UniGenConfig`.
        own: names of the source's own options, for the message.

    Raises:
        UsageError: an option is none of `MODEL_OPTIONS`.
    """
    unknown = sorted(set(options) - set(MODEL_OPTIONS))
    if unknown:
        known = ", ".join(sorted({*MODEL_OPTIONS, *own}))
        raise UsageError(f"unknown model option {unknown[0]!r}", mend=f"There is: {known}")
