"""A model that is one hash function: a session of rows without a network, quick enough for thousands of searches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from retgen.docids.rows import GivenLogits
from tests.docids.naive import EOS, Docid, dict_trie

START = 0
Scored = list[tuple[Docid, float]]


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class HashRows:
    """A `RowSession` whose logits are a function of seed, query and all tokens read.

    ``coarse`` rounds them, so that many are equal. ``noise`` adds to what is decoded step by step, and not to what
    `in_fp32` gives: a model of low precision.
    """

    def __init__(
        self, batch_size: int, vocab_size: int, *, seed: int = 0, spread: float = 2.0, coarse: bool = False,
        noise: float = 0.0,
    ) -> None:  # fmt: skip
        self.batch_size, self.vocab_size = batch_size, vocab_size
        self.seed, self.spread, self.coarse, self.noise = seed, spread, coarse, noise
        self.rows = self.queries = np.arange(batch_size)
        self.state = self.starts(np.arange(batch_size))
        self.passes: list[tuple[int, int]] = []
        """Rows that went on, and rows read to their ends, of each step."""

    def starts(self, queries: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return mixed((queries + 1 + 1000 * self.seed).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))

    def after(self, state: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return mixed(state * np.uint64(3) + (tokens + 2).astype(np.uint64))

    def logits_at(self, state: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        words = np.arange(1, self.vocab_size + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
        uniform = (mixed(state[..., None] + words) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        logits = -np.log(-np.log(np.clip(uniform, 1e-12, 1 - 1e-12))) * self.spread
        if self.coarse:
            logits = np.round(logits)
        if self.noise:
            logits += self.noise * np.sin(997 * logits)
        return logits.astype(np.float32)

    def outputs(self, state: npt.NDArray[np.uint64]) -> GivenLogits:
        return GivenLogits(torch.from_numpy(self.logits_at(state.reshape(-1))))

    def whole(self, state: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """States ``(r, T)`` after each token of rests ``(r, T)``."""
        states = []
        for place in range(tokens.shape[1]):
            state = self.after(state, np.maximum(tokens[:, place], 0))
            states.append(state)
        return np.stack(states, axis=1)

    def step_rows(
        self, parents: torch.Tensor, tokens: torch.Tensor, tails: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[GivenLogits, GivenLogits | None]:
        ended = None
        if tails is not None:
            ended = self.outputs(self.whole(self.state[tails[0].numpy()], tails[1].numpy()))
        self.passes.append((len(parents), 0 if tails is None else len(tails[0])))
        self.state = self.after(self.state[parents.numpy()], tokens.numpy())
        return self.outputs(self.state), ended

    def read_rows(self, queries: torch.Tensor, tokens: torch.Tensor) -> GivenLogits:
        return self.outputs(self.whole(self.starts(queries.numpy()), tokens.numpy()))

    def in_fp32(self) -> HashRows:
        if not self.noise:
            return self
        return HashRows(self.batch_size, self.vocab_size, seed=self.seed, spread=self.spread, coarse=self.coarse)


def steps_of(model: HashRows, query: int, trie: dict[Docid, list[int]], rule: str) -> dict[Docid, dict[int, float]]:
    """Prefix → token → log-probability, for every prefix of a trie."""
    prefixes = list(trie)
    written = np.full((len(prefixes), 1 + max(map(len, prefixes))), START)
    for row, prefix in zip(written, prefixes, strict=True):
        row[1 : 1 + len(prefix)] = prefix
    states = model.whole(model.starts(np.full(len(prefixes), query)), written)
    logits = model.logits_at(states[np.arange(len(prefixes)), [len(prefix) for prefix in prefixes]]).astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    steps = {}
    for prefix, row in zip(prefixes, logits, strict=True):
        log_probs = row[trie[prefix]]
        if rule == "trie":
            log_probs = log_probs - np.logaddexp.reduce(log_probs)
        steps[prefix] = dict(zip(trie[prefix], log_probs.tolist(), strict=True))
    return steps


def all_scores(model: HashRows, query: int, docids: Sequence[Sequence[int]], rule: str) -> Scored:
    """Every distinct docid with its score, best first."""
    steps = steps_of(model, query, dict_trie(docids), rule)
    scores = {
        tuple(docid): sum(steps[tuple(docid[:place])][token] for place, token in enumerate(docid)) for docid in docids
    }
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def beams_the_long_way(
    model: HashRows, query: int, docids: Sequence[Sequence[int]], num_beams: int, rule: str
) -> Scored:
    """Beam search on lists and dicts, with the rules of `generate`."""
    steps = steps_of(model, query, dict_trie(docids), rule)
    beams: Scored = [((), 0.0)]
    finished: Scored = []
    while beams:
        candidates = [
            ((*prefix, token), score + log_prob) for prefix, score in beams for token, log_prob in steps[prefix].items()
        ]
        candidates = sorted(candidates, key=lambda pair: -pair[1])[: 2 * num_beams]
        finished += [pair for pair in candidates[:num_beams] if pair[0][-1] == EOS]
        finished = sorted(finished, key=lambda pair: -pair[1])[:num_beams]
        beams = [pair for pair in candidates if pair[0][-1] != EOS][:num_beams]
        if beams and len(finished) == num_beams and beams[0][1] <= finished[-1][1]:
            break
    return finished


def documents_of(scored: Scored, docids: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """The documents of ranked docids, in corpus order within a docid."""
    owners: dict[Docid, list[int]] = {}
    for number, docid in enumerate(docids):
        owners.setdefault(tuple(docid), []).append(number)
    return [(number, score) for docid, score in scored for number in owners[docid]]
