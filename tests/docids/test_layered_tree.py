"""A tree that changed answers as one built anew from the documents present."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.layered_tree import LayeredTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.tree_descent import locate
from retgen.errors import MismatchError, UsageError
from tests.docids.trees import EOS, check_equal

# Few tokens, so that base and additions share prefixes and whole docids; some large, for 16 and 32 bits together.
bodies = st.lists(st.sampled_from([0, 2, 3, 300, 65_536]), min_size=1, max_size=5).map(lambda body: [*body, EOS])


def tree_of(documents: dict[int, list[int]]) -> PrefixTree:
    offsets = np.cumsum([0, *map(len, documents.values())])
    tokens = np.array([token for docid in documents.values() for token in docid])
    return PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS, numbers=np.array(list(documents)))


@settings(max_examples=300, deadline=None)
@given(
    base=st.lists(bodies, min_size=1, max_size=20),
    added=st.lists(bodies, max_size=12),
    removed=st.sets(st.integers(0, 19)),
)
def test_layers_answer_as_a_tree_built_anew(base: list[list[int]], added: list[list[int]], removed: set[int]) -> None:
    removed = {number for number in removed if number < len(base)}
    more = dict(enumerate(added, start=len(base)))
    tree = LayeredTree(
        PrefixTree.build(base, eos_token_id=EOS),
        removed=np.array(sorted(removed), dtype=np.int64),
        added=tree_of(more) if more else None,
    )
    check_equal(tree, {n: docid for n, docid in enumerate(base) if n not in removed} | more)


@settings(max_examples=100, deadline=None)
@given(docids=st.lists(bodies, min_size=1, max_size=20))
def test_a_plain_tree_passes_the_same_check(docids: list[list[int]]) -> None:
    numbers = {3 * number + 1: docid for number, docid in enumerate(docids)}
    check_equal(tree_of(numbers), numbers)


@settings(max_examples=150, deadline=None)
@given(docids=st.lists(bodies, min_size=1, max_size=20), sought=st.lists(bodies, max_size=10))
def test_where_docids_would_stand(docids: list[list[int]], sought: list[list[int]]) -> None:
    distinct = sorted({tuple(docid) for docid in docids})
    tokens = np.array([token for docid in sought for token in docid], dtype=np.int64)
    ranks, found = locate(PrefixTree.build(docids, eos_token_id=EOS), tokens, np.cumsum([0, *map(len, sought)]))
    assert ranks.tolist() == [sum(other < tuple(docid) for other in distinct) for docid in sought]
    assert found.tolist() == [tuple(docid) in distinct for docid in sought]


def test_a_removed_document_leaves_its_docid_to_others() -> None:
    base = PrefixTree.build([[5, 6, EOS], [5, 6, EOS], [5, 7, EOS]], eos_token_id=EOS)
    assert LayeredTree(base, removed=np.array([0])).documents(0).tolist() == [1]
    tree = LayeredTree(base, removed=np.array([0, 1]))
    assert (tree.num_leaves, tree.documents(0).tolist()) == (1, [2])
    assert tree.leaves_of(np.array([0, 1, 2])).tolist() == [-1, -1, 0]


def test_a_docid_that_went_may_come_back() -> None:
    base = PrefixTree.build([[5, 6, EOS], [5, 7, EOS]], eos_token_id=EOS)
    tree = LayeredTree(base, removed=np.array([0]), added=tree_of({9: [5, 6, EOS]}))
    check_equal(tree, {1: [5, 7, EOS], 9: [5, 6, EOS]})


def test_statistics_count_both_layers() -> None:
    base = PrefixTree.build([[5, 6, EOS], [5, 7, EOS]], eos_token_id=EOS, lineage={"tokenizer": "t", "corpus": "c"})
    tree = LayeredTree(base, removed=np.array([0]), added=tree_of({9: [70_000, EOS]}))
    found = tree.statistics()
    assert (found.documents, found.docids, found.token_bits) == (2, 2, 32)
    assert found.bytes > base.statistics().bytes
    assert "2 documents" in repr(tree)
    assert tree.lineage == {"tokenizer": "t"}  # it is no longer the tree of that corpus


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [([7], None, "number 7 is removed from a tree that lacks it"), ([], {1: [5, EOS]}, "number 1 is added")],
)
def test_layers_that_do_not_fit(removed: list[int], added: dict[int, list[int]] | None, message: str) -> None:
    base = PrefixTree.build([[5, 6, EOS], [5, 7, EOS]], eos_token_id=EOS)
    with pytest.raises(UsageError, match=message):
        LayeredTree(base, removed=np.array(removed), added=tree_of(added) if added else None)


def test_another_end_of_docids_is_refused() -> None:
    base = PrefixTree.build([[5, 6, EOS]], eos_token_id=EOS)
    other = PrefixTree.from_flat(np.array([5, 2]), np.array([0, 2]), eos_token_id=2, numbers=np.array([4]))
    with pytest.raises(MismatchError, match="end with 2"):
        LayeredTree(base, added=other)


@pytest.mark.parametrize("leaf", [-1, 2])
def test_a_leaf_that_is_not_there(leaf: int) -> None:
    tree = LayeredTree(PrefixTree.build([[5, EOS], [6, EOS], [7, EOS]], eos_token_id=EOS), removed=np.array([1]))
    with pytest.raises(UsageError, match=f"leaf {leaf} is not one of the tree's 2 docids"):
        tree.token_ids(leaf)
    with pytest.raises(UsageError, match="not one of"):
        tree.documents(leaf)


def test_several_leaves_have_no_one_tail() -> None:
    tree = PrefixTree.build([[5, 6, EOS], [5, 7, EOS]], eos_token_id=EOS)
    with pytest.raises(UsageError, match="one tail"):
        tree.tails(np.array([tree.root]))
