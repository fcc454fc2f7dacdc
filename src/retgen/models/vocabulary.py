"""A network's vocabulary: as large as its tokenizer's, its tokens weighed by a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from retgen.models.mark_tokens import MarkTokens
from retgen.models.token_statistics import count_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from retgen.models.unigen import UniGenForRetrievalAndAnswering


def fit_vocabulary(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    marks: MarkTokens | None,
    texts: Iterable[str] | None,
) -> None:
    """Make room for tokens that were added to the tokenizer, and set token weights and output bias.

    Args:
        model: changed in place.
        tokenizer: its own, marks included.
        marks: a mark that is new to the model starts as the mean of the tokens it was written with before.
        texts: the corpus, read once as a stream; without it, all tokens but special ones weigh 1.
    """
    known = model.shared.num_embeddings
    if len(tokenizer) > known:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    added = {} if marks is None else marks.pieces
    with torch.no_grad():
        for token, pieces in added.items():
            before = [piece for piece in pieces if piece < known and piece != token]
            if token >= known and before:
                for weight in {id(part): part for part in (model.shared.weight, model.lm_head.weight)}.values():
                    weight[token] = weight[before].mean(dim=0)
    special = set(tokenizer.all_special_ids) | {model.pad_token_id, model.eos_token_id, model.start_token_id}
    if marks is not None:
        special |= {marks.boundary, marks.docid_end}
    with torch.no_grad():
        if texts is None:
            model.token_weights.fill_(1.0)
            model.token_weights[list(special)] = 0.0
            return
        counts = count_tokens(tokenizer, texts, model.shared.num_embeddings)
        model.token_weights.copy_(counts.weights(special))
        if model.config.output_bias:
            model.lm_head.bias.copy_(counts.log_frequencies(model.eos_token_id))
