"""Fusion-in-Decoder: each passage is encoded apart, and the decoder of an unmodified model reads them all at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from retgen.models.outputs import IGNORED
from retgen.models.passage_encoder import PassageStates
from retgen.models.reader import PlainReader
from retgen.models.readings import Encoded

if TYPE_CHECKING:
    from torch import nn
    from transformers.utils.generic import ModelOutput

_ATTENTIONS_AT_ONCE = 2**26
"""Most attention weights held at a time: 256 MiB in fp32."""


class FiDReader(PlainReader):
    """Fusion-in-Decoder over any encoder-decoder, without a subclass of it.

    The encoder reads "question: … title: … context: …" of each passage; its states, without those of padding, are laid
    end to end and handed to the model as its encoder's outputs. With one passage this is the plain model.

    A passage's share in an answer (`Written.shares`) is the decoder's cross-attention on its states: the mean over
    layers, heads and the answer's tokens, EOS included.

    Reference:
        Izacard & Grave, "Leveraging Passage Retrieval with Generative Models for Open Domain Question Answering", 2021.

    Example:
        >>> from retgen.models.generator_sources import load_generator
        >>> reader = FiDReader(*load_generator("t5-base"))  # doctest: +SKIP
    """

    method: ClassVar[str] = "fid"

    def arranged(self, outputs: ModelOutput, mask: Tensor, question: Tensor) -> Encoded:
        """The states of a question's passages end to end."""
        return fuse(outputs, mask, question)

    def shares(self, encoded: Encoded, labels: Tensor, given: Tensor) -> list[tuple[float, ...]]:
        """See the class."""
        return attention_shares(self.model, encoded, labels, given)


def fuse(outputs: ModelOutput, mask: Tensor, question: Tensor) -> Encoded:
    """Encoder states of passages, laid end to end for each question; padding is left out, and made anew at the end.

    Args:
        outputs: of the encoder, a row a passage: states (P, L, d).
        mask: (P, L), 1 for real tokens.
        question: (P,) the question of each passage, from 0 without a gap, rising.
    """
    states: Tensor = outputs[0]
    real = mask.bool()
    lengths = real.sum(dim=1)
    questions = int(question[-1]) + 1
    totals = lengths.new_zeros(questions).index_add_(0, question, lengths)
    row = question.repeat_interleave(lengths)
    column = torch.arange(len(row), device=row.device) - (totals.cumsum(0) - totals)[row]
    width = int(totals.max())

    first = torch.searchsorted(question, question)
    number = torch.arange(len(question), device=question.device) - first
    passage = torch.full((questions, width), -1, dtype=torch.long, device=states.device)
    passage[row, column] = number.repeat_interleave(lengths)
    fused = states.new_zeros(questions, width, states.shape[-1])
    fused[row, column] = states[real]
    made: ModelOutput = BaseModelOutput(last_hidden_state=fused)
    if isinstance(outputs, PassageStates) and outputs.source_ids is not None:
        sources = outputs.source_ids.new_zeros(questions, width)
        sources[row, column] = outputs.source_ids[real]
        made = PassageStates(last_hidden_state=fused, source_ids=sources)
    return Encoded(made, (passage >= 0).to(mask.dtype), torch.arange(questions, device=question.device), passage)


@torch.inference_mode()
def attention_shares(model: Any, encoded: Encoded, labels: Tensor, given: Tensor) -> list[tuple[float, ...]]:
    """The decoder's cross-attention on each passage of each question, while it writes given targets.

    Args:
        model: the encoder-decoder, in evaluation mode.
        encoded: a row a question.
        labels: (B, T) the targets; `IGNORED` where there is no token.
        given: (B, T) what the decoder reads.

    Returns:
        For each question its passages' shares, mean over layers, heads and tokens; they sum to 1.
    """
    decoder = model.get_decoder().config
    layers = getattr(decoder, "num_layers", None) or decoder.num_hidden_layers
    heads = getattr(decoder, "num_heads", None) or decoder.num_attention_heads
    at_once = max(1, _ATTENTIONS_AT_ONCE // (layers * heads * given.shape[1] * encoded.mask.shape[1]))
    found: list[tuple[float, ...]] = []
    with eager_attention(model):
        for start in range(0, len(given), at_once):
            part = slice(start, start + at_once)
            outputs = type(encoded.outputs)(**{name: value[part] for name, value in encoded.outputs.items()})
            attentions = model(
                encoder_outputs=outputs,
                attention_mask=encoded.mask[part],
                decoder_input_ids=given[part],
                output_attentions=True,
                use_cache=False,
                return_dict=True,
            ).cross_attentions
            mass = sum(layer.float().mean(dim=1) for layer in attentions) / len(attentions)
            written = (labels[part] != IGNORED).float()
            mass = (mass * written.unsqueeze(-1)).sum(dim=1) / written.sum(dim=1, keepdim=True)
            owners = encoded.passage[part]
            for row, owner in zip(mass, owners, strict=True):
                shares = row.new_zeros(int(owner.max()) + 1).index_add_(0, owner[owner >= 0], row[owner >= 0])
                found.append(tuple((shares / shares.sum()).tolist()))
    return found


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Within it attention is computed step by step, since fused kernels do not give their weights."""
    configs: dict[int, Any] = {
        id(config): config
        for part in model.modules()
        if isinstance(config := getattr(part, "config", None), PreTrainedConfig)
    }
    usual = {number: config._attn_implementation for number, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for number, config in configs.items():
            config._attn_implementation = usual[number]
