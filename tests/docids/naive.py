"""Slow and obvious counterparts of what `retgen.docids` does, to compare with: a trie of dicts, and `generate`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

EOS = 1
PAD = 0
Docid = tuple[int, ...]


def random_docids(
    rng: np.random.Generator, count: int, *, vocab: int, longest: int = 6, branching: int = 4
) -> list[list[int]]:
    """Docids with much in common: shared prefixes, prefixes of one another, duplicates."""
    alphabet = rng.choice(np.arange(2, vocab), size=min(branching, vocab - 2), replace=False)
    docids = []
    for _ in range(count):
        if docids and rng.random() < 0.2:
            docids.append(list(docids[rng.integers(len(docids))]))
            continue
        start = docids[rng.integers(len(docids))][:-1] if docids and rng.random() < 0.3 else []
        length = int(rng.integers(1, longest))
        docid = [*start, *(int(token) for token in rng.choice(alphabet, size=length))][:longest]
        docids.append([*docid, EOS])
    return docids


def dict_trie(docids: Sequence[Sequence[int]]) -> dict[Docid, list[int]]:
    """Prefix → the tokens that may follow it, rising."""
    following: dict[Docid, set[int]] = {}
    for docid in docids:
        for place, token in enumerate(docid):
            following.setdefault(tuple(docid[:place]), set()).add(token)
    return {prefix: sorted(tokens) for prefix, tokens in following.items()}


class HashModel:
    """Logits that depend on the query and all tokens so far, with no network: a session for quick tests."""

    def __init__(self, batch_size: int, vocab_size: int, *, seed: int = 0, spread: float = 3.0) -> None:
        self.batch_size, self.vocab_size = batch_size, vocab_size
        self.seed, self.spread = seed, spread
        self.rows: list[list[Docid]] = [[()] for _ in range(batch_size)]
        self.widths: list[int] = []
        self.given: dict[tuple[int, Docid], np.ndarray] = {}
        self.known: dict[tuple[int, Docid], np.ndarray] = {}

    def logits(self, query: int, prefix: Docid) -> np.ndarray:
        """Those of `made`, each made once."""
        if (query, prefix) not in self.given:
            self.given[query, prefix] = self.made(query, prefix)
        return self.given[query, prefix].copy()

    def made(self, query: int, prefix: Docid) -> np.ndarray:
        key = hashlib.sha256(repr((self.seed, query, prefix)).encode()).digest()
        values = np.random.default_rng(int.from_bytes(key[:8], "little")).normal(size=self.vocab_size)
        return (values * self.spread).astype(np.float32)

    def log_probs(self, query: int, prefix: Docid) -> np.ndarray:
        if (query, prefix) not in self.known:
            logits = torch.from_numpy(self.logits(query, prefix))
            self.known[query, prefix] = torch.log_softmax(logits, dim=-1).numpy()
        return self.known[query, prefix]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        assert tokens.shape == (self.batch_size, len(self.rows[0]))
        self.widths.append(tokens.shape[1])
        for query, row in enumerate(tokens.tolist()):
            self.rows[query] = [(*prefix, token) for prefix, token in zip(self.rows[query], row, strict=True)]
        return torch.from_numpy(
            np.stack([[self.logits(query, prefix[1:]) for prefix in row] for query, row in enumerate(self.rows)])
        )

    def reorder(self, parents: torch.Tensor) -> None:
        self.rows = [
            [row[parent] for parent in chosen] for row, chosen in zip(self.rows, parents.tolist(), strict=True)
        ]

    def score(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(
            np.stack(
                [
                    [[self.logits(q, tuple(row[1 : t + 1])) for t in range(len(row))] for row in rows]
                    for q, rows in enumerate(tokens.tolist())
                ]
            )
        )

    def exhaustive(self, query: int, docids: Sequence[Sequence[int]]) -> list[tuple[Docid, float]]:
        """Every distinct docid with its log-probability, best first."""
        scores = {
            tuple(docid): sum(
                float(self.log_probs(query, tuple(docid[:place]))[token]) for place, token in enumerate(docid)
            )
            for docid in docids
        }
        return sorted(scores.items(), key=lambda pair: -pair[1])


def tiny_t5(
    seed: int, *, vocab: int = 40, tied: bool = True, peak: float = 2.5, encoder_layers: int = 2
) -> PreTrainedModel:
    """A random T5 whose distributions are far from flat."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocab, d_model=24, d_kv=8, d_ff=32, num_layers=encoder_layers, num_decoder_layers=2, num_heads=2,
        relative_attention_num_buckets=8, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
        dropout_rate=0.0, tie_word_embeddings=tied,
    )  # fmt: skip
    return _peaky(T5ForConditionalGeneration(config), peak)


