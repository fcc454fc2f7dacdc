"""A tree of docids for plain ``generate``: encoder-decoders and decoder-only models, with no search of ours.

`retgen.docids.search` is several times quicker. This is for those who have a ``generate`` call already, or a server
that takes logits processors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from retgen.docids.allowed import AllowedTree
from retgen.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.docids.allowed import DocumentFilter
    from retgen.docids.docid_tree import DocidTree

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class TrieLogitsProcessor(LogitsProcessor):
    """Lets a model write docids of a tree only.

    What it allows depends on the tokens it is shown and nothing else, so beams may be reordered at will. (It remembers
    where the last call's rows stood, which only saves time.) All rows are looked up together.

    In beam search transformers hands it log-probabilities over the whole vocabulary, and they stay so: sums are those
    of the rule ``model``, with ``length_penalty=0.0``. ``renormalize_logits=True`` makes them those of ``trie``.

    With fewer docids than beams, ``generate`` fills up with rows that are no docids, or copies of one at a score of
    −1e9 or less; `leaves` tells them from docids, and the scores tell copies.

    Args:
        tree: the docids.
        prompt_length: tokens that stand before the docid: 1 for an encoder-decoder (its start token), the length of the
            padded prompts for a decoder-only model, which are padded at the left.
        allowed_documents: only these may be found: corpus numbers, or a mask over them.

    Raises:
        UsageError: nothing may be found at all; when called, the input is shorter than the prompt, or the tree has
            tokens that the model lacks.

    Example:
        ``model.generate(**inputs, logits_processor=[TrieLogitsProcessor(tree, prompt_length=1)], num_beams=10,
        num_return_sequences=10, length_penalty=0.0, max_new_tokens=tree.max_length)``
    """

    def __init__(
        self,
        tree: DocidTree | AllowedTree,
        *,
        prompt_length: int,
        allowed_documents: DocumentFilter | None = None,
    ) -> None:
        if isinstance(tree, AllowedTree) and allowed_documents is not None:
            raise UsageError("this tree has its filter already", mend="Pass the tree itself, or leave the filter out")
        self._view = tree if isinstance(tree, AllowedTree) else AllowedTree(tree, allowed_documents)
        if not self._view.num_leaves:
            raise UsageError("none of the allowed documents has a docid: there is nothing to write")
        if prompt_length < 0:
            raise UsageError(f"prompt_length must be at least 0, not {prompt_length}")
        self._prompt = prompt_length
        self._known: dict[bytes, tuple[int, bool]] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(n, vocab)`` with −inf for every token that does not lead to a docid after ``input_ids (n, t)``.

        Behind a docid's end, and where a row is on no docid's way, EOS alone is left, so that ``generate`` goes on.
        """
        tree = self._view.tree
        if tree.max_token_id >= scores.shape[1]:
            raise UsageError(
                f"the tree holds token {tree.max_token_id}, but the model's vocabulary has {scores.shape[1]} tokens",
                mend="Build the tree with the model's own tokenizer",
            )
        if input_ids.shape[1] < self._prompt:
            raise UsageError(
                f"the input has {input_ids.shape[1]} tokens, fewer than the prompt's {self._prompt}",
                mend="Give prompt_length as the length of the padded prompts",
            )
        states, on_way = self._states(input_ids[:, self._prompt :].cpu().numpy())
        writing = np.flatnonzero(on_way & (states >= 0))
        tokens, _, counts = self._view.expand(states[writing])
        idle = np.setdiff1d(np.arange(len(states)), writing)
        rows = np.concatenate([np.repeat(writing, counts), idle])
        tokens = np.concatenate([tokens, np.full(len(idle), tree.eos_token_id)])
        barred = torch.ones_like(scores, dtype=torch.bool)
        barred[torch.from_numpy(rows).to(scores.device), torch.from_numpy(tokens).to(scores.device)] = False
        return scores.masked_fill(barred, float("-inf"))

    def leaves(self, sequences: Tensor) -> Int64s:
        """The leaf of each of ``generate``'s sequences ``(n, t)``, prompts included; −1 where it is no docid."""
        written = sequences[:, self._prompt :].cpu().numpy()
        states, on_way = self._walk(written)
        return np.where(on_way & (states < 0), -1 - states, -1)

    def _states(self, written: Int64s) -> tuple[Int64s, Bools]:
        """Where rows ``(n, t)`` stand, and whether they are on the way to a docid or at its end."""
        before = [self._known.get(row.tobytes()) for row in written[:, :-1]]
        known = [place for place in before if place is not None]
        if written.shape[1] and len(known) == len(before):
            states, on_way = self._onwards(
                np.array([state for state, _ in known], dtype=np.int64),
                np.array([way for _, way in known]),
                written[:, -1],
            )
        else:
            states, on_way = self._walk(written)
        self._known = {
            row.tobytes(): (int(state), bool(way)) for row, state, way in zip(written, states, on_way, strict=True)
        }
        return states, on_way

    def _walk(self, written: Int64s) -> tuple[Int64s, Bools]:
        """`_states` from the root."""
        states, on_way = np.full(len(written), self._view.root, dtype=np.int64), np.ones(len(written), dtype=bool)
        for place in range(written.shape[1]):
            states, on_way = self._onwards(states, on_way, written[:, place])
        return states, on_way

    def _onwards(self, states: Int64s, on_way: Bools, tokens: Int64s) -> tuple[Int64s, Bools]:
        """One token on. A docid that has ended stays where it is, whatever padding follows."""
        going = np.flatnonzero(on_way & (states >= 0))
        children, targets, counts = self._view.expand(states[going])
        owner = np.repeat(going, counts)
        right = children == tokens[owner]
        states, on_way = states.copy(), on_way.copy()
        on_way[going] = False
        states[owner[right]], on_way[owner[right]] = targets[right], True
        return states, on_way
