"""Docids of real text for the benchmarks: leads of passages, and as many more as wanted, grown from their n-grams."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

PAD, EOS = 0, 1
_UNKNOWN = 2
_LEAPS = 0.05
"""Share of grown tokens that follow any two, not the last two."""
Int32s = npt.NDArray[np.int32]


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
    """Docids whose tokens follow one another as in real leads.

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
        flat = np.array([token for row in self._rows for token in [*row, -1]], dtype=np.int64)
        # Every place where two tokens of a lead are followed by a third, by the two.
        pairs = flat[:-2] * vocab + flat[1:-1]
        inside = (flat[:-2] >= 0) & (flat[1:-1] >= 0) & (flat[2:] >= 0)
        order = np.argsort(pairs[inside], kind="stable")
        self._pairs, self._next, self._vocab = pairs[inside][order], flat[2:][inside][order], vocab

    def docids(self, count: int, shortest: int, longest: int) -> list[tuple[int, ...]]:
        """So many distinct docids, of so many tokens with EOS: leads as they are, then grown ones."""
        found: dict[tuple[int, ...], None] = {}
        for row in self._rows:
            if len(row) >= longest - 1 and len(found) < count:
                found[(*row[: longest - 1], EOS)] = None
        while (missing := count - len(found)) > 0:
            lengths = self._rng.integers(shortest, longest + 1, size=missing)
            grown = self._grow(missing, longest - 1)
            found.update(
                ((*row[: length - 1], EOS), None) for row, length in zip(grown.tolist(), lengths.tolist(), strict=True)
            )
        return list(found)

    def _grow(self, count: int, length: int) -> Int32s:
        """Rows ``(count, length)``: the beginning of a lead, then a token that followed the last two somewhere."""
        rng = self._rng
        rows = np.empty((count, length), dtype=np.int32)
        chosen = rng.integers(0, len(self._rows), size=count)
        kept = rng.integers(2, 7, size=count)
        starts = np.array([[*row[:7], *[0] * (7 - len(row[:7]))] for row in self._rows], dtype=np.int32)
        lead_lengths = np.array([len(row) for row in self._rows])
        kept = np.minimum(kept, lead_lengths[chosen])
        rows[:, : min(7, length)] = starts[chosen][:, :length]
        for place in range(2, length):
            pair = rows[:, place - 2].astype(np.int64) * self._vocab + rows[:, place - 1]
            low, high = np.searchsorted(self._pairs, pair), np.searchsorted(self._pairs, pair, side="right")
            # Two tokens that nothing ever followed go on anywhere, and some others do: no end of docids can be grown.
            onwards = (low < high) & (rng.random(count) >= _LEAPS)
            low, high = np.where(onwards, low, 0), np.where(onwards, high, len(self._pairs))
            following = self._next[rng.integers(low, high)]
            rows[:, place] = np.where(place < kept, rows[:, place], following)
        return rows
