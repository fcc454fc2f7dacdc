"""Vectors in a faiss index: built block by block, searched, changed, saved and memory-mapped. No texts, no models.

Vectors are known by their positions, from 0 in the order they were added, without gaps. Within faiss they have labels,
which stay what they are when others go.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retgen.dense.kinds import CENTROIDS, FLAT, HNSW, IVF_PQ, IndexKind
from retgen.errors import ArtefactError, MissingExtraError, UsageError

FloatRows = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
_INDEX, _LABELS = "index.faiss", "labels.npy"
_LEARNT_FROM = 256
"""Vectors for each centroid that codes are learnt from, at most: faiss would take no more."""


class VectorIndex:
    """Finds the vectors with the highest inner product. Make one with `build` or `open`.

    Every search gives ``min(k, vectors)`` results, best first, equal scores by position. ``flat`` and, under a
    restriction, ``hnsw`` are exact; ``ivf-pq`` scores by its codes.
    """

    def __init__(self, index: Any, kind: IndexKind, labels: Positions, *, mapped: bool = False) -> None:
        self.kind = kind
        self._index = index
        self._labels = labels
        self._mapped = mapped

    @classmethod
    def build(cls, blocks: Iterable[FloatRows], kind: IndexKind) -> VectorIndex:
        """An index over blocks of rows, each ``(n, d)`` float32, read once.

        Memory grows with the index, not with the vectors: codes are learnt from vectors kept on disk meanwhile.

        Raises:
            UsageError: no vectors, too few to learn codes from, or a setting that does not suit them.
        """
        stream = iter(blocks)
        first = next(stream, None)
        if first is None or not len(first):
            raise UsageError("there is no vector to index")
        stream = itertools.chain([first], stream)
        make = _coded if kind.name == IVF_PQ else _graph if kind.name == HNSW else _flat
        index = make(stream, first.shape[1], kind)
        return cls(index, kind, np.arange(index.ntotal, dtype=np.int64))

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self._index.d)

    def __len__(self) -> int:
        return len(self._labels)

    def nearest(self, query: FloatRows, k: int, *, only: Positions | None = None) -> tuple[Positions, Scores]:
        """Positions and scores of the best ``k`` vectors for one query.

        Args:
            query: ``(d,)``.
            k: at least 1.
            only: the positions that may be found, rising; None allows all.
        """
        allowed = self._labels if only is None else self._labels[only]
        wanted = min(k, len(allowed))
        if not wanted:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        whole = only is None and len(self._labels) == self._index.ntotal
        selector = None if whole else _faiss().IDSelectorBatch(allowed)
        row = np.ascontiguousarray(query[None], dtype=np.float32)

        def ask(depth: int) -> tuple[FloatRows, Positions]:
            if self.kind.name == IVF_PQ:
                return self._probed(row, depth, selector)
            if self.kind.name == HNSW and only is None:
                values, labels = self._walked(row, depth, selector)
                if len(labels) == depth:
                    return values, labels
            return self._compared(row, depth, selector)

        values, labels = _clear_of_ties(ask, wanted, len(allowed))
        return np.searchsorted(self._labels, labels), values

    def nearest_of_many(self, queries: FloatRows, k: int) -> tuple[Positions, Scores]:
        """Positions and scores, each ``(n, k)``, for many queries at once; position −1 where fewer were found.

        Faster than `nearest` one by one. Scores may differ in the last digit and equal ones stand in any order, so this
        is for candidates, not for results.
        """
        whole = len(self._labels) == self._index.ntotal
        selector = None if whole else _faiss().IDSelectorBatch(self._labels)
        depth = min(k, len(self))
        values, labels = self._index.search(
            np.ascontiguousarray(queries, dtype=np.float32), depth, params=self._parameters(depth, selector)
        )
        positions = np.where(labels < 0, -1, np.searchsorted(self._labels, labels))
        return positions, values.astype(np.float64)

    def add(self, rows: FloatRows) -> None:
        """Add vectors ``(n, d)`` at the end. Cells and codes stay those that were learnt first.

        Raises:
            UsageError: their dimension is another.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise UsageError(f"this index holds vectors of dimension {self.dimension}, not of shape {rows.shape}")
        self._make_changeable()
        # A graph keeps what was removed, and numbers what is added behind it.
        after = int(self._labels[-1]) + 1 if len(self._labels) else 0
        start = int(self._index.ntotal) if self.kind.name == HNSW else after
        new = np.arange(start, start + len(rows), dtype=np.int64)
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        if self.kind.name == IVF_PQ:
            self._index.add_with_ids(rows, new)
        else:
            self._index.add(rows)
        self._labels = np.concatenate([self._labels, new])

    def remove(self, positions: Positions) -> None:
        """Take vectors out; those behind them move up.

        A graph keeps them as waypoints that no search returns, until it is built anew.
        """
        self._make_changeable()
        gone = np.unique(np.asarray(positions, dtype=np.int64))
        if self.kind.name != HNSW:
            self._index.remove_ids(self._labels[gone])
        self._labels = np.delete(self._labels, gone)
        if self.kind.name == FLAT:  # faiss closes the gaps itself
            self._labels = np.arange(len(self._labels), dtype=np.int64)

    def save(self, folder: Path) -> None:
        """Write the index's files into a folder."""
        _faiss().write_index(self._index, str(folder / _INDEX))
        np.save(folder / _LABELS, self._labels)

    @classmethod
    def open(cls, folder: Path, kind: IndexKind, *, mmap: bool = True) -> VectorIndex:
        """Open what `save` wrote; with ``mmap`` vectors and codes are read from disk as searches touch them.

        Raises:
            ArtefactError: the files cannot be read, or do not fit each other.
        """
        faiss = _faiss()
        torn = ArtefactError("this dense index is torn", where=folder, mend="Build it again")
        try:
            index = faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP_IFC if mmap else 0)
            labels = np.load(folder / _LABELS, mmap_mode="r" if mmap else None, allow_pickle=False)
        except (RuntimeError, OSError, ValueError, EOFError) as error:
            raise torn from error
        kept = len(labels) <= index.ntotal if kind.name == HNSW else len(labels) == index.ntotal
        if labels.ndim != 1 or labels.dtype != np.int64 or not kept or not isinstance(index, _class_of(kind)):
            raise torn
        return cls(index, kind, labels, mapped=mmap)

    def _make_changeable(self) -> None:
        # faiss ends the process when a mapped index is changed.
        if self._mapped:
            faiss = _faiss()
            self._index = faiss.deserialize_index(faiss.serialize_index(self._index))
            self._mapped = False

    def _compared(self, row: FloatRows, depth: int, selector: Any) -> tuple[FloatRows, Positions]:
        """Every allowed vector compared."""
        faiss = _faiss()
        vectors = faiss.downcast_index(self._index.storage) if self.kind.name == HNSW else self._index
        values, labels = vectors.search(row, depth, params=faiss.SearchParameters(sel=selector) if selector else None)
        return values[0], labels[0]

    def _walked(self, row: FloatRows, depth: int, selector: Any) -> tuple[FloatRows, Positions]:
        """What a walk through the graph finds: perhaps fewer than asked for."""
        values, labels = self._index.search(row, depth, params=self._parameters(depth, selector))
        found = labels[0] >= 0
        return values[0][found], labels[0][found]

    def _probed(self, row: FloatRows, depth: int, selector: Any) -> tuple[FloatRows, Positions]:
        """What the nearest cells hold; more cells while they hold too little."""
        probes = self.kind.probes_for(self._index.nlist)
        while True:
            parameters = self._parameters(depth, selector, probes)
            values, labels = self._index.search(row, depth, params=parameters)
            found = labels[0] >= 0
            if found.all() or probes >= self._index.nlist:
                return values[0][found], labels[0][found]
            probes = min(self._index.nlist, 2 * probes)

    def _parameters(self, depth: int, selector: Any, probes: int | None = None) -> Any:
        faiss = _faiss()
        if self.kind.name == IVF_PQ:
            parameters = faiss.SearchParametersIVF(nprobe=probes or self.kind.probes_for(self._index.nlist))
        elif self.kind.name == HNSW:
            parameters = faiss.SearchParametersHNSW(efSearch=max(depth, self.kind.depth))
        else:
            parameters = faiss.SearchParameters()
        if selector is not None:
            parameters.sel = selector
        return parameters


