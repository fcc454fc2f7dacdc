"""Marks for a cross-encoder: which tokens query and passage share.

A cross-encoder that is trained on little data has to find out by itself that equal words matter, which takes it most
of its training. Marked inputs tell it: token types beyond the usual two, for query (2) and passage (3) tokens that
occur on the other side too. Any BERT-like model with token types can carry them; its configuration says that it does,
and `retgen.models.pair_inputs.PairInputs` makes them. The paper's models have no marks.

Reference:
    Boualili et al., "MarkedBERT: Integrating Traditional IR Cues in Pre-trained Language Models for Passage
    Retrieval", 2020, whose marks are tokens of their own around the words of the query.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retgen.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

SIDES = 2
"""Token types without marks: of the query and of the passage."""
FIELD = "match_marks"
"""Of the configuration."""


def reads_match_marks(config: PreTrainedConfig) -> bool:
    """Whether a model was made to read marks."""
    return bool(getattr(config, FIELD, False))


def add_match_marks(model: PreTrainedModel) -> None:
    """Give a model the two token types more, in place. They begin as the usual two, moved a little at random.

    Args:
        model: BERT-like, with the usual two token types. One that reads marks already stays as it is.

    Raises:
        UsageError: the model has no token types of its own for query and passage.
    """
    if reads_match_marks(model.config):
        return
    if hasattr(model.config, FIELD):
        # A model that has them from the start: `retgen.models.late_join`.
        setattr(model.config, FIELD, True)
        return
    embeddings: Any = getattr(model.base_model, "embeddings", None)
    usual = getattr(embeddings, "token_type_embeddings", None)
    if not isinstance(usual, nn.Embedding) or usual.num_embeddings != SIDES:
        raise UsageError(
            f"a model of type {model.config.model_type!r} has no token types to mark the words that query and passage "
            "share",
            mend="Train it without match marks, or start from a BERT-like encoder with two token types",
        )
    deviation = float(getattr(model.config, "initializer_range", 0.02))
    weight = usual.weight.detach()
    marked = nn.Embedding(2 * SIDES, usual.embedding_dim)
    with torch.no_grad():
        marked.weight.copy_(torch.cat([weight, weight + deviation * torch.randn_like(weight)]))
    embeddings.token_type_embeddings = marked
    model.config.type_vocab_size = 2 * SIDES
    setattr(model.config, FIELD, True)


def marked_types(input_ids: list[int], token_type_ids: list[int], special: Collection[int]) -> list[int]:
    """The token types of a pair with its marks.

    Args:
        input_ids: query and passage in one sequence.
        token_type_ids: 0 on the query's side, 1 on the passage's.
        special: ids that mark nothing.

    Example::

        >>> marked_types([1, 7, 8, 2, 9, 8, 2], [0, 0, 0, 0, 1, 1, 1], {1, 2})
        [0, 0, 2, 0, 1, 3, 1]
    """
    sides: tuple[set[int], set[int]] = (set(), set())
    for token, side in zip(input_ids, token_type_ids, strict=True):
        sides[side].add(token)
    shared = (sides[0] & sides[1]).difference(special)
    return [side + SIDES if token in shared else side for token, side in zip(input_ids, token_type_ids, strict=True)]
