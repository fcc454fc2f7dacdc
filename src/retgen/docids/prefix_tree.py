"""The prefix tree over docids: flat arrays, cut where a prefix becomes unique, one array for all the tails.

Building lives in `tree_build`, searching in `search`. A position in the tree is one int64, the *state*:

- ``0 ≤ state < num_nodes``: a branching node (node 0 is the root);
- ``state ≥ num_nodes``: inside the tail of one leaf, ``state − num_nodes`` being the place in the tail array of the
  next token, which stands for the pair (leaf, offset);
- ``state < 0``: a finished docid, of leaf ``−1 − state``.

A leaf is a distinct docid; leaves are numbered in the lexical order of their tokens, so that every node covers the
range ``leaf_start[node] … leaf_stop[node]``. Documents that share a docid share its leaf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen import store
from retgen.docids.lineage import check_lineage
from retgen.docids.tree_build import TreeArrays, build_arrays, load_arrays
from retgen.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from retgen.docids.table import DocidTable

IntArray = npt.NDArray[np.integer]
KIND = "docid-tree"


class PrefixTree:
    """All docids of a corpus as a tree of tokens, EOS being an edge like any other.

    Made by `PrefixTree.build` or `PrefixTree.load`.

    Args:
        arrays: the flat arrays, as `tree_build` makes them.
        eos_token_id: the token every docid ends with.
        lineage: fingerprints of what the tree was built from, by name: ``tokenizer``, ``corpus``, ``docids``.

    Example:
        >>> tree = PrefixTree.build([[5, 7, 1], [5, 1], [6, 7, 8, 1], [5, 1]], eos_token_id=1)
        >>> tokens, states = tree.children(tree.root)
        >>> tokens.tolist(), tree.num_leaves, tree.num_documents
        ([5, 6], 3, 4)
        >>> tree.documents(0).tolist()  # both documents whose docid is 5 1, in corpus order
        [1, 3]
    """

    root = 0

    def __init__(self, arrays: TreeArrays, *, eos_token_id: int, lineage: Mapping[str, str] | None = None) -> None:
        self.arrays = arrays
        self.eos_token_id = eos_token_id
        self.lineage = dict(lineage or {})

    @classmethod
    def build(
        cls,
        docids: Sequence[Sequence[int]] | Sequence[IntArray],
        *,
        eos_token_id: int,
        lineage: Mapping[str, str] | None = None,
    ) -> PrefixTree:
        """The tree of these docids, one per document in corpus order, each ending with EOS.

        Raises:
            UsageError: no docids, one that is empty, or one in which EOS is not exactly the last token.
        """
        lengths = np.fromiter((len(docid) for docid in docids), dtype=np.int64, count=len(docids))
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        tokens = np.fromiter((token for docid in docids for token in docid), dtype=np.int64, count=int(offsets[-1]))
        return cls.from_flat(tokens, offsets, eos_token_id=eos_token_id, lineage=lineage)

    @classmethod
    def from_flat(
        cls, tokens: IntArray, offsets: IntArray, *, eos_token_id: int, lineage: Mapping[str, str] | None = None
    ) -> PrefixTree:
        """The tree of docids laid end to end: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``."""
        return cls(build_arrays(tokens, offsets, eos_token_id), eos_token_id=eos_token_id, lineage=lineage)

    @classmethod
    def from_table(cls, table: DocidTable) -> PrefixTree:
        """The tree of a docid table; it remembers the table's lineage."""
        return cls.from_flat(table.tokens, table.offsets, eos_token_id=table.eos_token_id, lineage=table.lineage)

    @property
    def num_nodes(self) -> int:
        """Branching nodes (two leaves or more below), the root always among them."""
        return len(self.arrays.leaf_start)

    @property
    def num_leaves(self) -> int:
        """Distinct docids."""
        return len(self.arrays.document_offsets) - 1

    @property
    def num_documents(self) -> int:
        """Documents, of which several may share a leaf."""
        return len(self.arrays.documents)

    @property
    def max_length(self) -> int:
        """Tokens of the longest docid, EOS included: the most steps a search can take."""
        return int(self.arrays.leaf_length.max())

    @cached_property
    def max_token_id(self) -> int:
        """The highest token id of any docid: a model's vocabulary must hold it."""
        return int(max(self.arrays.edge_tokens.max(), self.arrays.tails.max(initial=0)))

    @property
    def bytes_per_document(self) -> float:
        """Size of all arrays divided by the number of documents."""
        return sum(array.nbytes for array in self.arrays) / self.num_documents

    def documents(self, leaf: int) -> IntArray:
        """Corpus numbers of the documents whose docid this leaf is, in corpus order."""
        start, stop = self.arrays.document_offsets[leaf : leaf + 2]
        return self.arrays.documents[start:stop]

    def leaf_ranges(self, states: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First leaf below each state ``(n,)``, and one past the last ``(n,)``; they differ by one but at nodes."""
        is_node = (states >= 0) & (states < self.num_nodes)
        nodes = np.where(is_node, states, 0)
        in_tail = states >= self.num_nodes
        alone = np.where(in_tail, self._tail_leaf(np.where(in_tail, states - self.num_nodes, 0)), -1 - states)
        starts = np.where(is_node, self.arrays.leaf_start[nodes], alone)
        stops = np.where(is_node, self.arrays.leaf_stop[nodes], alone + 1)
        return starts.astype(np.int64), stops.astype(np.int64)

    def children(self, state: int) -> tuple[IntArray, npt.NDArray[np.int64]]:
        """Tokens that may follow a state, rising, and the states they lead to; both empty after EOS."""
        tokens, targets, _ = self.expand(np.array([state]))
        return tokens, targets

    def expand(self, states: npt.NDArray[np.int64]) -> tuple[IntArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Children of many states laid end to end.

        Args:
            states: ``(n,)``.

        Returns:
            Tokens ``(c,)``, the states they lead to ``(c,)``, and the number of children of each state ``(n,)``, where
            ``c`` is their sum. Within a state, tokens rise.
        """
        arrays = self.arrays
        is_node = (states >= 0) & (states < self.num_nodes)
        nodes = np.where(is_node, states, 0)
        first = arrays.child_offsets[nodes].astype(np.int64)
        counts = np.where(is_node, arrays.child_offsets[nodes + 1] - first, states >= 0).astype(np.int64)
        starts = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(states)), counts)
        edge = first[owner] + (np.arange(len(owner)) - starts[owner])
        tokens = np.empty(len(owner), dtype=np.promote_types(arrays.edge_tokens.dtype, arrays.tails.dtype))
        targets = np.empty(len(owner), dtype=np.int64)
        branching = is_node[owner]
        tokens[branching] = arrays.edge_tokens[edge[branching]]
        targets[branching] = arrays.edge_targets[edge[branching]]
        place = states[~is_node & (states >= 0)] - self.num_nodes
        tail_tokens = arrays.tails[place]
        tokens[~branching] = tail_tokens
        # A tail's last token is EOS: past it the docid is finished, before it the next place is one further.
        done = tail_tokens == self.eos_token_id
        following = place + self.num_nodes + 1
        following[done] = -1 - self._tail_leaf(place[done])
        targets[~branching] = following
        return tokens, targets, counts

    def children_padded(
        self, states: npt.NDArray[np.int64]
    ) -> tuple[IntArray, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Children of many states as rectangles.

        Args:
            states: ``(n,)``.

        Returns:
            Tokens, states they lead to, and where there is a child: each ``(n, most children)``. Places without a
            child hold token 0 and state 0.
        """
        tokens, targets, counts = self.expand(states)
        width = int(counts.max(initial=0))
        mask = np.arange(width) < counts[:, None]
        padded_tokens = np.zeros(mask.shape, dtype=tokens.dtype)
        padded_targets = np.zeros(mask.shape, dtype=np.int64)
        padded_tokens[mask] = tokens
        padded_targets[mask] = targets
        return padded_tokens, padded_targets, mask

    def token_ids(self, leaf: int) -> list[int]:
        """The docid of a leaf, EOS included, read off its path from the root."""
        if not 0 <= leaf < self.num_leaves:
            raise UsageError(f"leaf {leaf} is not one of the tree's {self.num_leaves} docids")
        state, path = self.root, []
        while state >= 0:
            tokens, targets = self.children(state)
            chosen = int(np.searchsorted(self.leaf_ranges(targets)[0], leaf, side="right")) - 1
            path.append(int(tokens[chosen]))
            state = int(targets[chosen])
        return path

    def _tail_leaf(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        offsets = self.arrays.tail_offsets
        # Searching with another integer type would copy the whole array.
        return np.searchsorted(offsets, places.astype(offsets.dtype), side="right").astype(np.int64) - 1

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the tree as a folder that `load` maps into memory.

        Raises:
            ArtefactError: something stands there that may not be replaced, or the disk is full.
        """
        made_by = {"eos_token_id": self.eos_token_id, "lineage": dict(self.lineage)}
        with store.create(path, kind=KIND, made_by=made_by, overwrite=overwrite) as staging:
            for name, array in self.arrays._asdict().items():
                np.save(staging / f"{name}.npy", array)

    @classmethod
    def load(cls, path: str | Path, *, table: DocidTable | None = None, verify: bool = False) -> PrefixTree:
        """A saved tree, its arrays mapped into memory and not read.

        Args:
            path: the folder.
            table: the docid table it will be used with; what the tree was built from is compared with it.
            verify: also read every file and compare checksums.

        Raises:
            ArtefactError: the folder is torn, foreign or of another kind.
            MismatchError: the tree was built with another tokenizer, from another corpus or from other docids.
        """
        manifest = store.open_folder(path, kind=KIND, verify=verify)
        arrays = load_arrays(manifest.path)
        eos_token_id, lineage = manifest.made_by.get("eos_token_id"), manifest.made_by.get("lineage")
        if not isinstance(eos_token_id, int) or not isinstance(lineage, dict):
            raise ArtefactError(
                "its manifest lacks what a tree needs", where=manifest.path, mend="Build the tree again"
            )
        if table is not None:
            check_lineage(lineage, table.lineage, what="this prefix tree", where=manifest.path)
        return cls(arrays, eos_token_id=eos_token_id, lineage=lineage)
