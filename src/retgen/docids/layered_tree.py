"""A tree that changed: a base, documents removed from it, and a small tree of documents added, seen as one tree.

Nothing of the base is rebuilt or copied. Which documents there are is decided by whoever makes the layers (`live`).

A state stands for a pair: the prefix's state in the base and its state in the added tree, each of which may be missing.
The pair is packed into one integer, ``base · added_places + added``, where the last value of each says that it is
missing; a prefix left with one docid, in whichever of the two, has ``num_nodes`` added to it. So states mean what
`docid_tree` says, and every answer is that of a tree built anew from the documents present.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retgen.docids.docid_tree import DocidTree, TreeStatistics
from retgen.docids.leaf_numbers import LeafNumbers
from retgen.docids.prefix_tree import PrefixTree
from retgen.errors import MismatchError, UsageError

IntArray = npt.NDArray[np.integer]
Int64s = npt.NDArray[np.int64]


class LayeredTree(DocidTree):
    """A base tree without some of its documents, and with others beside them.

    Args:
        base: the tree that was built.
        removed: corpus numbers ``(r,)`` of documents of the base that are no longer there.
        added: the tree of documents added since, by corpus numbers that the base does not have; None where there are
            none.
        lineage: fingerprints of what it now stands for; by default only the base's tokenizer.

    Raises:
        UsageError: a removed document that the base does not have, or an added one that it has.
        MismatchError: the two trees end their docids with different tokens.

    Example:
        >>> base = PrefixTree.build([[5, 7, 1], [5, 1], [6, 1]], eos_token_id=1)
        >>> added = PrefixTree.from_flat(np.array([5, 8, 1]), np.array([0, 3]), eos_token_id=1, numbers=np.array([3]))
        >>> tree = LayeredTree(base, removed=np.array([0, 2]), added=added)
        >>> [tree.token_ids(leaf) for leaf in range(tree.num_leaves)], tree.num_documents
        ([[5, 1], [5, 8, 1]], 2)
    """

    def __init__(
        self,
        base: PrefixTree,
        *,
        removed: IntArray | None = None,
        added: PrefixTree | None = None,
        lineage: dict[str, str] | None = None,
    ) -> None:
        if added is not None and added.eos_token_id != base.eos_token_id:
            raise MismatchError(
                f"added docids end with {added.eos_token_id}, those of the tree with {base.eos_token_id}",
                mend="Make them with the tree's own tokenizer",
            )
        self.base = base
        self.added = added
        self.eos_token_id = base.eos_token_id
        known = {name: value for name, value in base.lineage.items() if name == "tokenizer"}
        self.lineage = dict(known if lineage is None else lineage)
        self._removed = np.unique(np.asarray(removed if removed is not None else (), dtype=np.int64))
        leaves = base.leaves_of(self._removed) if len(self._removed) else self._removed
        if (leaves < 0).any():
            raise UsageError(f"document number {self._removed[leaves < 0][0]} is removed from a tree that lacks it")
        if added is not None and int(added.arrays.documents.min()) <= base.max_number:
            twice = base.leaves_of(added.arrays.documents) >= 0
            if twice.any():
                raise UsageError(f"document number {added.arrays.documents[twice][0]} is added to a tree that has it")
        touched, counts = np.unique(leaves, return_counts=True)
        offsets = base.arrays.document_offsets
        dead = touched[counts == offsets[touched + 1] - offsets[touched]]
        self._numbers = LeafNumbers(base, dead, added)
        # A place in each tree is a state that is not finished, or, last, that the prefix is missing there.
        self._base_missing = base.num_nodes + len(base.arrays.tails)
        self._added_missing = added.num_nodes + len(added.arrays.tails) if added is not None else 0
        self._width = self._added_missing + 1
        self._num_nodes = (self._base_missing + 1) * self._width
        if 2 * self._num_nodes >= 2**63:
            raise UsageError("these trees are too large to be seen as one", mend="Merge the added documents")

    @property
    def num_nodes(self) -> int:
        """The first state that is no node: a bound, not a count (`statistics` counts)."""
        return self._num_nodes

    @property
    def num_leaves(self) -> int:
        """Distinct docids of the documents present."""
        return self._numbers.total

    @property
    def num_documents(self) -> int:
        """Documents present."""
        return self.base.num_documents - len(self._removed) + (self.added.num_documents if self.added else 0)

    @property
    def max_length(self) -> int:
        """No docid has more tokens; one that is removed may have had as many."""
        return max(self.base.max_length, self.added.max_length if self.added else 0)

    @property
    def max_token_id(self) -> int:
        """No docid has a higher token id; one that is removed may have had it."""
        return max(self.base.max_token_id, self.added.max_token_id if self.added else 0)

    def statistics(self) -> TreeStatistics:
        """What the layers hold and take together; removed docids still take their place."""
        layers = [tree.statistics() for tree in (self.base, self.added) if tree is not None]
        return TreeStatistics(
            documents=self.num_documents,
            docids=self.num_leaves,
            nodes=sum(layer.nodes for layer in layers),
            edges=sum(layer.edges for layer in layers),
            tail_tokens=sum(layer.tail_tokens for layer in layers),
            token_bits=max(layer.token_bits for layer in layers),
            max_length=self.max_length,
            bytes=sum(layer.bytes for layer in layers) + self._removed.nbytes + self._numbers.nbytes,
        )

    def documents(self, leaf: int) -> IntArray:
        """Corpus numbers of the documents present whose docid this leaf is, in corpus order."""
        self._check_leaves(np.array([leaf]))
        base, added = (int(part[0]) for part in self._numbers.split(np.array([leaf])))
        parts = []
        if base >= 0:
            found = self.base.documents(base).astype(np.int64)
            parts.append(found[~np.isin(found, self._removed)])
        if added >= 0 and self.added is not None:
            parts.append(self.added.documents(added).astype(np.int64))
        return np.sort(np.concatenate(parts))

    def leaves_of(self, numbers: IntArray) -> Int64s:
        """The leaf of each document ``(n,)``, by corpus numbers ``(n,)``; −1 for those that are not present."""
        numbers = np.asarray(numbers, dtype=np.int64)
        found = self.base.leaves_of(numbers)
        found[np.isin(numbers, self._removed)] = -1
        leaves = np.full(len(numbers), -1, dtype=np.int64)
        leaves[found >= 0] = self._numbers.of_base(found[found >= 0])
        if self.added is not None:
            found = self.added.leaves_of(numbers)
            leaves[found >= 0] = self._numbers.of_added(found[found >= 0])
        return leaves

    def leaf_ranges(self, states: Int64s) -> tuple[Int64s, Int64s]:
        """First leaf below each state ``(n,)``, and one past the last ``(n,)``; they differ by one but at nodes."""
        starts, stops = -1 - states, -states
        inner = states >= 0
        starts[inner], stops[inner] = self._numbers.ranges(*self._unpack(states[inner]))
        return starts, stops

    def depths(self, states: Int64s) -> Int64s:
        """Tokens of each state's prefix ``(n,)``."""
        depths = np.zeros(len(states), dtype=np.int64)
        done = states < 0
        depths[done] = self._lengths(-1 - states[done])
        inner = np.flatnonzero(~done)
        base, added = self._unpack(states[inner])
        depths[inner[base >= 0]] = self.base.depths(base[base >= 0])
        if self.added is not None:
            alone = base < 0
            depths[inner[alone]] = self.added.depths(added[alone])
        return depths

    def expand(self, states: Int64s) -> tuple[IntArray, Int64s, Int64s]:
        """Children of many states laid end to end; see `DocidTree.expand`."""
        inner = np.flatnonzero(states >= 0)
        base, added = self._unpack(states[inner])
        in_tail = (base >= self.base.num_nodes) & (states[inner] >= self._num_nodes)
        in_both = (added >= 0) & ~in_tail
        in_base = ~in_tail & ~in_both
        # Mostly all are in tails: then nothing else is done.
        parts = [self._along_tails(inner[in_tail], base[in_tail])]
        if in_base.any():
            parts.append(self._of_base(inner[in_base], base[in_base]))
        if in_both.any() and self.added is not None:
            parts.append(self._of_both(self.added, inner[in_both], base[in_both], added[in_both]))
        owners, tokens, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(parts) > 1:
            order = np.argsort(owners, kind="stable")
            owners, tokens, targets = owners[order], tokens[order], targets[order]
        return tokens, targets, np.bincount(owners, minlength=len(states))

    def tails(self, states: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """What follows prefixes that one docid each has; see `DocidTree.tails`."""
        base, added = self._unpack(np.where(states >= self._num_nodes, states, self._num_nodes))
        for tree, places in ((self.base, base), (self.added, added)):
            # Mostly all of them are inside the tails of one tree; else the docids are read off their paths.
            if tree is not None and (places >= tree.num_nodes).all() and (tree is self.base or (base < 0).all()):
                rest, counts, _ = tree.tails(places)
                return rest, counts, self.leaf_ranges(states)[0]
        return super().tails(states)

    def docids(self, leaves: Int64s) -> tuple[Int64s, Int64s]:
        """Many docids at once; see `DocidTree.docids`."""
        self._check_leaves(leaves)
        base, added = self._numbers.split(leaves)
        from_base = base >= 0
        rows, lengths = self.base.docids(base[from_base])
        if self.added is None:
            return rows, lengths
        more, more_lengths = self.added.docids(added[~from_base])
        both = np.full((len(leaves), max(rows.shape[1], more.shape[1])), -1, dtype=np.int64)
        both[from_base, : rows.shape[1]], both[~from_base, : more.shape[1]] = rows, more
        counts = np.zeros(len(leaves), dtype=np.int64)
        counts[from_base], counts[~from_base] = lengths, more_lengths
        return both, counts

    def _lengths(self, leaves: Int64s) -> Int64s:
        base, added = self._numbers.split(leaves)
        lengths = self.base.arrays.leaf_length[base].astype(np.int64)
        if self.added is not None:
            alone = base < 0
            lengths[alone] = self.added.arrays.leaf_length[added[alone]]
        return lengths

    def _unpack(self, states: Int64s) -> tuple[Int64s, Int64s]:
        """States in the base and in the added tree, −1 where the prefix is missing, of states that are not finished."""
        base, added = np.divmod(np.where(states >= self._num_nodes, states - self._num_nodes, states), self._width)
        return np.where(base == self._base_missing, -1, base), np.where(added == self._added_missing, -1, added)

    def _along_tails(self, owners: Int64s, states: Int64s) -> tuple[Int64s, IntArray, Int64s]:
        """Children of prefixes that a living docid of the base has alone: whose they are, tokens and states."""
        tokens, targets, _ = self.base.expand(states)
        following = targets * self._width + self._added_missing + self._num_nodes
        ended = targets < 0
        following[ended] = -1 - self._numbers.of_base(-1 - targets[ended])
        return owners, tokens, following

    def _of_base(self, owners: Int64s, states: Int64s) -> tuple[Int64s, IntArray, Int64s]:
        """Children of prefixes that no added docid has."""
        owners, tokens, targets, living = self._living_children(owners, states)
        following = targets * self._width + self._added_missing
        following[living == 1] += self._num_nodes
        ended = targets < 0
        following[ended] = -1 - self._numbers.of_base(-1 - targets[ended])
        return owners, tokens, following

    def _of_both(
        self, tree: PrefixTree, owners: Int64s, base: Int64s, added: Int64s
    ) -> tuple[Int64s, IntArray, Int64s]:
        """Children of prefixes that added docids, those of ``tree``, have, and perhaps the base."""
        more_tokens, more_targets, counts = tree.expand(added)
        found, tokens, targets, _ = self._living_children(owners[base >= 0], base[base >= 0])
        owners = np.concatenate([found, np.repeat(owners, counts)])
        tokens = np.concatenate([tokens, more_tokens])
        # What both trees have stands once, with both its targets.
        order = np.lexsort((tokens, owners))
        beside = np.concatenate([np.full(len(targets), _MISSING), more_targets])[order]
        targets = np.concatenate([targets, np.full(len(more_targets), _MISSING)])[order]
        owners, tokens = owners[order], tokens[order]
        again = np.zeros(len(owners), dtype=bool)
        again[1:] = (owners[1:] == owners[:-1]) & (tokens[1:] == tokens[:-1])
        beside[np.flatnonzero(again) - 1] = beside[again]
        return owners[~again], tokens[~again], self._pack(targets[~again], beside[~again])

    def _living_children(self, owners: Int64s, states: Int64s) -> tuple[Int64s, IntArray, Int64s, Int64s]:
        """Children in the base that have documents left: whose they are, tokens, states, and living docids below."""
        tokens, targets, counts = self.base.expand(states)
        owners = np.repeat(owners, counts)
        if not self._numbers.any_dead:
            # One docid or several is all that is asked.
            return owners, tokens, targets, np.where((targets >= 0) & (targets < self.base.num_nodes), 2, 1)
        living = self._numbers.living(targets)
        alive = living > 0
        return owners[alive], tokens[alive], targets[alive], living[alive]

    def _pack(self, base: Int64s, added: Int64s) -> Int64s:
        """States of children, from their states in both trees, of which one at least is there."""
        packed = np.where(base >= 0, base, self._base_missing) * self._width
        packed += np.where(added >= 0, added, self._added_missing)
        ended = ((base < 0) & (base > _MISSING)) | ((added < 0) & (added > _MISSING))
        starts, stops = self._numbers.ranges(np.where(base >= 0, base, -1), np.where(added >= 0, added, -1))
        packed[stops - starts == 1] += self._num_nodes
        packed[ended] = -1 - self._finished(base[ended], added[ended])
        return packed

    def _finished(self, base: Int64s, added: Int64s) -> Int64s:
        leaves = np.zeros(len(base), dtype=np.int64)
        in_base = base > _MISSING
        leaves[in_base] = self._numbers.of_base(-1 - base[in_base])
        leaves[~in_base] = self._numbers.of_added(-1 - added[~in_base])
        return leaves


_MISSING = np.iinfo(np.int64).min
"""Stands, among a child's states, for a tree that does not have the child."""
