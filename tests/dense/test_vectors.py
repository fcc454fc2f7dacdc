"""A vector index of any kind finds what comparing every vector finds, before and after it changed and was saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retgen.dense.kinds import NAMES, IndexKind
from retgen.dense.vectors import FloatRows, VectorIndex
from retgen.errors import ArtefactError, UsageError

pytest.importorskip("faiss")
SIZE, WIDTH = 1200, 32


def vectors(number: int = SIZE, seed: int = 0) -> FloatRows:
    """Of length 1, in two dozen bunches, as embeddings are."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((24, WIDTH))
    rows = centres[chance.integers(0, 24, number)] + 0.7 * chance.standard_normal((number, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def built(name: str, rows: FloatRows) -> VectorIndex:
    return VectorIndex.build(iter([rows[:500], rows[500:]]), IndexKind.parse(name))


def best(rows: FloatRows, query: FloatRows, k: int) -> list[int]:
    scores = rows.astype(np.float64) @ query.astype(np.float64)
    return list(np.lexsort((np.arange(len(rows)), -scores))[:k])


def recall(index: VectorIndex, rows: FloatRows, queries: FloatRows, k: int = 10) -> float:
    shared = [len({*index.nearest(query, k)[0].tolist()} & {*best(rows, query, k)}) for query in queries]
    return sum(shared) / (k * len(queries))


@pytest.mark.parametrize(("name", "least"), [("flat", 1.0), ("hnsw", 0.97), ("ivf-pq:code_bytes=16", 0.6)])
def test_it_finds_what_comparing_all_finds(name: str, least: float) -> None:
    rows, queries = vectors(), vectors(40, seed=1)
    index = built(name, rows)
    assert len(index) == SIZE
    assert recall(index, rows, queries) >= least
    positions, scores = index.nearest_of_many(queries, 10)
    assert positions.shape == scores.shape == (40, 10)
    shared = [len({*row.tolist()} & {*best(rows, query, 10)}) for row, query in zip(positions, queries, strict=True)]
    assert sum(shared) / 400 >= least - 0.02


@pytest.mark.parametrize("name", NAMES)
def test_there_are_always_as_many_hits_as_can_be(name: str) -> None:
    rows = vectors()
    index = built(name, rows)
    for k in (1, 7, SIZE, SIZE + 5):
        positions, scores = index.nearest(rows[3], k)
        assert len(set(positions.tolist())) == len(scores) == min(k, SIZE)
        assert (np.diff(scores) <= 0).all()
    few = np.array([4, 900, 901], dtype=np.int64)
    assert set(index.nearest(rows[3], 10, only=few)[0].tolist()) == {4, 900, 901}
    assert len(index.nearest(rows[3], 10, only=np.zeros(0, dtype=np.int64))[0]) == 0


@pytest.mark.parametrize("name", ["flat", "hnsw"])
def test_equal_vectors_stand_in_order_and_a_restriction_is_exact(name: str) -> None:
    rows = vectors()
    rows[[7, 300, 301, 302, 1100]] = rows[5]
    index = built(name, rows)
    assert index.nearest(rows[5], 4)[0].tolist() == [5, 7, 300, 301]
    every_third = np.arange(0, SIZE, 3, dtype=np.int64)
    for query in vectors(10, seed=2):
        found = index.nearest(query, 8, only=every_third)[0].tolist()
        assert found == [int(every_third[place]) for place in best(rows[every_third], query, 8)]


def test_codes_hold_more_than_chance_and_more_bytes_hold_more() -> None:
    rows, queries = vectors(), vectors(40, seed=1)
    found = [recall(built(f"ivf-pq:cells=8,probes=8,code_bytes={size}", rows), rows, queries) for size in (1, 4, 16)]
    assert found[0] > 10 * 10 / SIZE
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reopened", [False, True])
def test_vectors_come_and_go(name: str, reopened: bool, tmp_path: Path) -> None:
    rows, more = vectors(), vectors(60, seed=3)
    index = built(name, rows)
    if reopened:
        index.save(tmp_path)
        index = VectorIndex.open(tmp_path, index.kind)
    gone = np.array([0, 5, 6, 700, SIZE - 1], dtype=np.int64)
    left = np.delete(rows, gone, axis=0)
    least = 0.5 if name == "ivf-pq" else 0.95
    index.remove(gone)
    assert len(index) == len(left)
    assert recall(index, left, vectors(20, seed=4)) >= least
    assert len(index.nearest(rows[5], SIZE)[0]) == len(left)
    index.add(more)
    now = np.concatenate([left, more])
    assert len(index) == len(now)
    assert recall(index, now, vectors(20, seed=4)) >= least
    # What was added last is found by itself, and gone again by its own position.
    assert index.nearest(more[-1], 1)[0].tolist() == [len(now) - 1]
    index.remove(np.array([len(now) - 1], dtype=np.int64))
    assert index.nearest(more[-1], len(now))[0].max() == len(now) - 2
    (tmp_path / "again").mkdir()
    index.save(tmp_path / "again")
    again = VectorIndex.open(tmp_path / "again", index.kind)
    for query in vectors(5, seed=5):
        assert again.nearest(query, 9)[0].tolist() == index.nearest(query, 9)[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_an_opened_index_is_the_saved_one_and_is_mapped(name: str, tmp_path: Path) -> None:
    index = built(name, vectors())
    index.save(tmp_path)
    for mmap in (True, False):
        opened = VectorIndex.open(tmp_path, index.kind, mmap=mmap)
        for query in vectors(5, seed=5):
            for one, other in zip(opened.nearest(query, 9), index.nearest(query, 9), strict=True):
                np.testing.assert_array_equal(one, other)
        if Path("/proc/self/maps").exists():
            assert (str(tmp_path / "index.faiss") in Path("/proc/self/maps").read_text()) == mmap
        del opened


def test_a_torn_or_foreign_file_is_refused(tmp_path: Path) -> None:
    index = built("flat", vectors())
    index.save(tmp_path)
    with pytest.raises(ArtefactError, match="torn"):
        VectorIndex.open(tmp_path, IndexKind("hnsw"))
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(ArtefactError, match="torn"):
        VectorIndex.open(tmp_path, index.kind)
    whole = (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "index.faiss").write_bytes(whole[: len(whole) // 2])
    for mmap in (True, False):
        with pytest.raises(ArtefactError, match="torn"):
            VectorIndex.open(tmp_path, index.kind, mmap=mmap)


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(UsageError, match="no vector"):
        VectorIndex.build([], IndexKind())
    with pytest.raises(UsageError, match="at least 256"):
        VectorIndex.build([vectors(100)], IndexKind("ivf-pq"))
    with pytest.raises(UsageError, match="dimension 32"):
        VectorIndex.build([vectors()], IndexKind("ivf-pq", code_bytes=5))
    with pytest.raises(UsageError, match="dimension 32"):
        built("flat", vectors()).add(np.zeros((2, 8), dtype=np.float32))


@pytest.mark.parametrize("text", ["ivf", "hnsw:depth", "hnsw:depth=x", "flat:depth=9", "hnsw:depth=0", "hnsw:cells=3"])
def test_kinds_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        IndexKind.parse(text)


def test_nothing_is_printed() -> None:
    # faiss warns on its own standard output where it has too few vectors to learn from.
    code = (
        "import numpy as np\n"
        "from retgen.dense.kinds import IndexKind\n"
        "from retgen.dense.vectors import VectorIndex\n"
        "rows = np.random.default_rng(0).standard_normal((300, 8)).astype('float32')\n"
        "VectorIndex.build([rows], IndexKind('ivf-pq')).nearest(rows[0], 5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