def _clear_of_ties(
    ask: Callable[[int], tuple[FloatRows, Positions]], wanted: int, most: int
) -> tuple[Scores, Positions]:
    """The best ``wanted``, equal scores by label.

    faiss keeps any of several equal scores: look deeper until the last one wanted stands clear of what was left out.
    """
    depth = min(most, wanted + 1)
    while True:
        values, labels = ask(depth)
        if depth == most or len(values) < wanted or values[wanted - 1] > values[-1]:
            break
        depth = min(most, depth * 2)
    order = np.lexsort((labels, -values))[:wanted]
    return values[order].astype(np.float64), labels[order].astype(np.int64)


def _flat(blocks: Iterable[FloatRows], dimension: int, kind: IndexKind) -> Any:
    index = _faiss().IndexFlatIP(dimension)
    for rows in blocks:
        index.add(rows)
    return index


def _graph(blocks: Iterable[FloatRows], dimension: int, kind: IndexKind) -> Any:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(dimension, kind.neighbours, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = kind.construction
    for rows in blocks:
        index.add(rows)
    return index


def _coded(blocks: Iterable[FloatRows], dimension: int, kind: IndexKind) -> Any:
    faiss = _faiss()
    code_bytes = kind.code_bytes_for(dimension)
    with tempfile.TemporaryFile(prefix="retgen-vectors-") as spool:
        total = 0
        for rows in blocks:
            spool.write(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
            total += len(rows)
        spool.flush()
        cells = kind.cells_for(total)
        least = max(CENTROIDS, cells)
        if total < least:
            raise UsageError(
                f"{IVF_PQ} learns its cells and codes from the vectors and needs at least {least}; there are {total}",
                mend=f"Use {FLAT}: so few are compared at once",
            )
        vectors = np.memmap(spool, dtype=np.float32, mode="r", shape=(total, dimension))
        index = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(dimension), dimension, cells, code_bytes, 8, faiss.METRIC_INNER_PRODUCT
        )
        for clustering in (index.cp, index.pq.cp):
            clustering.min_points_per_centroid = 1  # faiss would print a warning
        few = min(total, _LEARNT_FROM * least)
        chosen = np.sort(np.random.default_rng(0).choice(total, few, replace=False))
        index.train(np.ascontiguousarray(vectors[chosen]))
        for start in range(0, total, 65_536):
            index.add(np.ascontiguousarray(vectors[start : start + 65_536]))
        del vectors
    return index


def _class_of(kind: IndexKind) -> Any:
    faiss = _faiss()
    return {FLAT: faiss.IndexFlatIP, HNSW: faiss.IndexHNSWFlat, IVF_PQ: faiss.IndexIVFPQ}[kind.name]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "dense") from error
    return faiss
