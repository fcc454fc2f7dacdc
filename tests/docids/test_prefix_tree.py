"""The prefix tree holds exactly the docids it was given, and survives the disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen import store
from retgen.docids.prefix_tree import PrefixTree
from retgen.errors import ArtefactError, UsageError
from tests.docids.naive import EOS, dict_trie, random_docids

# Few tokens, so that prefixes and duplicates are common; some large, for the byte order of the sort.
bodies = st.lists(st.sampled_from([0, 2, 3, 255, 256, 511, 65_535, 65_536, 2**20]), min_size=1, max_size=6)
docid_lists = st.lists(bodies.map(lambda body: [*body, EOS]), min_size=1, max_size=40)


def walk(tree: PrefixTree) -> dict[tuple[int, ...], tuple[list[int], int]]:
    """Prefix → the tokens that may follow, and the state it stands for."""
    found = {}
    stack = [((), tree.root)]
    while stack:
        prefix, state = stack.pop()
        tokens, targets = tree.children(state)
        found[prefix] = (tokens.tolist(), state)
        stack += [((*prefix, int(token)), int(target)) for token, target in zip(tokens, targets, strict=True)]
    return found


@settings(max_examples=150, deadline=None)
@given(docids=docid_lists)
def test_children_are_those_of_a_dict_trie(docids: list[list[int]]) -> None:
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    found = walk(tree)
    assert {prefix: tokens for prefix, (tokens, _) in found.items() if tokens} == dict_trie(docids)
    # Every path that ends is a docid, every docid a path, and a finished docid has no children.
    assert {prefix for prefix, (tokens, state) in found.items() if state < 0} == {tuple(docid) for docid in docids}
    assert all(not tokens for tokens, state in found.values() if state < 0)
    # A state is one integer, and no two prefixes share it.
    assert len({state for _, state in found.values()}) == len(found)


@settings(max_examples=100, deadline=None)
@given(docids=docid_lists)
def test_leaves_are_the_sorted_docids_and_states_their_ranges(docids: list[list[int]]) -> None:
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    distinct = sorted({tuple(docid) for docid in docids})
    assert [tuple(tree.token_ids(leaf)) for leaf in range(tree.num_leaves)] == distinct
    for leaf, docid in enumerate(distinct):
        assert tree.documents(leaf).tolist() == [n for n, other in enumerate(docids) if tuple(other) == docid]
    assert tree.num_documents == len(docids)
    assert tree.max_length == max(map(len, docids))
    assert tree.max_token_id == max(max(docid) for docid in docids)
    found = walk(tree)
    starts, stops = tree.leaf_ranges(np.array([state for _, state in found.values()]))
    for prefix, start, stop in zip(found, starts, stops, strict=True):
        below = [leaf for leaf, docid in enumerate(distinct) if docid[: len(prefix)] == prefix]
        assert (start, stop) == (below[0], below[-1] + 1)


@settings(max_examples=100, deadline=None)
@given(docids=docid_lists)
def test_only_branching_prefixes_are_nodes(docids: list[list[int]]) -> None:
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    distinct = {tuple(docid) for docid in docids}
    shared = {d[:n] for d in distinct for n in range(len(d)) if sum(o[:n] == d[:n] for o in distinct) > 1}
    assert tree.num_nodes == len(shared | {()})


@settings(max_examples=60, deadline=None)
@given(docids=docid_lists, seed=st.integers(0, 999))
def test_many_states_at_once_give_what_each_gives(docids: list[list[int]], seed: int) -> None:
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    states = np.array([state for _, state in walk(tree).values()])
    states = np.random.default_rng(seed).choice(states, size=12)
    tokens, targets, mask = tree.children_padded(states)
    flat_tokens, flat_targets, counts = tree.expand(states)
    assert tokens.shape == targets.shape == mask.shape == (12, counts.max(initial=0))
    assert flat_tokens.tolist() == tokens[mask].tolist()
    assert flat_targets.tolist() == targets[mask].tolist()
    for row, state in enumerate(states):
        one_tokens, one_targets = tree.children(int(state))
        assert tokens[row, mask[row]].tolist() == one_tokens.tolist()
        assert targets[row, mask[row]].tolist() == one_targets.tolist()


def test_no_states_have_no_children() -> None:
    tree = PrefixTree.build([[3, EOS]], eos_token_id=EOS)
    assert [len(part) for part in tree.expand(np.zeros(0, dtype=np.int64))] == [0, 0, 0]


def test_order_of_documents_does_not_change_the_tree() -> None:
    rng = np.random.default_rng(0)
    docids = random_docids(rng, 60, vocab=30)
    order = rng.permutation(60)
    one = PrefixTree.build(docids, eos_token_id=EOS)
    other = PrefixTree.build([docids[n] for n in order], eos_token_id=EOS)
    for name, array in one.arrays._asdict().items():
        if name != "documents":
            assert np.array_equal(array, getattr(other.arrays, name)), name
    for leaf in range(one.num_leaves):
        assert sorted(order[other.documents(leaf)]) == one.documents(leaf).tolist()


@pytest.mark.parametrize("like_words", [False, True])
def test_at_21_tokens_a_document_takes_64_bytes_at_most(like_words: bool) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.random((20_000, 20))
    tokens = 2 + (np.exp(drawn * np.log(30_000)) if like_words else drawn * 30_000).astype(np.int64)
    rows = np.concatenate([tokens, np.full((len(tokens), 1), EOS)], axis=1)
    offsets = np.arange(len(rows) + 1) * 21
    tree = PrefixTree.from_flat(rows.reshape(-1), offsets, eos_token_id=EOS)
    assert tree.token_bits == 16
    assert tree.bytes_per_document <= 64
    wide = PrefixTree.from_flat(np.where(rows == rows.max(), 70_000, rows).reshape(-1), offsets, eos_token_id=EOS)
    assert wide.token_bits == 32
    assert "32-bit tokens" in repr(wide)
    assert wide.bytes_per_document > tree.bytes_per_document


def test_building_needs_little_beside_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks as small, beside this collection, as they are beside ten million documents.
    monkeypatch.setattr("retgen.docids.tree_build._BLOCK", 2**9)
    monkeypatch.setattr("retgen.docids.tree_sort._BLOCK", 2**12)
    rng = np.random.default_rng(0)
    rows = rng.integers(2, 30_000, size=(50_000, 21)).astype(np.uint16)
    rows[:, -1] = EOS
    offsets = np.arange(len(rows) + 1) * 21
    tracemalloc.start()
    tree = PrefixTree.from_flat(rows.reshape(-1), offsets, eos_token_id=EOS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Rows of equal length would take 84 bytes a document, several times over.
    assert peak / len(rows) - tree.bytes_per_document < 150


@pytest.mark.parametrize(
    ("docids", "message"),
    [
        ([], "at least one docid"),
        ([[3, EOS], []], "number 1 has an empty docid"),
        ([[3, EOS], [3, 4]], "number 1 does not end with EOS"),
        ([[3, EOS], [3, EOS, 4, EOS]], "number 1 has EOS .* before its end"),
        ([[-1, EOS]], "negative token"),
        ([[2**31, EOS]], "token id 2147483648; the highest"),
    ],
)
def test_docids_that_make_no_tree(docids: list[list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PrefixTree.build(docids, eos_token_id=EOS)


def test_numbers_of_documents_rise() -> None:
    tokens, offsets = np.array([5, EOS, 6, EOS]), np.array([0, 2, 4])
    tree = PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS, numbers=np.array([3, 9]))
    assert [tree.documents(leaf).tolist() for leaf in range(2)] == [[3], [9]]
    for numbers in ([9, 3], [3, 3], [3]):
        with pytest.raises(UsageError, match="must rise"):
            PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS, numbers=np.array(numbers))
    with pytest.raises(UsageError, match="there are 4 tokens"):
        PrefixTree.from_flat(tokens, offsets[:2], eos_token_id=EOS)


def test_a_leaf_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="leaf 1 is not one of the tree's 1 docids"):
        PrefixTree.build([[3, EOS]], eos_token_id=EOS).token_ids(1)


@settings(max_examples=25, deadline=None)
@given(docids=docid_lists)
def test_round_trip_over_the_disk(docids: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tree") / "tree"
    tree = PrefixTree.build(docids, eos_token_id=EOS, lineage={"docids": "x"})
    tree.save(path)
    loaded = PrefixTree.load(path, verify=True)
    assert (loaded.eos_token_id, loaded.lineage) == (EOS, {"docids": "x"})
    for name, array in tree.arrays._asdict().items():
        assert np.array_equal(array, getattr(loaded.arrays, name)), name
    assert walk(loaded) == walk(tree)
    assert loaded.statistics() == tree.statistics()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    PrefixTree.build(random_docids(np.random.default_rng(0), 30, vocab=30), eos_token_id=EOS).save(path)
    return path


@pytest.mark.parametrize("name", ["tails", "edge_targets", "documents"])
def test_a_torn_file_is_refused(saved: Path, name: str) -> None:
    file = saved / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ArtefactError):
        PrefixTree.load(saved)


def test_a_changed_byte_is_found_when_asked(saved: Path) -> None:
    file = saved / "tails.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtefactError):
        PrefixTree.load(saved, verify=True)


def test_a_missing_file_and_another_kind_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "leaf_start.npy").unlink()
    with pytest.raises(ArtefactError):
        PrefixTree.load(saved)
    with store.create(tmp_path / "corpus", kind="corpus") as staging:
        (staging / "x").write_text("x")
    with pytest.raises(ArtefactError, match="corpus"):
        PrefixTree.load(tmp_path / "corpus")


def test_a_manifest_without_what_a_tree_needs_is_refused(tmp_path: Path) -> None:
    with store.create(tmp_path / "tree", kind="docid-tree", made_by={"eos_token_id": 1}) as staging:
        (staging / "x").write_text("x")
    with pytest.raises(ArtefactError, match="lacks what a tree needs"):
        PrefixTree.load(tmp_path / "tree")


def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    tree = PrefixTree.build([[3, EOS], [4, EOS]], eos_token_id=EOS)
    arrays = tree.arrays._replace(edge_tokens=tree.arrays.edge_tokens[:1])
    PrefixTree(arrays, eos_token_id=EOS).save(tmp_path / "tree")
    with pytest.raises(ArtefactError, match="do not fit together"):
        PrefixTree.load(tmp_path / "tree")
