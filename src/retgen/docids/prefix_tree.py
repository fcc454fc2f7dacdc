"""The prefix tree over docids: flat arrays, cut where a prefix becomes unique, one array for all the tails.

Building lives in `tree_build`, files in `tree_file`, trees that change in `layered_tree`, searching in `search`. What
states and leaves are, `docid_tree` says. Here, a state from ``num_nodes`` on is inside the tail of one leaf:
``state − num_nodes`` is the place in the tail array of the next token, which stands for the pair (leaf, offset).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen.docids import tree_descent, tree_file
from retgen.docids.docid_tree import DocidTree, TreeStatistics
from retgen.docids.tree_build import TreeArrays, build_arrays

if TYPE_CHECKING:
    from retgen.docids.table import DocidTable

IntArray = npt.NDArray[np.integer]


class PrefixTree(DocidTree):
    """All docids of a corpus as one set of arrays.

    Made by `PrefixTree.build`, `from_flat`, `from_table` or `load`. Tokens take 16 bits where every id is below 65,536,
    else 32 (`token_bits`); at 21 tokens a docid, a tree of 16-bit tokens takes less than 64 bytes a document unless its
    docids share long prefixes with few others (each such shared prefix takes 18).

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
            UsageError: no docids, one that is empty, one in which EOS is not exactly the last token, or a token out of
                range.
        """
        lengths = np.fromiter((len(docid) for docid in docids), dtype=np.int64, count=len(docids))
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        tokens = np.fromiter(chain.from_iterable(docids), dtype=np.int64, count=int(offsets[-1]))
        return cls.from_flat(tokens, offsets, eos_token_id=eos_token_id, lineage=lineage)

    @classmethod
    def from_flat(
        cls,
        tokens: IntArray,
        offsets: IntArray,
        *,
        eos_token_id: int,
        lineage: Mapping[str, str] | None = None,
        numbers: IntArray | None = None,
    ) -> PrefixTree:
        """The tree of docids laid end to end: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``.

        Its corpus number is ``numbers[i]``, which must rise, or else ``i``. Beside the input and the tree, building
        takes some tens of bytes a document.
        """
        arrays = build_arrays(tokens, offsets, eos_token_id, numbers)
        return cls(arrays, eos_token_id=eos_token_id, lineage=lineage)

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

    @cached_property
    def max_length(self) -> int:
        """Tokens of the longest docid, EOS included: the most steps a search can take."""
        return int(self.arrays.leaf_length.max())

    @cached_property
    def max_token_id(self) -> int:
        """The highest token id of any docid: a model's vocabulary must hold it."""
        return int(max(self.arrays.edge_tokens.max(), self.arrays.tails.max(initial=0)))

    @cached_property
    def max_number(self) -> int:
        """The highest corpus number of a document."""
        return int(self.arrays.documents.max())

    def statistics(self) -> TreeStatistics:
        """What the tree holds and takes."""
        return TreeStatistics(
            documents=self.num_documents,
            docids=self.num_leaves,
            nodes=self.num_nodes,
            edges=len(self.arrays.edge_tokens),
            tail_tokens=len(self.arrays.tails),
            token_bits=self.token_bits,
            max_length=self.max_length,
            bytes=sum(array.nbytes for array in self.arrays),
        )

    def documents(self, leaf: int) -> IntArray:
        """Corpus numbers of the documents whose docid this leaf is, in corpus order."""
        start, stop = self.arrays.document_offsets[leaf : leaf + 2]
        return self.arrays.documents[start:stop]

    def leaves_of(self, numbers: IntArray) -> npt.NDArray[np.int64]:
        """The leaf of each document ``(n,)``, by corpus numbers ``(n,)``; −1 for those that the tree does not have.

        The first call sorts all documents.
        """
        documents, offsets = self.arrays.documents, self.arrays.document_offsets
        numbers = np.asarray(numbers, dtype=np.int64)
        # Searching with another integer type would copy the whole array.
        limits = np.iinfo(documents.dtype)
        place = np.searchsorted(
            documents, numbers.clip(limits.min, limits.max).astype(documents.dtype), sorter=self._by_number
        )
        entry = self._by_number[np.minimum(place, len(documents) - 1)]
        leaves = np.searchsorted(offsets, entry.astype(offsets.dtype), side="right").astype(np.int64) - 1
        return np.where(documents[entry] == numbers, leaves, -1)

    def leaf_ranges(self, states: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First leaf below each state ``(n,)``, and one past the last ``(n,)``; they differ by one but at nodes."""
        starts = -1 - states
        stops = -states
        inner = states >= 0
        tails = states >= self.num_nodes
        starts[tails] = self.tail_leaves(states[tails] - self.num_nodes)
        stops[tails] = starts[tails] + 1
        nodes = inner & ~tails
        starts[nodes], stops[nodes] = self.arrays.leaf_start[states[nodes]], self.arrays.leaf_stop[states[nodes]]
        return starts, stops

    def tail_leaves(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The leaf whose tail holds each place of the tail array ``(n,)``."""
        offsets = self.arrays.tail_offsets
        # Searching with another integer type would copy the whole array.
        return np.searchsorted(offsets, places.astype(offsets.dtype), side="right").astype(np.int64) - 1

    def depths(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of each state's prefix ``(n,)``."""
        leaves = self.leaf_ranges(states)[0]
        depths = self.arrays.leaf_length[leaves].astype(np.int64)
        tails = states >= self.num_nodes
        depths[tails] -= self.arrays.tail_offsets[leaves[tails] + 1] - (states[tails] - self.num_nodes)
        nodes = (states >= 0) & ~tails
        depths[nodes] = np.searchsorted(self._levels, states[nodes], side="right") - 1
        return depths

    def expand(self, states: npt.NDArray[np.int64]) -> tuple[IntArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Children of many states laid end to end; see `DocidTree.expand`."""
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
        following[done] = -1 - self.tail_leaves(place[done])
        targets[~branching] = following
        return tokens, targets, counts

    def tails(
        self, states: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """What follows prefixes that one docid each has; see `DocidTree.tails`."""
        inside = states >= self.num_nodes
        if (states[~inside] >= 0).any():
            return super().tails(states)
        leaves = self.leaf_ranges(states)[0]
        starts = np.where(inside, states - self.num_nodes, 0)
        counts = np.where(inside, self.arrays.tail_offsets[leaves + 1] - starts, 0)
        places = np.arange(int(counts.max(initial=0)))
        mask = places < counts[:, None]
        rest = np.full(mask.shape, -1, dtype=np.int64)
        rest[mask] = self.arrays.tails[(starts[:, None] + places)[mask]]
        return rest, counts, leaves

    def docids(self, leaves: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Many docids at once; see `DocidTree.docids`."""
        self._check_leaves(leaves)
        return tree_descent.docids_of(self, leaves)

    @cached_property
    def _levels(self) -> npt.NDArray[np.int64]:
        """The first node of every depth; nodes are numbered breadth first."""
        levels, start, stop = [0], 0, 1
        while start < stop:
            edges = self.arrays.edge_targets[self.arrays.child_offsets[start] : self.arrays.child_offsets[stop]]
            start, stop = stop, stop + int(np.count_nonzero((edges > 0) & (edges < self.num_nodes)))
            levels.append(start)
        return np.array(levels[:-1])

    @cached_property
    def _by_number(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.arrays.documents, kind="stable")

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the tree as a folder that `load` maps into memory.

        Raises:
            ArtefactError: something stands there that may not be replaced, or the disk is full.
        """
        tree_file.save_tree(self, path, overwrite=overwrite)

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
        saved = tree_file.load_tree(path, lineage=table.lineage if table is not None else {}, verify=verify)
        tree = cls(saved.arrays, eos_token_id=saved.eos_token_id, lineage=saved.lineage)
        # Known, so that nobody reads all tokens of a tree that is mapped from a file.
        tree.__dict__.update(max_length=saved.max_length, max_token_id=saved.max_token_id)
        return tree
