"""Tokens that only docids are written with, such as the numbers of a cluster path: in the tokenizer and the network.

NCI and Ultron give their decoders a vocabulary of such tokens; here they join the vocabulary that there is, whatever
source the model came from, so that one decoder writes codes and another words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken

from retgen.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from retgen.models.unigen import UniGenForRetrievalAndAnswering


def add_docid_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> range:
    """Give a tokenizer tokens of their own for docids.

    Args:
        tokenizer: changed in place.
        tokens: all different; one at least. They are found wherever they stand in a text, also without spaces.

    Returns:
        Their ids, which stand side by side in this order. A tokenizer that holds all of them already stays as it is.

    Raises:
        UsageError: no tokens, one that comes twice, or a tokenizer that holds some of them but not all side by side.
    """
    if not tokens or len(set(tokens)) != len(tokens):
        raise UsageError("docids need tokens that are all different, and one at least")
    known = tokenizer.get_vocab()
    if not any(token in known for token in tokens):
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
        known = tokenizer.get_vocab()
    first = known.get(tokens[0], -1)
    if [known.get(token) for token in tokens] != [*range(first, first + len(tokens))]:
        raise UsageError(
            f"this tokenizer holds some of the tokens {tokens[0]} … {tokens[-1]} already, of other docids",
            mend="Begin from a model that was not trained on other codes",
        )
    return range(first, first + len(tokens))


def grow_docid_tokens(
    model: UniGenForRetrievalAndAnswering, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
) -> range:
    """Give a network and its tokenizer tokens of their own for docids.

    New embeddings are drawn, by torch's generator, around the mean of all that the model has, dimension by dimension
    with their spread: on the scale of the source, be it a T5 checkpoint's or that of random weights. Where the output
    head has biases, the new tokens begin with 1/n each: all of them together as likely as all others together. They
    weigh nothing in inputs, where they do not occur.

    Returns:
        Their ids; `UniGenConfig.docid_tokens` keeps where they begin and end.

    Raises:
        UsageError: see `add_docid_tokens`.
    """
    known = model.shared.num_embeddings
    before = len(tokenizer)
    ids = add_docid_tokens(tokenizer, tokens)
    if ids.start >= before:
        used = min(before, known)
        weights = list({id(part): part for part in (model.shared.weight, model.lm_head.weight)}.values())
        spreads = [(part[:used].detach().mean(dim=0), part[:used].detach().std(dim=0)) for part in weights]
        if len(tokenizer) > known:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        weights = list({id(part): part for part in (model.shared.weight, model.lm_head.weight)}.values())
        with torch.no_grad():
            for weight, (mean, spread) in zip(weights, spreads, strict=True):
                noise = torch.randn(len(ids), len(mean)).to(mean)
                weight[ids.start : ids.stop] = mean + noise * spread
            if model.config.output_bias:
                model.lm_head.bias[ids.start : ids.stop] = -math.log(len(ids))
            model.token_weights[ids.start : ids.stop] = 0.0
    model.config.docid_tokens = [ids.start, ids.stop]
    return ids
