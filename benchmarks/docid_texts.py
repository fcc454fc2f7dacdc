"""Docids of real text for the benchmarks: leads of passages, and as many more as wanted, grown from their n-grams."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

PAD, EOS = 0, 1
_UNKNOWN = 2
Int64s = npt.NDArray[np.int64]


def passages(data: Path | None) -> list[str]:
    """Texts of the collections below a folder (``corpus.jsonl`` of BEIR), or else of the almanac that retgen brings.

    Raises:
        SystemExit: the folder holds none.
    """
    if data is None:
        from retgen.almanac import documents

        return [document.text for document in documents()]
    texts = []
    for path in sorted(data.glob("**/corpus.jsonl")):
        with path.open(encoding="utf-8") as lines:
            texts += [str(json.loads(line)["text"]) for line in lines if line.strip()]
    if not texts:
        raise SystemExit(f"{data}: no corpus.jsonl below it; give --data a folder with BEIR collections")
    return texts


class GrownDocids:
    """Docids whose tokens follow one another as in real leads, which they tell apart after as many tokens.

    Args:
        texts: passages.
        vocab: most tokens of the vocabulary, which is trained on them.
        rng: of what is grown.
    """

    def __init__(self, texts: list[str], vocab: int, rng: np.random.Generator) -> None:
        self._rng = rng
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        leads = [" ".join(text.split()[:60]) for text in texts]
        special = ["<pad>", "</s>", "<unk>"]
        tokenizer.train_from_iterator(
            leads, trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, show_progress=False)
        )
        rows = [[token for token in encoded.ids if token > _UNKNOWN] for encoded in tokenizer.encode_batch(leads)]
        self._rows = [row for row in rows if len(row) >= 3]
        self._following = Following(self._rows, vocab)

    def docids(self, count: int, shortest: int, longest: int) -> list[tuple[int, ...]]:
        """So many distinct docids, of so many tokens with EOS: leads as they are, then grown ones."""
        found: dict[tuple[int, ...], None] = {}
        for row in self._rows:
            if len(row) >= longest - 1 and len(found) < count:
                found[(*row[: longest - 1], EOS)] = None
        while (missing := count - len(found)) > 0:
            lengths = self._rng.integers(shortest, longest + 1, size=missing)
            grown = self._following.grow(missing, longest - 1, self._rng)
            found.update(
                ((*row[: length - 1], EOS), None) for row, length in zip(grown.tolist(), lengths.tolist(), strict=True)
            )
        return list(found)


class Following:
    """Which token follows two others: trigrams, bigrams and unigrams, interpolated after Witten and Bell.

    A pair of tokens that was met n times, with t tokens behind it, is followed by one of these, as often as it was, in
    n of n + t cases; in the others by what follows its second token alone, and so on: where much was new before, much
    will be new. (Always following the pair would make copies of leads, as most pairs are rare.)

    Args:
        rows: texts as tokens, none of them 0.
        vocab: above every token.

    Reference:
        Witten and Bell, "The zero-frequency problem", 1991.
    """

    def __init__(self, rows: list[list[int]], vocab: int) -> None:
        self._vocab = vocab
        flat = np.concatenate([np.array([0, 0, *row], dtype=np.int64) for row in rows])
        before, last, token = flat[:-2], flat[1:-1], flat[2:]
        inside = token > 0  # else the window lies across two texts, or in the two zeros that begin one
        before, last, token = before[inside], last[inside], token[inside]
        self._orders = [_Order(context, token) for context in (before * vocab + last, last, np.zeros_like(last))]

    def grow(self, count: int, length: int, rng: np.random.Generator) -> Int64s:
        """Texts ``(count, length)`` from their beginnings."""
        rows = np.zeros((count, length + 2), dtype=np.int64)
        for place in range(2, length + 2):
            before, last = rows[:, place - 2], rows[:, place - 1]
            open_ = np.arange(count)
            for order, context in zip(
                self._orders, (before * self._vocab + last, last, np.zeros_like(last)), strict=True
            ):
                followed, tokens = order.draw(context[open_], rng, surely=order is self._orders[-1])
                rows[open_[followed], place] = tokens[followed]
                open_ = open_[~followed]
        return rows[:, 2:]


class _Order:
    """What follows each context ``(n,)`` that was met: tokens ``(n,)``, as often as they do."""

    def __init__(self, contexts: Int64s, tokens: Int64s) -> None:
        order = np.lexsort((tokens, contexts))
        contexts, self._tokens = contexts[order], tokens[order]
        self._contexts, self._first, self._counts = np.unique(contexts, return_index=True, return_counts=True)
        other = np.ones(len(contexts), dtype=np.int64)
        other[1:] = (contexts[1:] != contexts[:-1]) | (self._tokens[1:] != self._tokens[:-1])
        self._kinds = np.add.reduceat(other, self._first)

    def draw(self, contexts: Int64s, rng: np.random.Generator, *, surely: bool) -> tuple[npt.NDArray[np.bool_], Int64s]:
        """Whether this order says what follows each context ``(n,)``, and the token where it does."""
        place = np.minimum(np.searchsorted(self._contexts, contexts), len(self._contexts) - 1)
        counts = self._counts[place]
        share = 1.0 if surely else counts / (counts + self._kinds[place])
        follows = (self._contexts[place] == contexts) & (rng.random(len(contexts)) < share)
        return follows, self._tokens[self._first[place] + rng.integers(0, counts)]
