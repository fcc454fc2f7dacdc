"""NCI's prefix-aware, weight-adaptive head: the output embeddings of docid tokens bend to what was written so far.

The same number means another cluster behind another prefix, but a plain decoder has one output embedding for it. Here a
small decoder reads the prefix too, and what it makes of it is projected to a change of every docid token's output
embedding. Only the retrieval decoder has such a head, and only docid tokens and EOS bend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from retgen.errors import UsageError
from retgen.models.copying import in_fp32
from retgen.models.stacks import build_decoder

if TYPE_CHECKING:
    from retgen.models.config import UniGenConfig

_BYTES = 64 * 2**20
"""Of bent output embeddings at once: they are as many as rows times docid tokens."""


class PrefixHead(nn.Module):
    """A docid token v has the logit h · (e_v + A_v g / d): h the decoder's state, g the prefix decoder's, d the width.

    A begins at 0, so that the network begins as the plain decoder; without its head it is one. Divided by d, a step of
    AdamW moves the d · d terms of h · A_v g no further than the d terms of h · e_v: undivided, at the rate of the other
    weights, it throws logits about.

    Args:
        config: names the docid tokens and the layers of the prefix decoder.

    Raises:
        UsageError: the network has no docid tokens, or a copy head, which writes docids in words.

    Reference:
        Wang et al., "A Neural Corpus Indexer for Document Retrieval", 2022, "Prefix-aware weight-adaptive decoder".
    """

    def __init__(self, config: UniGenConfig) -> None:
        super().__init__()
        if not config.docid_tokens or config.copy_head:
            raise UsageError(
                "a prefix-aware head needs docids in tokens of their own, and no copy head beside it",
                mend="Name documents by a scheme of codes with alphabet='position', such as semantic",
            )
        layers = config.prefix_head_layers
        self.decoder = build_decoder({**(config.decoder or {}), "num_layers": layers, "num_decoder_layers": layers})
        self.tokens = docid_outputs(config)
        self.adaptation = nn.Parameter(torch.zeros(len(self.tokens), config.d_model, config.d_model))

    def forward(self, hidden: Tensor, prefix: Tensor, tokens: Tensor | slice | None, vocab_size: int) -> Tensor:
        """What the prefix adds to logits.

        Args:
            hidden: (…, d) the decoder's states, as they go into the output head.
            prefix: (…, d) the prefix decoder's.
            tokens: (t,) int64, or a slice of the vocabulary, whose logits are asked for; all by default.
            vocab_size: V.

        Returns:
            (…, t) or (…, V) fp32; 0 for tokens that are no docid's.
        """
        wanted = torch.arange(vocab_size, device=hidden.device)
        wanted = wanted if tokens is None else wanted[tokens]
        own = torch.tensor(self.tokens, device=hidden.device)
        number = torch.searchsorted(own, wanted).clamp(max=len(own) - 1)
        bends = own[number] == wanted
        chosen = number[bends]
        # Nearly always all of them are wanted, in order: then nothing is copied.
        every = len(chosen) == len(own) and bool((chosen[1:] > chosen[:-1]).all())
        rows, size = hidden.reshape(-1, hidden.shape[-1]), prefix.shape[-1]
        with in_fp32(hidden.device):
            adaptation = (self.adaptation if every else self.adaptation[chosen]).float()
            most = max(1, _BYTES // (4 * size * max(1, len(chosen))))
            parts = [
                _bent(adaptation, behind.float() / size, state.float())
                for state, behind in zip(
                    torch.split(rows, most), torch.split(prefix.reshape(-1, size), most), strict=True
                )
            ]
        added = torch.zeros(len(rows), len(wanted), device=hidden.device)
        added[:, bends] = torch.cat(parts) if parts else added[:, bends]
        return added.view(*hidden.shape[:-1], len(wanted))


def _bent(adaptation: Tensor, prefix: Tensor, states: Tensor) -> Tensor:
    """``states[n] · (adaptation[v] @ prefix[n])``, (n, v)."""
    embeddings = nn.functional.linear(prefix, adaptation.flatten(0, 1)).view(len(prefix), *adaptation.shape[:2])
    return torch.bmm(embeddings, states.unsqueeze(2)).squeeze(2)


def docid_outputs(config: UniGenConfig) -> list[int]:
    """The ids of EOS and all docid tokens, rising."""
    first, stop = config.docid_tokens or (0, 0)
    return sorted({int(config.eos_token_id or 0), *range(first, stop)})
