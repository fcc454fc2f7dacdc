"""What docid search is compared with: a random T5, its inputs, and `generate` with a trie of dicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from benchmarks.docid_texts import EOS, PAD

SHAPES = {
    "tiny": {"vocab_size": 1000, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "mini": {"vocab_size": 8192, "d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_heads": 4},
    "small": {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "base": {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}
"""``small`` and ``base`` have the shapes of t5-small and t5-base."""

Inputs = tuple[torch.Tensor, torch.Tensor]
Docid = tuple[int, ...]
Hits = list[tuple[Docid, float]]


class DictTrie:
    """The usual way: dicts of dicts, walked from the root for every beam at every step."""

    def __init__(self, docids: Sequence[Docid]) -> None:
        self.root: dict[int, dict] = {}  # type: ignore[type-arg]
        for docid in docids:
            node = self.root
            for token in docid:
                node = node.setdefault(token, {})
        self.longest = max(map(len, docids))

    def allowed(self, _: int, written: torch.Tensor) -> list[int]:
        node = self.root
        for token in written[1:].tolist():
            node = node.get(token, {})
        # Behind a docid's end generate still asks; what it is told there reaches no result.
        return list(node) or [EOS]


def random_t5(shape: str, seed: int) -> PreTrainedModel:
    """A T5 with random weights, its output scaled so that docids' probabilities lie well apart."""
    torch.manual_seed(seed)
    config = T5Config(
        **SHAPES[shape],
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    model = T5ForConditionalGeneration(config).eval()
    probe = torch.arange(2, 66).reshape(4, 16)
    with torch.inference_mode():
        spread = model(input_ids=probe, decoder_input_ids=probe).logits.std()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2.5 / spread.item())
    return model


def random_blocks(queries: int, batch: int, longest: int, vocab: int, rng: np.random.Generator) -> list[Inputs]:
    """Padded inputs of unequal length, in blocks."""
    blocks = []
    for first in range(0, queries, batch):
        lengths = rng.integers(max(1, longest // 2), longest + 1, size=min(batch, queries - first))
        ids = torch.zeros((len(lengths), int(lengths.max())), dtype=torch.int64)
        for row, length in enumerate(lengths):
            ids[row, :length] = torch.from_numpy(rng.integers(2, vocab, size=length))
        blocks.append((ids, (torch.arange(ids.shape[1]) < torch.from_numpy(lengths)[:, None]).long()))
    return blocks


def peer(model: PreTrainedModel, inputs: Inputs, trie: DictTrie, beams: int) -> list[Hits]:
    ids, mask = inputs
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        max_new_tokens=trie.longest,
        prefix_allowed_tokens_fn=trie.allowed,
        length_penalty=0.0,
        early_stopping=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found: list[Hits] = [[] for _ in ids]
    for row, (written, score) in enumerate(
        zip(output.sequences[:, 1:].tolist(), output.sequences_scores.tolist(), strict=True)
    ):
        if score > -1e8:  # with fewer docids than beams, generate fills up with copies at −1e9
            found[row // beams].append((tuple(written[: written.index(EOS) + 1]), score))
    return found