def tiny_mt5(seed: int, *, vocab: int = 40, peak: float = 2.5) -> PreTrainedModel:
    """A random mT5: gated, and its output not scaled."""
    torch.manual_seed(seed)
    config = MT5Config(
        vocab_size=vocab, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2, relative_attention_num_buckets=8,
        pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD, dropout_rate=0.0,
    )  # fmt: skip
    return _peaky(MT5ForConditionalGeneration(config), peak)


def tiny_bart(seed: int, *, vocab: int = 40, peak: float = 2.5) -> PreTrainedModel:
    """A random BART: another family, with a bias on its output."""
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=vocab, d_model=24, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32, init_std=0.5,
        pad_token_id=PAD, bos_token_id=2, eos_token_id=EOS, decoder_start_token_id=EOS, forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    return _peaky(model, peak)


def _peaky(model: PreTrainedModel, peak: float) -> PreTrainedModel:
    """The model with its output weights scaled so that logits have about this standard deviation."""
    model = model.eval()
    with torch.no_grad():
        probe = torch.arange(2, 22).reshape(4, 5)
        for _ in range(3):  # the input embeddings may be the same weights
            spread = model(input_ids=probe, decoder_input_ids=probe).logits.std()
            model.get_output_embeddings().weight.mul_(peak / spread)
    return model


def padded_inputs(rng: np.random.Generator, batch: int, vocab: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of unequal length, padded at the right, and their mask."""
    lengths = rng.integers(2, 8, size=batch)
    ids = torch.zeros((batch, int(lengths.max())), dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.from_numpy(rng.integers(2, vocab, size=length))
    return ids, (torch.arange(ids.shape[1]) < torch.from_numpy(lengths)[:, None]).long()


def generated(
    model: PreTrainedModel,
    inputs: tuple[torch.Tensor, torch.Tensor],
    docids: Sequence[Sequence[int]],
    num_beams: int,
    *,
    early_stopping: bool | str = False,
) -> list[list[tuple[Docid, float]]]:
    """What transformers' constrained `generate` finds: per query, docids with the sum of their log-probabilities."""
    trie = dict_trie(docids)

    def allowed(_: int, written: torch.Tensor) -> list[int]:
        # Past a docid's end generate still asks; whatever is said there cannot reach a result.
        return trie.get(tuple(written[1:].tolist()), [EOS])

    ids, mask = inputs
    output = model.generate(
        input_ids=ids, attention_mask=mask, num_beams=num_beams, num_return_sequences=num_beams, do_sample=False,
        max_new_tokens=max(map(len, docids)) + 2, prefix_allowed_tokens_fn=allowed, length_penalty=0.0,
        early_stopping=early_stopping, return_dict_in_generate=True, output_scores=True, output_logits=True,
    )  # fmt: skip
    found: list[list[tuple[Docid, float]]] = []
    for query in range(len(ids)):
        hits = []
        for row in range(query * num_beams, (query + 1) * num_beams):
            written = output.sequences[row, 1:].tolist()
            docid = tuple(written[: written.index(EOS) + 1]) if EOS in written else tuple(written)
            if num_beams == 1:  # greedy: generate gives logits, not a score
                logits = [step[row].float() for step in output.logits[: len(docid)]]
                score = float(sum(torch.log_softmax(x, -1)[t] for x, t in zip(logits, docid, strict=True)))
            else:
                score = float(output.sequences_scores[row])
            if score > -1e8:  # generate fills up with copies at -1e9 when the tree has fewer docids than beams
                hits.append((docid, score))
        found.append(hits)
    return found
